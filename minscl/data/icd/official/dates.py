"""The name of an official edition, and the dates of service for which it is valid, from its files.

A fiscal year's edition is valid from 1 October of the year before. An update during the year says its month in the
name of its files, archive or folder: icd10cm-tabular-April-2026.xml of FY2026 is valid from 2026-04-01. A year beside a
month is the calendar's: October 2026 is the begin of FY2027.

Read next: files.py.
"""

import datetime
import re
from typing import NamedTuple

from minscl.data.icd.official.files import OfficialFiles
from minscl.errors import InputError

REMEDY = "give the files their edition's names again, as icd10cm_tabular_2027.xml or icd10cm_tabular_April_2027.xml"
_ISO_DATE = re.compile(r"(?<!\d)20\d\d([-_.]?)(?:0\d|1[0-2])\1[0-3]\d(?!\d)")  # of a download
_US_DATE = re.compile(r"(?<!\d)(0\d|1[0-2])[-_. ]?([0-3]\d)[-_. ]?(20\d\d)(?!\d)")  # of an update on a quarter's first
_YEAR_MONTH = re.compile(r"(?<!\d)(20\d\d)[-_.](0[1-9]|1[0-2])(?![-_.]?\d)")
_FISCAL_YEAR = re.compile(r"(?<![a-z])FY[ _-]?(?:20)?(\d\d)(?!\d)", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)20\d\d(?!\d)")
_MONTH = re.compile(
    r"(?<![a-z])(?:(jan)(?:uary)?|(feb)(?:ruary)?|(mar)(?:ch)?|(apr)(?:il)?|(may)|(june?)|(july?)|(aug)(?:ust)?"
    r"|(sept?)(?:ember)?|(oct)(?:ober)?|(nov)(?:ember)?|(dec)(?:ember)?)(?![a-z])",
    re.IGNORECASE,
)
_QUARTERS = (1, 4, 7, 10)  # months in which updates begin
_FIRST_MONTH = 10  # of a fiscal year


class _Stated(NamedTuple):
    """What a name states: the fiscal year and the month from which an edition is valid; 0 for what it does not."""

    year: int
    month: int


def edition_dates(files: OfficialFiles, version: str) -> tuple[str, datetime.date, datetime.date]:
    """(name, first date, last date of service): ("2027", 2026-10-01, 2027-09-30), ("2026-04", 2026-04-01, 2026-09-30).

    `version` is the Tabular List's own year. Raises InputError where names, or a name and `version`, state different
    years or updates, and where nothing tells the year.
    """
    sources = [files[role] for role in ("tabular", "order", "codes") if role in files]
    years: dict[str, int] = {}  # what states it → fiscal year
    months: dict[str, int] = {}  # name → month
    for file in sources:
        stated = [(name, _read_name(name)) for name in reversed(file.names[1:])]
        folder = _read_name(file.names[0])  # on disk: counts only as "April 1 2027", not as a year or a person's name
        stated += [(file.names[0], folder)] if folder.year and folder.month else []
        years |= dict([(file.place, year) for _, (year, _) in stated if year][:1])
        years |= {f"{file.place}: {name}": year for name, (year, month) in stated if year and month}
        months |= {name: month for name, (_, month) in stated if month}
    if version_year := _read_name(version).year:
        years[f"<version> of {files['tabular'].place}"] = version_year
    first_place = {year: place for place, year in reversed(years.items())}
    if len(first_place) > 1:
        shown = ", ".join(f"{first_place[year]} is of {year}" for year in dict.fromkeys(years.values()))
        raise InputError(f"{shown}; name the archives of one edition, or {REMEDY}")
    places = ", ".join(file.place for file in sources)
    if not years:
        raise InputError(f"{places}: neither the names nor <version> tell the fiscal year; {REMEDY}")
    if len(set(months.values())) > 1:
        raise InputError(f"{places}: named after two updates ({', '.join(months)}); name the archives of one")
    year, month = next(iter(years.values())), next(iter(months.values()), _FIRST_MONTH)
    first_date = datetime.date(year - (month >= _FIRST_MONTH), month, 1)
    name = str(year) if month == _FIRST_MONTH else f"{year}-{month:02}"
    return name, first_date, datetime.date(year, 9, 30)


def _read_name(text: str) -> _Stated:
    """What `text` states about an edition, the name of a file, archive or folder."""
    text = _ISO_DATE.sub(" ", text)
    month = next((number for match in [_MONTH.search(text)] if match and (number := match.lastindex)), 0)
    if not month and (date := _US_DATE.search(text)):
        month = int(date[1]) if int(date[1]) in _QUARTERS and date[2] == "01" else 0
        text = text if month else _US_DATE.sub(" ", text)
    if not month and (date := _YEAR_MONTH.search(text)):
        month = int(date[2])
    if fiscal := _FISCAL_YEAR.search(text):
        return _Stated(2000 + int(fiscal[1]), month)
    years = set(_YEAR.findall(text))
    if not years and month and (date := _US_DATE.search(text)):  # written without separators
        years = {date[3]}
    year = int(years.pop()) if len(years) == 1 else 0
    return _Stated(year + (year and month >= _FIRST_MONTH), month)
