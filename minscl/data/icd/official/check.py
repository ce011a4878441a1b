"""Checks that the Tabular List, order file and codes file of an edition agree: the same codes, the same texts.

Codes must be the same sets; a mismatch is an error that names them. Texts that differ by more than accents, which the
order file drops, are counted and listed.

Read next: order_file.py and ../tabular.py, which read them; changes.py, what is new in the edition.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from minscl.data.icd.code_list import place_codes
from minscl.data.icd.official.archives import REMEDY
from minscl.data.icd.official.changes import ChangedText, are_different, code_names
from minscl.data.icd.official.files import LISTS, OfficialFiles, two_files
from minscl.data.icd.official.order_file import AddendaRow, CodeRow, read_addenda, read_codes_file, read_order_file
from minscl.data.icd.official.recognise import TITLES, OfficialFile
from minscl.data.icd.tabular import parse_tabular
from minscl.data.icd.xml_text import element_text, read_xml
from minscl.errors import UNPRINTABLE, InputError, printable

MAX_SEVENTH = 36  # values of a 7th character; one definition multiplies the codes below it
SHOWN_CODES = 10  # in an error
MOST_CODES = 0.9  # of the Tabular List's billable codes; those exempt from POA reporting, the longest other list: half
_CODE = re.compile(r"[A-Z][0-9A-Z]{2}(\.[0-9A-Z]{1,4})?")
_BY_PROSE = re.compile(r"S06\..{2}[78][DS]")  # ../tabular.py leaves these out, as editions do that say so in prose
_ABOVE_CODES = re.compile(r"\d{1,2}|section (?!None)\S+")  # chapters and sections
_READERS = {"order": read_order_file, "codes": read_codes_file}


@dataclass(frozen=True)
class CheckedCodes:
    """The codes of an edition whose files agree."""

    rows: list[CodeRow]  # codes and headings, in the official order
    placed: dict  # the rows in the Tabular List's tree, as parse_edition returns it
    version: str  # of the Tabular List, as "2027"
    counts: list[tuple[str, int]]  # for people
    texts: list[tuple[str, str, list[ChangedText]]]  # (a file, another, the codes whose texts differ)


def check_official(files: OfficialFiles) -> CheckedCodes:
    """The codes and headings that the Tabular List, the order file and the codes file have alike.

    Billable codes must be the same set in all of them, headings in the first two. Of several order files or codes
    files, the one that agrees is chosen; `files` has it afterwards. Raises InputError that names the codes on which two
    files differ, or the line of a list that is not as it should be.
    """
    tabular, version = _parse_tabular(files["tabular"])
    nodes, billable = tabular["nodes"], set(tabular["billable"])
    headings = code_names(tabular) - billable
    counts = [("Tabular List: billable codes", len(billable)), ("Tabular List: headings", len(headings))]
    lists = _choose_lists(files, {"billable codes": billable, "headings": headings})
    texts = []
    for role, other in (("order", "tabular"), ("codes", "order" if "order" in lists else "tabular")):
        if role in lists:
            rows = lists[role]
            counts.append((f"{TITLES[role]}: billable codes", sum(row.is_billable for row in rows)))
            if role == "order":
                counts.append((f"{TITLES[role]}: headings", sum(not row.is_billable for row in rows)))
            others = {row.code: row.description for row in lists.get(other, ())}
            others = others or {code: nodes[code][0] for code in billable | headings}
            texts.append((TITLES[role], TITLES[other], _different_texts(rows, others)))
    rows = lists.get("order") or [CodeRow(code, False, nodes[code][0]) for code in headings] + lists["codes"]
    if by_prose := sum(row.code not in nodes for row in rows):
        counts.append(("of these, not told by the Tabular List's definitions of 7th characters", by_prose))
    counts += [(f"descriptions that differ: {title}, {other}", len(changed)) for title, other, changed in texts]
    placed = place_codes([*rows], tabular, files["tabular"].place)
    positions = {node: position for position, node in enumerate(placed["nodes"])}
    return CheckedCodes(sorted(rows, key=lambda row: positions[row.code]), placed, version, counts, texts)


def misfits(addenda: bytes, rows: list[CodeRow]) -> list[AddendaRow]:
    """The rows of the order addenda that do not fit the order file: added but not in it, or deleted but still in it."""
    pairs = {(row.code, row.is_billable) for row in rows}
    return [row for row in read_addenda(addenda) if ((row.code, row.is_billable) in pairs) == (row.action == "Delete")]


def _different_texts(rows: Iterable[CodeRow], descriptions: dict[str, str]) -> list[ChangedText]:
    """(code, description in the row, other description) where both have one and they differ by more than accents."""
    return [
        ChangedText(row.code, row.description, descriptions[row.code])
        for row in rows
        if row.code in descriptions and are_different(row.description, descriptions[row.code])
    ]


def _choose_lists(files: OfficialFiles, listed: dict[str, set[str]]) -> dict[str, list[CodeRow]]:
    """The rows of the order file and the codes file among the candidates, by role; `files` has these files afterwards.

    `listed` are the Tabular List's codes by kind. Candidates whose name says what they are go before others. Raises
    InputError for a list that is damaged or does not agree with the Tabular List, for two lists of which none can be
    preferred, and where no list is left.
    """
    lists: dict[str, list[CodeRow]] = {}
    faults = []  # of candidates that are another kind of list
    for role in LISTS:
        candidates = [_read_list(file, listed, files["tabular"]) for file in files.candidates.get(role, [])]
        certain = [candidate for candidate in candidates if candidate.is_certain]
        pool = [candidate for candidate in certain if candidate.file.is_named] or certain or candidates
        chosen = [candidate for candidate in pool if not candidate.fault]
        if len(chosen) > 1 or (certain and len(pool) > 1 and not chosen):
            raise two_files([candidate.file for candidate in chosen or pool])
        if certain and not chosen and pool[0].fault:
            raise pool[0].fault
        for candidate in candidates:
            if candidate in chosen:
                files.files[role], lists[role] = candidate.file, candidate.rows
            else:
                files.not_used.append(f"{candidate.file.place} (not this edition's {TITLES[role]})")
                faults.append(candidate.fault)
    if not lists and faults[0]:
        raise faults[0]
    return lists


@dataclass(frozen=True)
class _Candidate:
    """A list of codes, and why it cannot be used; `is_certain`: whether it is an order file or codes file at all."""

    file: OfficialFile
    rows: list[CodeRow]
    fault: InputError | None
    is_certain: bool


def _read_list(file: OfficialFile, listed: dict[str, set[str]], tabular_file: OfficialFile) -> _Candidate:
    """The list of codes in `file`, compared with the Tabular List.

    Other lists of codes have the columns of a codes file, so that is certain by its name, or by having nearly all
    codes. Raises InputError for a line of a certain one that is not as it should be.
    """
    is_certain = file.role == "order" or file.is_named
    try:
        rows = _READERS[file.role](file.content, file.place)
    except InputError as error:
        if is_certain:
            raise
        return _Candidate(file, [], error, False)
    codes = {
        "billable codes": {row.code for row in rows if row.is_billable},
        "headings": {row.code for row in rows if not row.is_billable},
    }
    billable = listed["billable codes"]
    is_certain = is_certain or len(codes["billable codes"] & billable) > MOST_CODES * len(billable)
    kinds = ["billable codes", "headings"] if file.role == "order" else ["billable codes"]
    fault = next(filter(None, (_mismatch(kind, codes[kind], file, listed[kind], tabular_file) for kind in kinds)), None)
    return _Candidate(file, rows, fault, is_certain)


def _mismatch(
    kind: str, codes: set[str], file: OfficialFile, listed: set[str], tabular_file: OfficialFile
) -> InputError | None:
    """The error that names the `kind` codes which only one of the two files has; None if they have the same."""
    differences = []
    extra = {code for code in codes - listed if not _BY_PROSE.fullmatch(code)}
    for difference, only in ((extra, file), (listed - codes, tabular_file)):
        if difference:
            shown = ", ".join(sorted(difference)[:SHOWN_CODES])
            shown += f", ... ({len(difference):,} in all)" if len(difference) > SHOWN_CODES else ""
            differences.append(f"{kind} only in the {TITLES[only.role]}: {shown}")
    if not differences:
        return None
    return InputError(
        f"{file.place} and {tabular_file.place} disagree: {'; '.join(differences)}; name the archives of one edition"
    )


def _parse_tabular(file: OfficialFile) -> tuple[dict, str]:
    """(the Tabular List in `file` as parse_tabular returns it, its <version>). Raises InputError."""
    root = read_xml(file.content, file.place)
    if any(len(definition.findall("extension")) > MAX_SEVENTH for definition in root.iter("sevenChrDef")):
        raise InputError(f"{file.place}: more than {MAX_SEVENTH} values of one 7th character; {REMEDY}")
    parsed = parse_tabular(root)
    if fault := _tree_fault(parsed, [element_text(diag.find("name")) for diag in root.iter("diag")]):
        raise InputError(f"{file.place}: {fault}; {REMEDY}")
    return parsed, element_text(root.find("version"))


def _tree_fault(parsed: dict, names: list[str]) -> str:
    """What is wrong with a Tabular List as parse_tabular returns it; "" if nothing is. `names` are all <name>s."""
    nodes, notes = parsed["nodes"], parsed["notes"]
    for listed in (names, parsed["billable"]):
        if len(set(listed)) < len(listed):
            return f"{printable(Counter(listed).most_common(1)[0][0][:40]) or 'an empty <name>'} occurs twice"
    if outside := set(names) - nodes.keys():
        return f"{printable(min(outside)[:40])} is in no section"
    for node, (description, _) in nodes.items():
        if not description or not (_CODE.fullmatch(node) or _ABOVE_CODES.fullmatch(node)):
            shown = printable(node[:40]) or "a chapter without <name>"
            return f"{shown}, {printable(description[:40]) or 'without <desc>'}: not a code, section or chapter"
        if node[3:4] == "." and node[:3] not in nodes:  # "below it" is not asked: FY2021 has H54.512A below H54.511
            return f"{node} has no category"
        if UNPRINTABLE.search(description) or "\ufffd" in description:
            return f"control characters, or bytes of no letter, at {node}"
    texts = ((node, text) for node, kinds in notes.items() for kind in kinds.values() for text in kind)
    return next((f"control characters in a note of {node}" for node, text in texts if UNPRINTABLE.search(text)), "")
