"""Tables of any size, row by row: quoted cells, newlines inside cells, gzip; memory does not grow with the file.

Cells are separated by commas, or by tabs where the first line has one.

Cells come exactly as they are in the file (no newline is converted, nothing is stripped), since evidence offsets count
their characters. On a terminal a progress bar counts bytes. Every error names the file and the line on which the row
begins. None shows a cell, which may be a note's text, unless it looks like an id.

Read next: mdace.py.
"""

import csv
import gzip
import io
import itertools
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from minscl.data.record_checks import show_id
from minscl.errors import InputError
from minscl.files import require_file

CELL_LIMIT = 2**24  # characters; after an unclosed quotation mark the rest of the file would be one cell
GZIP_MAGIC = b"\x1f\x8b"  # the first two bytes of a gzip file, whatever its name
NAME = "name a .csv or .csv.gz file"
DAMAGED = "the file is damaged: compare its checksum with the publisher's and fetch it again"


def read_rows(path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """(line, values of `columns`) of each row of `path`, a CSV file with a header (its case is ignored).

    Raises InputError for a file that cannot be read, a missing column and a row that is not as long as the header.
    """
    rows = all_rows(path)
    header = next(rows, (1, []))[1]
    names = column_names(header)
    for column in columns:
        if column.lower() not in names:
            raise InputError(
                f"{path}: column {column} is missing from the header, which has {len(header)} columns; "
                f"it needs {', '.join(columns)}"
            )
    positions = [names.index(column.lower()) for column in columns]
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}: line {line}: {len(row)} cells where the header has {len(header)}; {DAMAGED}")
        yield line, [row[position] for position in positions]


def read_header(path) -> list[str]:
    """The column names of `path`, as column_names gives them; [] for an empty file. Raises InputError."""
    return column_names(next(all_rows(path), (1, []))[1])


def column_names(header: Sequence[str]) -> list[str]:
    """The cells of a header as they are compared: without case and surrounding white space."""
    return [name.strip().lower() for name in header]


def all_rows(path, name: str = NAME, damaged: str = DAMAGED) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row of `path` that is not blank, the header included.

    Raises InputError for a file that cannot be read (with the remedy `name`), is not UTF-8 or breaks the quoting of CSV
    (with the remedy `damaged`).
    """
    csv.field_size_limit(CELL_LIMIT)
    require_file(path, name)
    line = 1
    try:
        with open(path, "rb") as raw, _progress(path, raw) as bar:
            is_packed = raw.peek(2)[:2] == GZIP_MAGIC or str(path).lower().endswith(".gz")
            unpacked = gzip.GzipFile(fileobj=raw) if is_packed else raw
            lines = io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="")
            first = lines.readline(CELL_LIMIT)
            delimiter = "\t" if "\t" in first else ","
            reader = csv.reader(itertools.chain([first], lines), delimiter=delimiter, strict=True)
            for number, row in enumerate(reader):
                if row:  # not a blank line
                    yield line, row
                line = reader.line_num + 1
                if number % 256 == 0:
                    bar.update(raw.tell() - bar.n)
    except csv.Error as error:
        raise InputError(f"{path}: line {line}: {error}; {damaged}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: after line {line}: byte {error.object[error.start]:#04x} is not UTF-8; {damaged}"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: after line {line}: {error}; {damaged}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {name}") from error


def whole_number(path, line: int, column: str, text: str) -> int:
    """`text` as an id; raises InputError that names the file, the line and the column."""
    number = parse_whole_number(text)
    if number is None:
        raise InputError(f"{path}: line {line}: {column} is {show_id(text)}, not a whole number; {DAMAGED}")
    return number


def parse_whole_number(value) -> int | None:
    """A whole number from 0, or a text with its digits, as a number; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        return int(value)
    return value if type(value) is int and 0 <= value < 10**18 else None


def _progress(path, raw) -> tqdm:
    """A progress bar over the bytes of the open file `raw`, compressed ones for .gz; only on a terminal."""
    size = os.fstat(raw.fileno()).st_size
    return tqdm(total=size, desc=Path(path).name, unit="B", unit_scale=True, disable=None, leave=False)
