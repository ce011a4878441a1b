"""Table 1: every system codes the same notes with the same model; one table with intervals and differences from SCL.

    python -m study.compare --limit 20             everything, on 20 notes of each test
    python -m study.compare --rows scl,lookup      some rows, on all notes
    python -m study.compare --gold notes.jsonl --model DIR --adapter DIR --out runs/mine

Without --gold the tests are CodiEsp's English test cases and the invented test notes, and the tables go into
docs/study.md and docs/systems.md too. What a row needs and --out does not have is trained first (compare_data.py).
Everything resumes: trained systems, rows, and in a row its notes. The tables have all rows that --out has, each with
the notes that it has coded so far: rows that take long may have fewer.

    data → per row: train → generate, each test → minscl.score → tables.md → docs/

Read next: compare_rows.py, the rows; minscl/infer/systems/.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

from minscl.cli import require
from minscl.command import run_command
from minscl.config import DEMO
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.files import lock_folder, replace_file
from minscl.model import load_tokenizer
from minscl.pretrained import describe_weights, load_calibration
from minscl.score.bootstrap import ROUNDS
from study.compare_data import TESTS, train, write_data
from study.compare_docs import describe, write_docs
from study.compare_rows import ROWS, Row, Setup, generate_command, gold_path, notes_path, predictions_path
from study.compare_runs import code_notes
from study.compare_table import measure


def read_rows(names: str) -> list[Row]:
    """The rows of --rows. Raises InputError for an unknown one."""
    known = {row.name: row for row in ROWS}
    for name in names.split(","):
        if name not in known:
            raise InputError(f"--rows {name}: choose from {', '.join(known)}")
    return [row for row in ROWS if row.name in names.split(",")]


def write_gold(setup: Setup, paths: Sequence[str]) -> dict[str, Path]:
    """{title of a test: its folder, with its gold}: the files of --gold, or else TESTS. Raises InputError."""
    sources = {Path(path).stem: (require(path, "--gold"), Path(path).stem) for path in paths}
    if len(sources) < len(paths):
        raise InputError("--gold: two files have the same name; rename one")
    data = setup.documents.parent
    folders = {}
    for name, (path, title) in (sources or {name: (data / f"{name}.jsonl", TESTS[name]) for name in TESTS}).items():
        documents = read_jsonl(path, CodedDocument)
        if not documents:
            raise InputError(f"--gold {path}: contains no document; give coded documents, one per line")
        write_jsonl(gold_path(setup.out / name), documents)
        folders[title] = setup.out / name
    return folders


def check_weights(setup: Setup) -> None:
    """Raises InputError where --out was made with another model, adapter or calibration."""
    path = setup.out / "weights.json"
    weights = describe_weights(setup.model, setup.adapter)
    weights["calibration"] = str(load_calibration(setup.model, setup.adapter))
    if path.exists() and (saved := json.loads(path.read_text(encoding="utf-8"))) != weights:
        [name, *_] = [name for name in weights if saved.get(name) != weights[name]]
        raise InputError(
            f"{setup.out}: was made with {name} {saved.get(name)}, now {weights[name]}; name another --out"
        )
    with replace_file(path) as file:
        json.dump(weights, file)


def code_test(row: Row, setup: Setup, folder: Path, limit: int) -> None:
    """A row codes a test: all notes of it, or the first `limit` in a random order."""
    documents = read_jsonl(gold_path(folder), CodedDocument)
    if limit:
        documents = random.Random(0).sample(documents, len(documents))[:limit]
    command = generate_command(row, setup, folder)
    print("python -m", *command, flush=True)
    code_notes(predictions_path(folder, row), command, notes_path(folder), documents)


def main() -> int:
    """Train and run the rows, write the tables. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m study.compare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rows", default=",".join(row.name for row in ROWS), help="rows to run, with commas (default: %(default)s)"
    )
    parser.add_argument(
        "--gold", action="append", default=[], metavar="FILE", help="coded documents to test on, in place of both tests"
    )
    parser.add_argument(
        "--limit", type=int, default=0, help="code at most so many notes of each test (default: 0, all)"
    )
    parser.add_argument("--model", default=str(DEMO), help="model folder (default: the embedded model)")
    parser.add_argument("--adapter", default="", help="SCL's adapter (default: the model folder's own)")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder of the results")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="bootstrap rounds (default: %(default)s)")
    args = parser.parse_args()
    rows, setup = read_rows(args.rows), Setup(args.out, args.model, args.adapter)
    if args.limit < 0 or args.rounds < 1:
        raise InputError(f"--limit {args.limit} --rounds {args.rounds}: give 0 or more, and 1 or more")
    with lock_folder(setup.out):
        check_weights(setup)
        write_data(setup)
        folders = write_gold(setup, args.gold)
        for row in rows:
            train(row, setup)
            for folder in folders.values():
                code_test(row, setup, folder, args.limit)
        tokenizer = load_tokenizer(setup.model)
        results = {title: measure(folder, ROWS, args.rounds, tokenizer) for title, folder in folders.items()}
        tables = describe(results, ROWS)
        with replace_file(setup.out / "tables.md") as file:
            file.write(f"{tables}\n")
        print(tables)
        if not args.gold:
            write_docs(results, ROWS)
    return 0


if __name__ == "__main__":
    run_command(main)
