"""The name of an official edition, and the dates of service for which it is valid, from its files.

A fiscal year's edition is valid from 1 October of the year before. An update during the year says its month in the
name of its files or archive: icd10cm-tabular-April-2026.xml of FY2026 is valid from 2026-04-01.

Read next: files.py.
"""

import datetime
import re

from minscl.data.icd.official.files import OfficialFile, OfficialFiles
from minscl.errors import InputError

_YEAR = re.compile(r"(?<!\d)(20\d\d)(?!\d)|(?<![a-z])FY[ _-]?(\d\d)(?!\d)", re.IGNORECASE)
_MONTH = re.compile(r"(?<![a-z])(jan|apr)(?:uary|il)?(?![a-z])", re.IGNORECASE)  # months of updates so far
_MONTHS = {"jan": 1, "apr": 4}


def edition_dates(files: OfficialFiles, version: str) -> tuple[str, datetime.date, datetime.date]:
    """(name, first date, last date of service): ("2027", 2026-10-01, 2027-09-30), ("2026-04", 2026-04-01, 2026-09-30).

    `version` is the Tabular List's own year, which counts where its file and archive have no year in their names.
    Raises InputError where the files are of different years or updates, and where nothing tells the year.
    """
    sources = [files[role] for role in ("tabular", "order", "codes") if role in files]
    years = {file.place: _year(file) or (_find_year(version) if file.role == "tabular" else 0) for file in sources}
    stated = {place: year for place, year in years.items() if year}
    remedy = "give the files their edition's names again, as icd10cm_tabular_2027.xml"
    if len(set(stated.values())) > 1:
        shown = ", ".join(f"{place} is of {year}" for place, year in stated.items())
        raise InputError(f"{shown}; name the archives of one edition, or {remedy}")
    if not stated:
        raise InputError(f"{', '.join(years)}: neither the names nor <version> tell the fiscal year; {remedy}")
    year = next(iter(stated.values()))
    months = {match[1].lower() for file in sources for match in map(_MONTH.search, file.names) if match}
    if len(months) > 1:
        raise InputError(f"{', '.join(years)}: named after two updates, of January and April; name those of one")
    last_date = datetime.date(year, 9, 30)
    if not months:
        return str(year), datetime.date(year - 1, 10, 1), last_date
    month = _MONTHS[months.pop()]
    return f"{year}-{month:02}", datetime.date(year, month, 1), last_date


def _year(file: OfficialFile) -> int:
    """The fiscal year in the name of `file`, or else of the archives around it from the inside out; 0 if none has."""
    return next(filter(None, map(_find_year, reversed(file.names))), 0)


def _find_year(text: str) -> int:
    """The first year in `text`, as 2027 or FY27; 0 if it has none."""
    match = _YEAR.search(text)
    return int(match[1] or f"20{match[2]}") if match else 0
