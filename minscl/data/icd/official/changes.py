"""What changed between two editions: codes, headings, descriptions, notes.

Read next: check.py, whose edition is compared with the bundled one.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

CodeLists = list[tuple[str, list[str]]]


class ChangedText(NamedTuple):
    """A code that two files or editions describe differently."""

    code: str
    text: str
    other: str


@dataclass(frozen=True)
class EditionChanges:
    """The changes: `codes`, (name of the change, codes) in a fixed order, and how many notes came and went.

    `revised` are the old and new descriptions of the last change.
    """

    codes: CodeLists
    revised: list[ChangedText]
    notes_added: int
    notes_removed: int

    def __bool__(self) -> bool:
        return bool(self.notes_added or self.notes_removed or any(codes for _, codes in self.codes))

    def rows(self) -> list[tuple[str, int]]:
        """(name of the change, number) of every kind of change."""
        numbers = [(name, len(codes)) for name, codes in self.codes]
        return [*numbers, ("notes added", self.notes_added), ("notes removed", self.notes_removed)]


def edition_changes(old: dict, new: dict) -> EditionChanges:
    """From `old` to `new`, both as parse_edition returns them.

    A description counts as revised if it differs by more than accents, which some official files drop. A note counts by
    its code, its kind and its text.
    """
    old_billable, new_billable = set(old["billable"]), set(new["billable"])
    old_headings, new_headings = code_names(old) - old_billable, code_names(new) - new_billable
    old_codes, new_codes = old_billable | old_headings, new_billable | new_headings
    old_nodes, new_nodes = old["nodes"], new["nodes"]
    texts = (ChangedText(code, old_nodes[code][0], new_nodes[code][0]) for code in sorted(old_codes & new_codes))
    revised = [changed for changed in texts if are_different(changed.text, changed.other)]
    codes = {
        "billable codes added": new_billable - old_codes,
        "billable codes deleted": old_billable - new_codes,
        "billable codes that became headings": old_billable & new_headings,
        "headings that became billable": old_headings & new_billable,
        "headings added": new_headings - old_codes,
        "headings deleted": old_headings - new_codes,
        "descriptions revised": {changed.code for changed in revised},
    }
    old_notes, new_notes = _note_counts(old), _note_counts(new)
    return EditionChanges(
        [(name, sorted(changed)) for name, changed in codes.items()],
        revised,
        (new_notes - old_notes).total(),
        (old_notes - new_notes).total(),
    )


def are_different(description: str, other: str) -> bool:
    """Whether two descriptions differ by more than accents, which the order file drops: "Ménière's", "Meniere's"."""
    return description != other and _fold_accents(description) != _fold_accents(other)


def _fold_accents(text: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))


def code_names(parsed: dict) -> set[str]:
    """The codes and headings among the nodes of what parse_edition returns, without chapters and sections."""
    return {name for name in parsed["nodes"] if name[:1].isalpha() and " " not in name}


def _note_counts(parsed: dict) -> Counter:
    """(node, kind of note, text) → how often it occurs."""
    return Counter(
        (node, kind, text) for node, kinds in parsed["notes"].items() for kind, texts in kinds.items() for text in texts
    )
