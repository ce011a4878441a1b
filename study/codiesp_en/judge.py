"""Draws the sample that is judged by hand, and prints what the committed judgements say.

    python -m study.codiesp_en.judge            # what was carried, the share judged right, and the faults
    python -m study.codiesp_en.judge --codiesp FOLDER --seed N [--count 200]        # a sample to read

A judgement is a row of study/resources/codiesp_en_judgements.tsv: id, split, Spanish phrase, code, English phrase,
verdict (`right` or `wrong`), reason. Right is what a coder would accept as evidence of the code: it names the same
finding, is not cut short so that the finding is lost, and swallows no second finding and no clause. A second reader's
verdicts on the same rows are in codiesp_en_judgements_second.tsv.
"""

import argparse
import gzip
import json
import math
import random
from collections import Counter
from pathlib import Path

from minscl.command import run_command
from minscl.data.icd import CodeBook
from minscl.errors import InputError
from study.codiesp_en.build import OUT
from study.codiesp_en.corpus import ANNOTATED, read_cases

JUDGEMENTS = OUT.parent / "codiesp_en_judgements.tsv"
SECOND = OUT.parent / "codiesp_en_judgements_second.tsv"
COLUMNS = ("id", "split", "spanish", "code", "english", "verdict", "reason")
AROUND = 90  # characters shown on either side


def read_records(path: Path = OUT) -> list[dict]:
    """The records of the built file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def draw(records: list[dict], seed: int, count: int) -> list[tuple[dict, dict]]:
    """`count` carried annotations, each with its record, drawn without replacement by `seed`."""
    carried = [(record, row) for record in records for row in record["annotations"] if row["spans"]]
    return random.Random(seed).sample(carried, count)


def show_sample(folder: Path, sample, book: CodeBook) -> None:
    """Print each drawn annotation with both passages, the evidence in brackets."""
    spanish = {case.id: case.spanish for case in read_cases(folder)}
    for number, (record, row) in enumerate(sample, 1):
        parts = row["parts"]
        print(f"{number}. {record['id']} {record['split']} {row['code']} {book.description(row['code'])}")
        first, last = min(a for a, _ in parts), max(b for _, b in parts)
        print("  ES", around(spanish[record["id"]], first, last), f"[{row['spanish']}]")
        for start, end in row["spans"]:
            print("  EN", around(record["text"], start, end))


def around(text: str, start: int, end: int) -> str:
    """The characters around `text[start:end]` in one line, with `[[` and `]]` about it."""
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    return f"{before}[[{text[start:end]}]]{after}".replace("\n", " / ")


def read_judgements(path: Path = JUDGEMENTS) -> list[dict[str, str]]:
    """The rows of the judgement file, checked; raises InputError."""
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    if tuple(header.split("\t")) != COLUMNS:
        raise InputError(f"{path}:1: the columns are not {', '.join(COLUMNS)}")
    judgements = [dict(zip(COLUMNS, row.split("\t"), strict=True)) for row in rows]
    for number, judgement in enumerate(judgements, 2):
        if judgement["verdict"] not in ("right", "wrong"):
            raise InputError(f"{path}:{number}: verdict is neither right nor wrong")
    return judgements


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return (centre - spread) / (1 + z * z / total), (centre + spread) / (1 + z * z / total)


def summarise(judgements: list[dict[str, str]]) -> str:
    """Shares judged right, whole and of each split, and how often each kind of fault occurs."""
    lines = []
    for split in ("all", *ANNOTATED):
        rows = [row for row in judgements if split in ("all", row["split"])]
        right = sum(row["verdict"] == "right" for row in rows)
        low, high = wilson_interval(right, len(rows))
        lines.append(f"{split:6} {right:4} of {len(rows):4} right: {right / len(rows):.1%} ({low:.1%} to {high:.1%})")
    faults = Counter(row["reason"].split(":")[0] for row in judgements if row["verdict"] == "wrong")
    return "\n".join([*lines, *(f"  {count:3} {fault}" for fault, count in faults.most_common())])


def cohen_kappa(pairs: list[tuple[bool, bool]]) -> float:
    """Two readers' agreement beyond chance (Cohen 1960); not a number where both gave one and the same verdict."""
    agreed = sum(a == b for a, b in pairs) / len(pairs)
    first, second = (sum(verdicts) / len(pairs) for verdicts in zip(*pairs, strict=True))
    chance = first * second + (1 - first) * (1 - second)
    return (agreed - chance) / (1 - chance) if chance < 1 else math.nan


def compare(first: list[dict[str, str]], second: list[dict[str, str]]) -> str:
    """How many the second reader judged right, and how far the two agree."""
    pairs = [(a["verdict"] == "right", b["verdict"] == "right") for a, b in zip(first, second, strict=True)]
    right, agreed = sum(b for _, b in pairs), sum(a == b for a, b in pairs)
    return (
        f"second reading: {right} of {len(pairs)} right; the readings agree in {agreed} "
        f"({agreed / len(pairs):.1%}), Cohen's kappa {cohen_kappa(pairs):.2f}"
    )


def coverage(records: list[dict]) -> str:
    """What was carried, of each split and kind: annotations, and (case, code) pairs with evidence in English."""
    lines = []
    for split in ("all", *ANNOTATED):
        chosen = [record for record in records if split in ("all", record["split"])]
        rows = [row for record in chosen for row in record["annotations"]]
        codes = [code for record in chosen for code in record["codes"]]
        carried, evident = sum(bool(row["spans"]) for row in rows), sum(bool(code["evidence"]) for code in codes)
        share = f"{carried / len(rows):.1%}, in parts {sum(len(row['spans']) > 1 for row in rows)}"
        lines.append(
            f"{split:6} {len(chosen)} cases, {len(rows)} annotations, {carried} carried ({share}); "
            f"{len(codes)} codes, {evident} with evidence ({evident / len(codes):.1%})"
        )
    for kind, several in (("in one part", False), ("discontinuous", True)):
        rows = [row for record in records for row in record["annotations"] if (len(row["parts"]) > 1) == several]
        carried = sum(bool(row["spans"]) for row in rows)
        lines.append(f"{kind}: {carried} of {len(rows)} carried ({carried / len(rows):.1%})")
    unknown = sum(not code["description"] for record in records for code in record["codes"])
    return "\n".join([*lines, f"codes without a description in this edition: {unknown}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.codiesp_en.judge", description=__doc__.split("\n")[0])
    parser.add_argument("--codiesp", type=Path, metavar="FOLDER", help="the corpus, unpacked: print a sample to read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--file", type=Path, default=OUT)
    flags = parser.parse_args()
    if flags.codiesp:
        show_sample(flags.codiesp, draw(read_records(flags.file), flags.seed, flags.count), CodeBook.load())
    else:
        print(coverage(read_records(flags.file)))
        print(summarise(read_judgements()))
        print(compare(read_judgements(), read_judgements(SECOND)))
    return 0


if __name__ == "__main__":
    run_command(main)
