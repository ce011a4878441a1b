"""The code lists of MDACE's inpatient charts: the ICD-10-CM codes of each chart, and how often each was annotated.

MDACE (Cheng et al., ACL 2023; MIT licence, see resources/LICENSE-MDACE) publishes annotations without note text. Only
codes and counts are kept here. `read_charts` reads them; the command rebuilds the resource:

    python -m study.charts MDACE_FOLDER

deviates: a code that later releases subdivided is replaced by the billable FY2027 code with the same meaning
(SUCCESSORS; "unspecified" where the chart says no more). Three codes that are not in the code set are dropped.

Read next: notes.py.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from minscl.command import run_command
from minscl.errors import InputError
from minscl.files import replace_file

CHARTS = Path(__file__).parent / "resources" / "mdace_charts.json"
SPLITS = ("train", "val", "test")
SUCCESSORS = {
    "B37.3": "B37.31",
    "D75.82": "D75.829",
    "E34.3": "E34.30",
    "E87.2": "E87.20",
    "E88.1": "E88.10",
    "F02.81": "F02.818",
    "F03.91": "F03.918",
    "G20": "G20.A1",
    "G35": "G35.D",
    "G90.51": "G90.519",
    "I24.8": "I24.89",
    "I42.8": "I42.89",
    "I47.1": "I47.10",
    "I47.2": "I47.20",
    "I49.8": "I49.89",
    "I71.2": "I71.20",
    "I71.3": "I71.30",
    "I71.4": "I71.40",
    "I71.6": "I71.60",
    "K60.3": "K60.30",
    "K83.0": "K83.09",
    "M54.5": "M54.50",
    "N18.3": "N18.30",
    "Q21.1": "Q21.10",
    "R05": "R05.9",
    "Z91.14": "Z91.148",
    "Z91.19": "Z91.199",
}
NOT_IN_TREE = frozenset({"T81.4XXA", "V29.49XA", "V29.9XXA"})


@dataclass(frozen=True)
class Chart:
    """One chart: `codes` are billable FY2027 codes with the number of annotations each had, in code order."""

    id: str
    codes: tuple[tuple[str, int], ...]


def read_charts(split: str) -> list[Chart]:
    """The charts of "train", "val" or "test" (MDACE's MDace-ev split). Raises InputError for another split."""
    if split not in SPLITS:
        raise InputError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    charts = []
    for record in json.loads(CHARTS.read_text())[split]:
        counts = Counter()
        for code, count in record["codes"].items():
            if code not in NOT_IN_TREE:
                counts[SUCCESSORS.get(code, code)] += count
        charts.append(Chart(record["id"], tuple(sorted(counts.items()))))
    return charts


def build(folder: Path, out: Path = CHARTS) -> None:
    """Count the ICD-10-CM annotations of every chart of the inpatient MDace-ev splits below `folder`; write `out`."""
    result = {}
    for split in SPLITS:
        listing = folder / "splits" / "Inpatient" / f"MDace-ev-{split}.csv"
        if not listing.is_file():
            raise InputError(f"{listing}: no such file; give the folder of an MDACE checkout")
        result[split] = []
        for name in listing.read_text().split():
            chart = json.loads((folder / "data" / "Inpatient" / "ICD-10" / "1.0" / f"{name}-ICD-10.json").read_text())
            counts = Counter(
                a["code"] for note in chart["notes"] for a in note["annotations"] if a["code_system"] == "ICD-10-CM"
            )
            result[split].append({"id": name, "codes": dict(sorted(counts.items()))})
    lines = ",\n".join(
        f'"{split}": [\n' + ",\n".join(json.dumps(chart) for chart in charts) + "\n]"
        for split, charts in result.items()
    )
    with replace_file(out) as handle:
        handle.write("{\n" + lines + "\n}\n")


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise InputError("usage: python -m study.charts MDACE_FOLDER")
    build(Path(sys.argv[1]))
    return 0


if __name__ == "__main__":
    run_command(main)
