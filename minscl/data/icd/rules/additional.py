"""Use additional code, code also: notes that ask for a further code. All are informational.

The lines of a node fall into groups: a line that names no code ("code to identify:") opens one, and the lines with
codes below it belong to it. A group is met when the document has one of its codes. One that names no code cannot be
checked: it is passed on as it stands.

Read next: checking.py.
"""

import functools
from dataclasses import dataclass, replace

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.finding import CODE_ALSO, USE_ADDITIONAL, Finding, is_wide, place_name
from minscl.data.icd.rules.note_index import node_path, note_index
from minscl.data.icd.rules.references import Reference
from minscl.data.icd.rules.validity import in_canonical_form

_KINDS = {USE_ADDITIONAL: "useAdditionalCode", CODE_ALSO: "codeAlso"}
_SHOWN = 6  # codes, or ranges of them, in a message


@dataclass(frozen=True)
class _Group:
    """`sentence`: its first line. `scope`: the only codes it is for, as in "for codes G31.0-G31.83 ...:"."""

    sentence: str
    numbers: tuple[int, ...]
    scope: Reference | None = None


@functools.lru_cache(maxsize=8)  # four books, two kinds
def _groups(book: CodeBook, kind: str) -> dict[str, list[_Group]]:
    """Node → the groups of its notes."""
    groups: dict[str, list[_Group]] = {}
    for number, note in enumerate(note_index(book, kind).notes):
        at_node = groups.setdefault(note.node, [])
        text, reference = note.text, note.reference
        opens_list = text.rstrip().endswith(":")
        if opens_list and reference.patterns:
            at_node.append(_Group(text, (), reference))
        elif not reference.patterns:
            at_node.append(_Group(text, ()))
        elif (
            at_node and at_node[-1].sentence.rstrip().endswith(":") and not text.startswith(("code", "external cause"))
        ):
            at_node[-1] = replace(at_node[-1], numbers=(*at_node[-1].numbers, number))
        else:
            at_node.append(_Group(text, (number,)))
    return groups


def additional_codes(codes: list[str], book: CodeBook, rule: str) -> list[Finding]:
    """What the notes of one rule (USE_ADDITIONAL, CODE_ALSO) ask for and the document lacks, each note once."""
    codes = in_canonical_form(codes, book)
    index, groups = note_index(book, _KINDS[rule]), _groups(book, _KINDS[rule])
    present = frozenset().union(*map(index.naming, codes))
    carriers: dict[tuple[str, int], list[str]] = {}
    for code in codes:
        for node in node_path(code, book):
            for place, group in enumerate(groups.get(node, ())):
                if present.isdisjoint(group.numbers) and (not group.scope or group.scope.covers(code, book)):
                    carriers.setdefault((node, place), []).append(code)
    findings = []
    for (node, place), carrying in carriers.items():
        group = groups[node][place]
        printed = ", ".join(index.notes[number].reference.printed for number in group.numbers)
        named = list(dict.fromkeys(printed.split(", ")))
        shown = ", ".join(named[:_SHOWN]) + (" ..." if len(named) > _SHOWN else "")
        remedy = f"add {shown or 'it'} where documented"
        sentence = group.sentence.removeprefix(", ")
        where = place_name(node, book)
        findings.append(Finding(rule, tuple(carrying), remedy, sentence, where, informational=True, wide=is_wide(node)))
    return findings
