"""Puts the tables of a comparison into docs/study.md and each system's figures into docs/systems.md.

Both files say where: between `<!-- study.compare -->`, or `<!-- study.compare ROW -->`, and `<!-- end -->`. The rest of
a file stays as it is.

Read next: compare.py.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.report import machine
from minscl.errors import InputError
from minscl.files import read_text, replace_file
from study.compare_rows import Row
from study.compare_table import MICRO, Result, detail_table, main_table, score_cell

DOCS = Path(__file__).parent.parent / "docs"
END = "<!-- end -->"
NOT_MEASURED = "not measured"


def write_docs(results: Mapping[str, Mapping[Row, Result]], rows: Sequence[Row]) -> None:
    """Write both files. Raises InputError where one lacks a place that is to be written."""
    replace_between({"study.compare": f"\n{describe(results, rows)}\n"}, DOCS / "study.md")
    replace_between({f"study.compare {row.name}": figures(results, row) for row in rows}, DOCS / "systems.md")


def replace_between(texts: Mapping[str, str], path: Path) -> None:
    """Replace what stands between `<!-- NAME -->` and the next end by texts[NAME], for each of `texts`."""
    content = read_text(path)
    for name, text in texts.items():
        start, found, rest = content.partition(f"<!-- {name} -->")
        if not found or END not in rest:
            raise InputError(f"{path}: has no <!-- {name} --> with {END} after it; put them where the figures belong")
        content = start + found + text + rest[rest.index(END) :]
    with replace_file(path) as file:
        file.write(content)


def describe(results: Mapping[str, Mapping[Row, Result]], rows: Sequence[Row]) -> str:
    """The tables, the command that is running and the machine."""
    command = shlex.join(["python", "-m", "study.compare", *sys.argv[1:]])
    parts = [f"`{command}`. {machine()}", main_table(results, rows)]
    parts += [f"{title}:\n\n{detail_table(of_test, rows)}" for title, of_test in results.items()]
    return "\n\n".join(parts)


def figures(results: Mapping[str, Mapping[Row, Result]], row: Row) -> str:
    """A row's micro-F1 and costs on each test, on one line."""
    measured = [
        f"{title}, {result.notes} notes: micro-F1 {score_cell(result, MICRO)}, {result.seconds:.2f} s a note, "
        f"{result.tokens_read:,.0f} tokens read and {result.tokens_written:,.0f} written"
        for title, of_test in results.items()
        if (result := of_test.get(row))
    ]
    return "; ".join(measured) or NOT_MEASURED
