"""MDACE's loader on a NOTEEVENTS file of a gigabyte, beside Python's csv module, which only reads the file.

    python -m benchmarks.corpora [--gigabytes 1] [--write]

Printed: rows a second and peak memory. The texts are random words; every hundredth note is annotated, in MDACE's own
layout.

Read next: minscl/data/corpora/mdace.py.
"""

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import provenance, write_section

HEADER = (  # MIMIC-III's
    '"ROW_ID","SUBJECT_ID","HADM_ID","CHARTDATE","CHARTTIME","STORETIME","CATEGORY","DESCRIPTION","CGID","ISERROR",'
    '"TEXT"\n'
)
ANNOTATED_EVERY = 100
CSV_ALONE = """
import csv, resource, sys, time
began = time.perf_counter()
csv.field_size_limit(2**31 - 1)
with open(sys.argv[1], encoding="utf-8", newline="") as file:
    rows = sum(1 for _ in csv.reader(file)) - 1
print(rows, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_note_events(path: Path, size: float) -> tuple[int, dict[int, dict]]:
    """Write `size` bytes or a little more; gives the number of rows and the MDACE charts by admission."""
    rng, words, charts, row = random.Random(0), [f"word{number}" for number in range(2000)], {}, 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(HEADER)
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        while file.tell() < size:
            row += 1
            text = " ".join(rng.choices(words, k=rng.randrange(100, 900))) + ' "quoted", and\nPneumonia: yes.\r\n'
            annotated = row % ANNOTATED_EVERY == 0
            category = "Discharge summary" if annotated else "Nursing/other"
            admission = 100_000 + row
            writer.writerow([row, row // 10, admission, "2150-01-01", "", "", category, "Report", "", "", text])
            if annotated:
                charts[admission] = mdace_chart(admission, row, category, text.index("Pneumonia"))
    return row, charts


def mdace_chart(admission: int, row: int, category: str, start: int) -> dict:
    """The chart of one note with one annotation, "Pneumonia" at character `start`."""
    annotation = {
        "begin": start,
        "end": start + len("Pneumonia"),
        "code": "J18.9",
        "code_system": "ICD-10-CM",
        "description": "x",
        "type": "Human",
    }
    note = {"note_id": row, "category": category, "description": "Report", "annotations": [annotation]}
    return {"hadm_id": admission, "comment": "", "notes": [note]}


def write_mdace(folder: Path, charts: dict[int, dict]) -> None:
    """MDACE's folder: charts and splits, all charts in the training split."""
    chart_folder, split_folder = folder / "data" / "Inpatient" / "ICD-10" / "1.0", folder / "splits" / "Inpatient"
    chart_folder.mkdir(parents=True)
    split_folder.mkdir(parents=True)
    for admission, chart in charts.items():
        (chart_folder / f"{admission}-ICD-10.json").write_text(json.dumps(chart))
    for split in ("train", "val", "test"):
        admissions = charts if split == "train" else ()
        (split_folder / f"MDace-ev-{split}.csv").write_text("\n".join(map(str, admissions)) + "\n")


def main() -> None:
    """Read the file both ways; print the table, and with --write put it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpora", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of the NOTEEVENTS file")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        mdace, note_events, out = (Path(name) / part for part in ("MDACE", "NOTEEVENTS.csv", "out.jsonl"))
        rows, charts = write_note_events(note_events, args.gigabytes * 1e9)
        write_mdace(mdace, charts)
        command = [sys.executable, "-c", CSV_ALONE, note_events]
        csv_alone = subprocess.run(command, capture_output=True, text=True, check=True)
        csv_rows, csv_seconds, csv_memory = map(float, csv_alone.stdout.split())
        assert csv_rows == rows
        began = time.perf_counter()
        command = [sys.executable, "-m", "minscl.expand", "documents", "mdace", "--mdace", mdace]
        expand = subprocess.run([*command, "--noteevents", note_events, "--out", out], capture_output=True, text=True)
        seconds = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # the larger of both commands'
        assert expand.returncode == 0, expand.stderr
        documents, size = len(out.read_bytes().splitlines()), note_events.stat().st_size
    lines = [
        provenance(),
        "",
        f"NOTEEVENTS of {size / 1e9:.2f} GB, {rows:,} rows, invented text; {documents:,} annotated notes located and "
        "checked.",
        "",
        "| reader | seconds | rows/s | peak memory, MB |",
        "|-|-|-|-|",
        f"| csv alone | {csv_seconds:.1f} | {rows / csv_seconds:,.0f} | {csv_memory / 1024:.0f} |",
        f"| minscl.expand documents mdace, start to end | {seconds:.1f} | {rows / seconds:,.0f} "
        f"| {memory / 1024:.0f} |",
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Reading MIMIC-III", lines)


if __name__ == "__main__":
    main()
