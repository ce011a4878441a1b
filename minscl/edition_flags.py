"""The flags --edition and --date, which generate, evaluate and expand have alike.

    @dataclass(frozen=True)
    class GoldConfig:
        edition: str = edition_flag()
        date: str = date_flag()

    book = load_codebook(config)

Read next: data/icd/editions.py.
"""

import os
from typing import Any, Protocol

from minscl.cli import flag
from minscl.command import warn
from minscl.data.icd import CodeBook
from minscl.data.icd.editions import BUNDLED, DEFAULT, VARIABLE


class EditionConfig(Protocol):
    """A dataclass with both flags."""

    @property
    def edition(self) -> str:
        """The value of --edition."""

    @property
    def date(self) -> str:
        """The value of --date."""


def edition_flag() -> Any:
    """The field of --edition; the variable is its default, so that no output may be a file of that folder."""
    names = f"{', '.join(BUNDLED)}, or a folder of expand official"
    return flag(
        os.environ.get(VARIABLE, ""),
        f"ICD-10-CM edition: {names}; none: that of the variable {VARIABLE}, else {DEFAULT}",
        role="input",
    )


def date_flag() -> Any:
    """The field of --date."""
    return flag("", "date of service, as 2026-09-30: the code set in force on that day", metavar="YYYY-MM-DD")


def load_codebook(config: EditionConfig) -> CodeBook:
    """The code set that the flags of `config` name. Raises InputError.

    Warns on stderr of a date that no known edition has; the codes of the one before are then used, or the oldest's.
    """
    book = CodeBook.load(config.edition or None, config.date or None)
    if book.out_of_range:
        warn(book.label)
    return book
