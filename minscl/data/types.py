"""The records of the method, one frozen dataclass each, with their JSON form.

A *document* is a note with its codes and their evidence (training data, gold and prediction alike, Eq. 4); a *span
pair* is one evidence phrase with one code (Eq. 5). Offsets are half-open characters: `text[start:end]` is the
evidence.

`from_dict` validates everything that can be wrong in a file and raises InputError naming key, value and remedy.
Constructors do not validate, so building records in code costs nothing. `to_dict` omits optional keys that are None.

Read next: sample_types.py, the records that are trained on; jsonl.py, which reads files of records; prompts.py, which
turns them into text.
"""

import re
from dataclasses import dataclass

from minscl.data.assertion import STATUSES
from minscl.data.record_checks import checked_record, checked_texts, show_code, with_optional
from minscl.errors import InputError, describe_value

SOURCES = ("gold", "silver", "synthetic", "synthetic-template")  # of span pairs, Eq. 5
MAX_PHRASE = 10_000  # characters of a span pair's evidence


@dataclass(frozen=True)
class Note:
    """A text to be coded."""

    id: str
    text: str

    @classmethod
    def from_dict(cls, record) -> "Note":
        """The note in `record`; raises InputError."""
        return cls(**checked_record(record, cls, {"id": str, "text": str}, {}))

    def to_dict(self) -> dict:
        """The JSON object."""
        return {"id": self.id, "text": self.text}


@dataclass(frozen=True)
class Evidence:
    """A quotation with its half-open character offsets in the note.

    Set on predictions only: `grounded`, False where the note does not have the quotation, whose `start` and `end` are
    None; `assertion`, what the note says of it, one of assertion.STATUSES.
    """

    text: str
    start: int | None
    end: int | None
    grounded: bool | None = None
    assertion: str | None = None

    @classmethod
    def from_dict(cls, record) -> "Evidence":
        """The evidence in `record`; raises InputError. CodedDocument.from_dict checks its offsets."""
        ungrounded = isinstance(record, dict) and record.get("grounded") is False
        offset = type(None) if ungrounded else int
        optional = {"grounded": bool, "assertion": str}
        fields = checked_record(record, cls, {"text": str, "start": offset, "end": offset}, optional)
        if fields.get("assertion") not in (None, *STATUSES):
            raise InputError(f"Evidence: assertion is none of {', '.join(STATUSES)}; leave it out")
        return cls(**fields)

    def to_dict(self) -> dict:
        """The JSON object; `grounded` and `assertion` only where they are set."""
        fields = {"text": self.text, "start": self.start, "end": self.end}
        return with_optional(fields, grounded=self.grounded, assertion=self.assertion)


@dataclass(frozen=True)
class Assignment:
    """A code with its evidence.

    Set on predictions only: `score`, the probability of the code's tokens, 0 to 1; `rules`, what the Tabular List says
    about the code beside the document's others, as sentences (icd/rules/).
    """

    code: str
    description: str
    evidence: tuple[Evidence, ...] = ()
    score: float | None = None
    rules: tuple[str, ...] | None = None

    @classmethod
    def from_dict(cls, record) -> "Assignment":
        """The assignment in `record`; raises InputError, also for a blank code or a score outside 0 to 1."""
        required = {"code": str, "description": str, "evidence": list}
        fields = checked_record(record, cls, required, {"score": (int, float), "rules": list})
        if not fields["code"].strip():
            raise InputError("Assignment: code is blank; give a code or drop the entry")
        score = fields.get("score")
        if score is not None and not 0 <= score <= 1:
            raise InputError(
                f"Assignment: score of {show_code(fields['code'])} is not a number from 0 to 1; score it again"
            )
        rules = checked_texts(fields.get("rules"), cls, "rules")
        evidence = tuple(map(Evidence.from_dict, fields["evidence"]))
        return cls(fields["code"], fields["description"], evidence, score, rules)

    def to_dict(self) -> dict:
        """The JSON object; `score` and `rules` only where they are set."""
        evidence = [quotation.to_dict() for quotation in self.evidence]
        return with_optional(
            {"code": self.code, "description": self.description, "evidence": evidence},
            score=self.score,
            rules=None if self.rules is None else list(self.rules),
        )


@dataclass(frozen=True)
class CodedDocument:
    """A note with its codes.

    Set on predictions only: `output`, the raw generation; `warnings`; `truncated`, how many answers (one, or the
    chains of cot-sc) stopped at their length limit; `continued`, whether `output` continues from evidence supplied by
    the user; `edition`, the code set, and `date`, the date of service that selected it, if one was named;
    `coded_with`, the settings of `generate` that determine the codes (name → text).
    """

    id: str
    text: str
    codes: tuple[Assignment, ...] = ()
    output: str | None = None
    warnings: tuple[str, ...] | None = None
    truncated: int | None = None
    continued: bool | None = None
    edition: str | None = None
    date: str | None = None
    coded_with: dict[str, str] | None = None

    @classmethod
    def from_dict(cls, record) -> "CodedDocument":
        """The document in `record`; raises InputError, also for evidence that is not the text at its offsets."""
        optional = {"output": str, "warnings": list, "truncated": int, "continued": bool, "edition": str, "date": str}
        optional["coded_with"] = dict
        fields = checked_record(record, cls, {"id": str, "text": str, "codes": list}, optional)
        codes = tuple(map(Assignment.from_dict, fields["codes"]))
        for assignment in codes:
            for evidence in assignment.evidence:
                _check_offsets(fields["text"], assignment.code, evidence)
        if (fields.get("truncated") or 0) < 0:
            raise InputError("CodedDocument: truncated is below 0; give how many answers stopped at their length limit")
        for key, shape in (("edition", r"[\w.-]{1,80}"), ("date", r"\d{4}-\d\d-\d\d")):
            if fields.get(key) is not None and not re.fullmatch(shape, fields[key]):
                raise InputError(f"CodedDocument: {key} is not as generate writes it, such as 2027 or 2026-10-01")
        warnings = checked_texts(fields.get("warnings"), cls, "warnings")
        for value in (fields.get("coded_with") or {}).values():
            checked_record({"coded_with": value}, cls, {"coded_with": str}, {})
        return cls(**{**fields, "codes": codes, "warnings": warnings})

    def to_dict(self) -> dict:
        """The JSON object; the keys of predictions only where they are set."""
        return with_optional(
            {"id": self.id, "text": self.text, "codes": [assignment.to_dict() for assignment in self.codes]},
            output=self.output,
            warnings=None if self.warnings is None else list(self.warnings),
            truncated=self.truncated,
            continued=self.continued,
            edition=self.edition,
            date=self.date,
            coded_with=self.coded_with,
        )


def _check_offsets(text: str, code: str, evidence: Evidence) -> None:
    start, end = evidence.start, evidence.end
    if start is None or end is None:
        return
    if not 0 <= start <= end <= len(text):
        raise InputError(
            f"evidence of {show_code(code)}: its offsets are not within the text's {len(text):,} characters; "
            "count half-open characters from 0"
        )
    if text[start:end] != evidence.text:
        raise InputError(
            f"evidence of {show_code(code)}: the text at {start}:{end} is not the evidence's; "
            "count half-open characters (not bytes) from 0"
        )


@dataclass(frozen=True)
class Pair:
    """A span pair (Eq. 5): an evidence phrase and its code.

    `source` is one of SOURCES; `count`, how often it was seen (silver); `origin`, index path, note ids or nearest code.
    """

    evidence: str
    code: str
    source: str
    count: int = 1
    origin: str = ""

    @classmethod
    def from_dict(cls, record) -> "Pair":
        """The pair in `record`; raises InputError, also for blank text, an unknown source or a count below 1."""
        required = {"evidence": str, "code": str, "source": str}
        fields = checked_record(record, cls, required, {"count": int, "origin": str})
        if len(fields["evidence"]) > MAX_PHRASE:
            raise InputError(f"Pair: evidence has over {MAX_PHRASE:,} characters, so it is no phrase; drop the line")
        pair = cls(**{key: value for key, value in fields.items() if value is not None})
        for key in ("evidence", "code"):
            if not fields[key].strip():
                raise InputError(f"Pair: {key} is blank; give text or drop the line")
        if pair.source not in SOURCES:
            raise InputError(
                f"Pair: source is {describe_value(pair.source)} but none of {', '.join(SOURCES)}; use one of them"
            )
        if pair.count < 1:
            raise InputError("Pair: count is below 1; give how often the pair was seen")
        return pair

    def to_dict(self) -> dict:
        """The JSON object, with every key."""
        return {
            "evidence": self.evidence,
            "code": self.code,
            "source": self.source,
            "count": self.count,
            "origin": self.origin,
        }
