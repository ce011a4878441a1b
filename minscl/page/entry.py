"""A decision of a coder: who did what to a document, when, and the part of its state that changed.

    machine's document, then `after` of each entry in order → the state under review

Entries come from a browser and are read back months later, so every member is checked; messages never have text.

Read next: journal.py, which keeps them; static/state.js, which makes and folds them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypedDict

from minscl.data.record_checks import checked_record, checked_texts
from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError, describe_value
from minscl.page.answer import read_answer

ACTS = (
    *("accept", "reject", "undecide", "add-code", "change-code", "add-evidence", "remove-evidence", "principal"),
    *("present-on-admission", "move", "code-again", "finish", "reopen", "undo", "redo"),
)
DECISIONS = ("undecided", "accepted", "rejected")
PRESENT_ON_ADMISSION = ("Y", "N", "U", "W", "exempt")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MAX_NAME = 200  # characters of an entry's id, a key and the reviewer's name


class Item(TypedDict):
    """A code under review: an Assignment, and what the coder decided about it."""

    key: str
    code: str
    description: str
    evidence: list[dict[str, Any]]
    score: float | None
    rules: list[str] | None
    decision: str
    added: bool
    principal: bool
    poa: str | None


class Change(TypedDict, total=False):
    """The members of a document's state that an act changed; an item that is null is not there.

    `answer`: the machine's latest (answer.py), null before the first; `evidence`: quotations without a code.
    """

    codes: dict[str, Item | None]
    order: list[str]
    finished: bool
    answer: dict[str, Any] | None
    evidence: list[dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A line of the journal. `undoes`: the id of the entry that an undo or a redo takes back."""

    entry: str
    at: str
    who: str
    document: str
    act: str
    code: str | None
    before: Change
    after: Change
    undoes: str | None

    @classmethod
    def from_dict(cls, record) -> "Entry":
        """The entry in `record`; raises InputError."""
        required = {"entry": str, "at": str, "who": str, "document": str, "act": str, "before": dict, "after": dict}
        checked_record(record, cls, required, {"code": str, "undoes": str})
        if record["act"] not in ACTS:
            raise InputError(f"Entry: act is none of {', '.join(ACTS)}; reload the page")
        if not TIME.fullmatch(record["at"]):
            raise InputError("Entry: at is no time such as 2026-11-26T23:30:05.123Z; reload the page")
        if not record["entry"] or max(map(len, (record["entry"], record["who"], record.get("code") or ""))) > MAX_NAME:
            raise InputError(f"Entry: an id is missing, or one or a name is longer than {MAX_NAME} characters")
        for change in (record["before"], record["after"]):
            check_change(change)
        return cls(**{"code": None, "undoes": None, **record})

    def to_dict(self) -> dict[str, Any]:
        """The JSON object, with every key, `entry` first: so the journal knows the beginning of a torn line."""
        return {**vars(self)}


def items_of(change: Change) -> Iterator[Item]:
    """The items of a change, without those that are not there."""
    return (item for item in change.get("codes", {}).values() if item is not None)


def check_change(change: Change) -> None:
    """Raises InputError where `change` has other members or values than Change and Item allow."""
    members = {"codes": dict, "order": list, "finished": bool, "answer": dict, "evidence": list}
    checked_record(change, Change, {}, members)
    if any(value is None for name, value in change.items() if name != "answer"):
        raise InputError("Change: a member is null; leave it out")
    checked_texts(change.get("order"), Change, "order")
    for key, item in change.get("codes", {}).items():
        if item is not None:
            check_item(item)
        if not 0 < len(key) <= MAX_NAME or (item is not None and item["key"] != key):
            raise InputError("Change: an item is not under its own key; reload the page")


def check_item(item: Item) -> None:
    """Raises InputError where `item` is not as Item says."""
    required = {"key": str, "code": str, "description": str, "evidence": list, "decision": str}
    required |= {"added": bool, "principal": bool}  # type: ignore[dict-item]
    checked_record(item, Item, required, {"score": (int, float), "rules": list, "poa": str})
    Assignment.from_dict(as_assignment(item))
    if item["decision"] not in DECISIONS or item.get("poa") not in (None, *PRESENT_ON_ADMISSION):
        raise InputError(
            f"Item: decision is {describe_value(item['decision'])}, poa {describe_value(item.get('poa'))}; "
            f"use {', '.join(DECISIONS)}, and null, {', '.join(PRESENT_ON_ADMISSION)}"
        )


def as_assignment(item: Item) -> dict[str, Any]:
    """The JSON object of the Assignment in `item`."""
    keys = ("code", "description", "evidence", "score", "rules")
    return {key: value for key, value in item.items() if key in keys}


def check_evidence(entry: Entry, text: str) -> None:
    """Raises InputError where evidence of `entry` is not what `text`, the note's, has at its offsets."""
    changes = (entry.before, entry.after)
    codes = [as_assignment(item) for change in changes for item in items_of(change)]
    # quotations without a code are checked as those of any code
    codes += [{"code": "none", "description": "", "evidence": change.get("evidence", [])} for change in changes]
    CodedDocument.from_dict({"id": entry.document, "text": text, "codes": codes})
    for change in changes:
        if answer := change.get("answer"):
            read_answer(answer, entry.document, text)
