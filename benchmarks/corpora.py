"""MDACE's loader on a NOTEEVENTS file of a gigabyte: peak memory, and rows a second beside Python's csv module reading the same file and doing nothing.

    python -m benchmarks.corpora [--gigabytes 1] [--write]

The texts are invented (random words); every hundredth note is annotated, in MDACE's own layout.
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

from benchmarks.report import source, write_section

HEADER = [
    "ROW_ID",
    "SUBJECT_ID",
    "HADM_ID",
    "CHARTDATE",
    "CHARTTIME",
    "STORETIME",
    "CATEGORY",
    "DESCRIPTION",
    "CGID",
    "ISERROR",
    "TEXT",
]
READ = """
import csv, resource, sys, time
began = time.perf_counter()
csv.field_size_limit(2**31 - 1)
with open(sys.argv[1], encoding="utf-8", newline="") as handle:
    rows = sum(1 for _ in csv.reader(handle)) - 1
print(rows, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_files(folder: Path, size: float) -> int:
    """NOTEEVENTS.csv of `size` bytes and an MDACE folder around it; gives the number of rows."""
    rng, words, charts, row = random.Random(0), [f"word{number}" for number in range(2000)], {}, 0
    with open(folder / "NOTEEVENTS.csv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        writer.writerow(HEADER)
        while handle.tell() < size:
            row += 1
            text = " ".join(rng.choices(words, k=rng.randrange(100, 900))) + ' "quoted", and\nPneumonia: yes.\r\n'
            category = "Discharge summary" if row % 100 == 0 else "Nursing/other"
            writer.writerow([row, row // 10, 100_000 + row, "2150-01-01", "", "", category, "Report", "", "", text])
            if row % 100 == 0:
                start = text.index("Pneumonia")
                note = {
                    "note_id": row,
                    "category": category,
                    "description": "Report",
                    "annotations": [
                        {
                            "begin": start,
                            "end": start + 9,
                            "code": "J18.9",
                            "code_system": "ICD-10-CM",
                            "description": "x",
                            "type": "Human",
                        }
                    ],
                }
                charts[100_000 + row] = {"hadm_id": 100_000 + row, "comment": "", "notes": [note]}
    place = folder / "MDACE" / "data" / "Inpatient" / "ICD-10" / "1.0"
    place.mkdir(parents=True)
    for admission, chart in charts.items():
        (place / f"{admission}-ICD-10.json").write_text(json.dumps(chart))
    (folder / "MDACE" / "splits" / "Inpatient").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (folder / "MDACE" / "splits" / "Inpatient" / f"MDace-ev-{split}.csv").write_text(
            "\n".join(map(str, charts if split == "train" else [])) + "\n"
        )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpora", description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = write_files(folder, args.gigabytes * 1e9)
        done = subprocess.run(
            [sys.executable, "-c", READ, folder / "NOTEEVENTS.csv"], capture_output=True, text=True, check=True
        )
        count, alone, memory = map(float, done.stdout.split())
        assert count == rows
        began = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "minscl.expand",
            "documents",
            "mdace",
            "--mdace",
            folder / "MDACE",
            "--noteevents",
            folder / "NOTEEVENTS.csv",
            "--out",
            folder / "out.jsonl",
        ]
        found = subprocess.run(command, capture_output=True, text=True)
        seconds, peak = (
            time.perf_counter() - began,
            resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss,
        )  # the larger of both
        assert found.returncode == 0, found.stderr
        documents = sum(1 for _ in open(folder / "out.jsonl", encoding="utf-8"))
        size = (folder / "NOTEEVENTS.csv").stat().st_size
    lines = [
        f"{source()}",
        "",
        f"NOTEEVENTS of {size / 1e9:.2f} GB, {rows:,} rows, invented text; {documents:,} annotated notes found and checked.",
        "",
        "| reader | seconds | rows/s | peak memory, MB |",
        "|-|-|-|-|",
        f"| csv alone | {alone:.1f} | {rows / alone:,.0f} | {memory / 1024:.0f} |",
        f"| minscl.expand documents mdace, start to end | {seconds:.1f} | {rows / seconds:,.0f} | {peak / 1024:.0f} |",
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Reading MIMIC-III", lines)


if __name__ == "__main__":
    main()
