"""A folder of text files as notes, one note per file.

Read next: ../types.py, for Note.
"""

from pathlib import Path

from minscl.data.jsonl import read_text
from minscl.data.types import Note
from minscl.errors import InputError


def folder_notes(folder) -> list[Note]:
    """The .txt files of `folder`, at any depth, in path order; the id is the path within the folder without .txt.

    The text keeps its newlines as they are in the file. Raises InputError where there is none.
    """
    paths = sorted(Path(folder).rglob("*.txt"))
    if not paths:
        raise InputError(f"--folder {folder}: contains no .txt file; name a folder with one text file per note")
    return [Note(path.relative_to(folder).with_suffix("").as_posix(), read_text(path)) for path in paths]
