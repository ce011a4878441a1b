"""An edition's files parsed, and the result kept as JSON in the user's cache folder.

Read next: cache.py; codebook.py, which answers questions about it.
"""

from minscl.data.icd.cache import cache_folder, read_cache, write_cache
from minscl.data.icd.code_list import place_codes, read_code_list
from minscl.data.icd.editions import Edition
from minscl.data.icd.tabular import parse_tabular
from minscl.data.icd.xml_text import read_xml
from minscl.errors import InputError

CACHE_FORMAT = 3  # increase when CodeBook needs something from parse_edition that older cache files lack


def parse_edition(edition: Edition) -> dict:
    """`edition` in the form of tabular.parse_tabular, from the cache or else from its files. Raises InputError."""
    folder = cache_folder()
    cache = folder / f"edition-{CACHE_FORMAT}-{edition.digest}.json" if folder else None
    parsed = _whole(read_cache(cache)) if cache else None
    if not parsed:
        file = edition.file("tabular")
        parsed = parse_tabular(read_xml(edition.read("tabular"), str(file.path)))
        if edition.has("codes"):
            name = str(edition.file("codes").path)
            parsed = place_codes(read_code_list(edition.read("codes"), name), parsed, name)
        if not parsed["billable"]:
            raise InputError(f"{file.path}: edition {edition.name} has no billable code; make the edition again")
        if cache:
            write_cache(cache, parsed)
    return parsed


def _whole(parsed) -> dict | None:
    """`parsed`, from the cache, if it is what parse_edition returns, else None."""
    kinds = {"nodes": dict, "billable": list, "notes": dict}
    is_whole = isinstance(parsed, dict) and all(isinstance(parsed.get(key), kind) for key, kind in kinds.items())
    return parsed if is_whole and parsed["billable"] else None
