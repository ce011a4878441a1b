"""A folder of text files as notes, one note per file; and which files of a folder are read at all.

Read next: ../types.py, for Note.
"""

import os
from pathlib import Path

from minscl.data.corpora.counts import Counts
from minscl.data.jsonl import read_text
from minscl.data.types import Note
from minscl.errors import InputError, is_text
from minscl.files import path_kind

NAMED_PATHS = 5  # of those left out, in the warning


def folder_notes(folder) -> list[Note]:
    """The .txt files of `folder`, at any depth, in path order; the id is the path within the folder without .txt.

    The text keeps its newlines as they are in the file. A warning on stderr names what is left out. Raises InputError
    where there is no such file, where two would have the same id, and for a name that is not UTF-8.
    """
    counts = Counts()
    paths = files_with_ending(folder, ".txt", counts, deep=True)
    if not paths:
        raise InputError(f"--folder {folder}: contains no .txt file; name a folder with one text file per note")
    path_of: dict[str, Path] = {}
    for path in paths:
        id = path.relative_to(folder).with_suffix("").as_posix()
        if not is_text(id):
            raise InputError(f"{path}: the name is not UTF-8, and the note's id is made of it; rename the file")
        if id in path_of:
            raise InputError(f"{path}: gives the id of {path_of[id].name} too; rename one of the two")
        path_of[id] = path
    notes = [Note(id, read_text(path)) for id, path in path_of.items()]
    counts.print_warnings()
    return notes


def files_with_ending(folder, ending: str, counts: Counts, deep: bool = False) -> list[Path]:
    """The regular files of `folder` whose names end in `ending`, in any case, sorted; `deep`: at any depth.

    Everything else, but for folders that are read themselves, is a warning in `counts`. Raises InputError for a folder
    that cannot be read.
    """
    paths: list[Path] = []
    left_out: list[str] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        not_entered = [name for name in folders if not deep or Path(parent, name).is_symlink()]
        folders[:] = [name for name in folders if name not in not_entered]
        for path in (Path(parent, name) for name in names + not_entered):
            if path.suffix.lower() == ending and path_kind(path) == "file":
                paths.append(path)
            else:
                left_out.append(path.relative_to(folder).as_posix())
    if left_out:
        named = ", ".join(sorted(left_out)[:NAMED_PATHS]) + (", ..." if len(left_out) > NAMED_PATHS else "")
        counts.warn(
            "folders with files that are left out",
            f"{folder}: {len(left_out):,} of its files and folders are no {ending} files and are left out: {named}",
        )
    return sorted(paths)


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be read ({error.strerror}); name a folder that can be read") from error
