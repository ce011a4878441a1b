"""CSV files of any size, row by row: quotes, newlines inside cells and .gz as they come; memory does not grow with the file.

Cells are given exactly as they stand (no newline is changed, nothing is stripped), since evidence is counted in characters. A progress
bar by bytes shows on a terminal. Every message names the file, the line on which the row begins, and the row's first wanted value.

Read next: corpora.py.
"""

import csv
import gzip
import io
import os
import zlib
from pathlib import Path

from tqdm import tqdm

from minscl.data.record_checks import short_repr
from minscl.errors import InputError

CELL_LIMIT = 2**24  # characters; after a quote that is never closed the rest of a file would be one cell
DAMAGED = "the file is damaged: compare its checksum with the publisher's and fetch it again"


def read_rows(path, columns):
    """(line, values of `columns`) of each row of the CSV file `path`, .csv or .csv.gz, with a header; case of the header does not count.

    Raises InputError for a file that cannot be read, a column that is missing and a row that is not as long as the header.
    """
    csv.field_size_limit(CELL_LIMIT)
    line = 1
    try:
        with (
            open(path, "rb") as raw,
            tqdm(
                total=os.fstat(raw.fileno()).st_size,
                desc=Path(path).name,
                unit="B",
                unit_scale=True,
                disable=None,
                leave=False,
            ) as bar,
        ):
            unpacked = gzip.GzipFile(fileobj=raw) if str(path).endswith(".gz") else raw
            reader = csv.reader(io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline=""), strict=True)
            places, width = _places(path, next(reader, []), columns)
            line = reader.line_num + 1
            for number, row in enumerate(reader):
                if row:  # a blank line holds nothing
                    if len(row) != width:
                        raise InputError(
                            f"{path}: line {line}, {columns[0]} {short_repr(row[places[0]]) if len(row) > places[0] else '?'}: "
                            f"{len(row)} cells where the header has {width}; {DAMAGED}"
                        )
                    yield line, [row[place] for place in places]
                line = reader.line_num + 1
                if number % 256 == 0:
                    bar.update(raw.tell() - bar.n)
    except csv.Error as error:
        raise InputError(f"{path}: line {line}: {error}; {DAMAGED}") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: after line {line}: byte {error.object[error.start]:#04x} is not UTF-8; {DAMAGED}"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: after line {line}: {error}; {DAMAGED}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a .csv or .csv.gz file") from error


def _places(path, header: list[str], columns) -> tuple[list[int], int]:
    """(where each wanted column stands, columns in all)."""
    names = [name.strip().lower() for name in header]
    for column in columns:
        if column.lower() not in names:
            raise InputError(
                f"{path}: column {column} is missing, the header has {short_repr(', '.join(header))}; it needs {', '.join(columns)}"
            )
    return [names.index(column.lower()) for column in columns], len(header)


def whole_number(path, line: int, column: str, text: str) -> int:
    """`text` as an id; raises InputError that names the file, the line and the column."""
    if not text.strip().isdecimal():
        raise InputError(f"{path}: line {line}: {column} is {short_repr(text)}, not a whole number; {DAMAGED}")
    return int(text)
