"""The cases and diagnosis annotations of CodiEsp's folders, as published (zenodo 3837305).

Read next: words.py.
"""

from pathlib import Path
from typing import NamedTuple

from minscl.errors import InputError

ANNOTATED = ("train", "dev", "test")
SPLITS = (*ANNOTATED, "background")


class Case(NamedTuple):
    """A case report in both languages."""

    id: str
    split: str
    spanish: str
    english: str


class Annotation(NamedTuple):
    """A code with the Spanish phrase that is its evidence; `parts` are half-open character offsets."""

    code: str
    phrase: str
    parts: tuple[tuple[int, int], ...]


def read_cases(folder: Path, splits=SPLITS) -> list[Case]:
    """The cases of `splits`, ordered by split and id; raises InputError where a text has no translation."""
    cases = []
    for split in splits:
        paths = sorted((folder / split / "text_files").glob("*.txt"))
        if not paths:
            raise InputError(f"{folder / split / 'text_files'}: no texts; unpack codiesp_{split}.tar.gz into {folder}")
        for path in paths:
            translation = folder / split / "text_files_en" / path.name
            if not translation.exists():
                raise InputError(f"{translation}: missing; unpack codiesp_{split}.tar.gz again")
            # bytes, because universal newlines would shift the offsets
            texts = (file.read_bytes().decode("utf-8") for file in (path, translation))
            cases.append(Case(path.stem, split, *texts))
    return cases


def read_annotations(folder: Path, split: str) -> dict[str, list[Annotation]]:
    """The diagnosis annotations of each case, in the order of the file, codes in upper case."""
    annotations: dict[str, list[Annotation]] = {}
    path = folder / split / f"{split}X.tsv"
    for number, row in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            case, kind, code, phrase, offsets = row.split("\t")
            parts = tuple((int(start), int(end)) for start, end in (part.split() for part in offsets.split(";")))
        except ValueError:
            raise InputError(f"{path}:{number}: not id, kind, code, text, offsets; use the published file") from None
        if kind == "DIAGNOSTICO":
            annotations.setdefault(case, []).append(Annotation(code.upper(), phrase, parts))
    return annotations
