"""The nouns of the method, a frozen dataclass each, with the JSON shape of each record.

A *document* is a note with its codes and their evidence (training data, gold and prediction alike, Eq. 4); a *span*
pairs one evidence phrase with one code (Eq. 5). Offsets are half-open characters: `text[start:end]` is the evidence.

`from_dict` checks everything a file can get wrong and raises InputError naming key, value and remedy; the constructors
check nothing, so that code which makes records pays nothing. `to_dict` leaves out optional keys that are None.

Read next: jsonl.py, which reads files of them; prompts.py, which turns them into text.
"""

from dataclasses import dataclass, field

from minscl.errors import InputError

SOURCES = ("gold", "silver", "synthetic", "synthetic-template")  # of span pairs, Eq. 5
KINDS = ("document", "span")  # of samples, Eq. 3


def take(record, cls, required: dict, optional: dict) -> dict:
    """`record` itself, once its keys and the types of its values are right.

    `required` and `optional` map a key to its type. An optional value may also be null. Raises InputError.
    """
    name = cls.__name__
    if not isinstance(record, dict):
        raise InputError(f"{name}: {shown(record)} is not an object; write {{{', '.join(required)}}}")
    allowed = {**required, **optional}
    for key in record.keys() - allowed.keys():
        raise InputError(f"{name}: unknown key {shown(key)}; use only {', '.join(allowed)}")
    for key in required.keys() - record.keys():
        raise InputError(f"{name}: key {key!r} is missing; give {', '.join(required)}")
    for key, value in record.items():
        kind = allowed[key]
        if value is None and key in optional:
            continue
        if not isinstance(value, kind) or (
            isinstance(value, bool) and kind is not bool
        ):  # True is an int to Python, not to us
            raise InputError(f"{name}: {key} is {shown(value)}; it must be a {_JSON_NAMES[kind]}")
        if kind is str and not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise InputError(f"{name}: {key} {shown(value)} holds half of a surrogate pair; write whole characters")
    return record


_JSON_NAMES = {
    str: "string",
    int: "whole number",
    float: "number",
    (int, float): "number",
    bool: "true or false value",
    list: "list",
    dict: "JSON object",
}


def shown(value) -> str:
    """`value` for an error message: quoted, on one line, short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Note:
    """A text to be coded."""

    id: str
    text: str

    @classmethod
    def from_dict(cls, record) -> "Note":
        return cls(**take(record, cls, {"id": str, "text": str}, {}))

    def to_dict(self) -> dict:
        return {"id": self.id, "text": self.text}


@dataclass(frozen=True)
class Evidence:
    """A quotation from a note. `grounded` is for predictions: False, with no offsets, where the note does not hold it."""

    text: str
    start: int | None
    end: int | None
    grounded: bool | None = None

    @classmethod
    def from_dict(cls, record) -> "Evidence":
        loose = isinstance(record, dict) and record.get("grounded") is False
        offset = type(None) if loose else int
        return cls(**take(record, cls, {"text": str, "start": offset, "end": offset}, {"grounded": bool}))

    def to_dict(self) -> dict:
        return _without_none({"text": self.text, "start": self.start, "end": self.end}, grounded=self.grounded)


_JSON_NAMES[type(None)] = "null where grounded is false"


@dataclass(frozen=True)
class Assignment:
    """A code with its evidence. `score` is for predictions: the probability of the code's tokens, 0 to 1."""

    code: str
    description: str
    evidence: tuple[Evidence, ...] = ()
    score: float | None = None

    @classmethod
    def from_dict(cls, record) -> "Assignment":
        kept = take(record, cls, {"code": str, "description": str, "evidence": list}, {"score": (int, float)})
        if not kept["code"].strip():
            raise InputError(f"Assignment: code is {shown(kept['code'])}; give a code or drop the entry")
        score = kept.get("score")
        if score is not None and not 0 <= score <= 1:
            raise InputError(f"Assignment: score of {kept['code']} is {score}; it must lie between 0 and 1")
        return cls(kept["code"], kept["description"], tuple(map(Evidence.from_dict, kept["evidence"])), score)

    def to_dict(self) -> dict:
        return _without_none(
            {"code": self.code, "description": self.description, "evidence": [one.to_dict() for one in self.evidence]},
            score=self.score,
        )


@dataclass(frozen=True)
class CodedDocument:
    """A note with its codes. The rest is for predictions: `output`, the raw generation; `warnings`; `truncated`, how many answers
    (one, or cot-sc's chains) ended at their length limit; `continued`, whether `output` goes on from evidence that was given.
    """

    id: str
    text: str
    codes: tuple[Assignment, ...] = ()
    output: str | None = None
    warnings: tuple[str, ...] | None = None
    truncated: int | None = None
    continued: bool | None = None

    @classmethod
    def from_dict(cls, record) -> "CodedDocument":
        kept = take(
            record,
            cls,
            {"id": str, "text": str, "codes": list},
            {"output": str, "warnings": list, "truncated": int, "continued": bool},
        )
        codes = tuple(map(Assignment.from_dict, kept["codes"]))
        for one in codes:
            for evidence in one.evidence:
                _check_offsets(kept["text"], one.code, evidence)
        warnings = kept.get("warnings")
        for line in warnings or ():
            take({"warning": line}, cls, {"warning": str}, {})
        return cls(
            kept["id"],
            kept["text"],
            codes,
            kept.get("output"),
            None if warnings is None else tuple(warnings),
            kept.get("truncated"),
            kept.get("continued"),
        )

    def to_dict(self) -> dict:
        kept = {"id": self.id, "text": self.text, "codes": [one.to_dict() for one in self.codes]}
        warnings = None if self.warnings is None else list(self.warnings)
        return _without_none(
            kept, output=self.output, warnings=warnings, truncated=self.truncated, continued=self.continued
        )


def _check_offsets(text: str, code: str, evidence: Evidence) -> None:
    start, end = evidence.start, evidence.end
    if start is None:
        return
    if not 0 <= start <= end <= len(text):
        raise InputError(
            f"evidence {shown(evidence.text)} of {code}: offsets {start}:{end} are not within the text's {len(text)} "
            "characters; count half-open characters from 0"
        )
    if text[start:end] != evidence.text:
        raise InputError(
            f"evidence {shown(evidence.text)} of {code}: text[{start}:{end}] is {shown(text[start:end])}; "
            "count half-open characters (not bytes) from 0"
        )


@dataclass(frozen=True)
class Pair:
    """A span pair (Eq. 5): an evidence phrase and its code. `count`: times seen (silver). `origin`: index path, note ids, nearest code."""

    evidence: str
    code: str
    source: str
    count: int = 1
    origin: str = ""

    @classmethod
    def from_dict(cls, record) -> "Pair":
        kept = take(record, cls, {"evidence": str, "code": str, "source": str}, {"count": int, "origin": str})
        pair = cls(**{key: value for key, value in kept.items() if value is not None})
        for key in ("evidence", "code"):
            if not kept[key].strip():
                raise InputError(f"Pair: {key} is {shown(kept[key])}; give text or drop the line")
        if pair.source not in SOURCES:
            raise InputError(f"Pair: source is {shown(pair.source)}; use {', '.join(SOURCES)}")
        if pair.count < 1:
            raise InputError(f"Pair: count is {pair.count}; it must be at least 1")
        return pair

    def to_dict(self) -> dict:
        return {
            "evidence": self.evidence,
            "code": self.code,
            "source": self.source,
            "count": self.count,
            "origin": self.origin,
        }


@dataclass(frozen=True)
class TextSample:
    """What the model is asked and must answer, as text. `name` (document id, or file:line) is for messages; files do not hold it."""

    prompt: str
    target: str
    kind: str
    name: str = field(default="", compare=False)

    @classmethod
    def from_dict(cls, record) -> "TextSample":
        kept = take(record, cls, {"prompt": str, "target": str, "kind": str}, {})
        _check_kind(cls, kept["kind"])
        return cls(**kept)

    def to_dict(self) -> dict:
        return {"prompt": self.prompt, "target": self.target, "kind": self.kind}


@dataclass(frozen=True)
class Sample:
    """The same as token ids; the loss is taken on `target_ids`, whose last is the end-of-turn token. `len()` counts both."""

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    kind: str | None = None
    name: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.target_ids)

    @classmethod
    def from_dict(cls, record) -> "Sample":
        kept = take(record, cls, {"prompt_ids": list, "target_ids": list}, {"kind": str})
        for key in ("prompt_ids", "target_ids"):
            if not kept[key]:
                raise InputError(f"Sample: {key} is empty; a sample needs a prompt and a target")
            for token in kept[key]:
                if type(token) is not int or token < 0:
                    raise InputError(f"Sample: {key} holds {shown(token)}; token ids are whole numbers from 0")
        if kept.get("kind") is not None:
            _check_kind(cls, kept["kind"])
        return cls(tuple(kept["prompt_ids"]), tuple(kept["target_ids"]), kept.get("kind"))

    def to_dict(self) -> dict:
        return _without_none({"prompt_ids": list(self.prompt_ids), "target_ids": list(self.target_ids)}, kind=self.kind)


def _check_kind(cls, kind: str) -> None:
    if kind not in KINDS:
        raise InputError(f"{cls.__name__}: kind is {shown(kind)}; use {' or '.join(KINDS)}")


def _without_none(kept: dict, **optional) -> dict:
    """`kept`, then the optional keys that have a value."""
    return {**kept, **{key: value for key, value in optional.items() if value is not None}}
