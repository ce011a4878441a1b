"""The nouns of the method, a frozen dataclass each, with the JSON shape of each record.

A *document* is a note with its codes and their evidence (training data, gold and prediction alike); a *span* pairs one
evidence phrase with one code. Offsets are half-open characters: `text[start:end]` is the evidence.

Read next: jsonl.py, which reads files of them; prompts.py, which turns them into text.
"""

from dataclasses import dataclass

SOURCES = ("gold", "silver", "synthetic", "synthetic-template")


def _take(record, cls, required: dict, optional: dict) -> dict:
    """The fields of `record`, checked for keys and types; raises ValueError naming key and value."""
    if not isinstance(record, dict):
        raise ValueError(f"{cls.__name__}: {str(record)[:60]!r} is not an object")
    unknown = sorted(record.keys() - required.keys() - optional.keys())
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; a {cls.__name__} has {', '.join([*required, *optional])}")
    for name, kind in required.items():
        if name not in record:
            raise ValueError(f"key {name!r} is missing; a {cls.__name__} needs {', '.join(required)}")
    for name, value in record.items():
        kind = {**required, **optional}[name]
        good = isinstance(value, kind) and not (isinstance(value, bool) and bool not in (kind if isinstance(kind, tuple) else (kind,)))
        if not good:
            raise ValueError(f"{name} is {str(value)[:60]!r}; it must be of type {getattr(kind, '__name__', kind)}")
    return record


@dataclass(frozen=True)
class Note:
    id: str
    text: str

    @classmethod
    def from_dict(cls, record):
        return cls(**_take(record, cls, {"id": str, "text": str}, {}))

    def to_dict(self):
        return {"id": self.id, "text": self.text}


@dataclass(frozen=True)
class Evidence:
    """A quotation. start and end are None only where the model's quotation is not in the note (`grounded` False)."""

    text: str
    start: int | None
    end: int | None
    grounded: bool | None = None  # predictions only

    @classmethod
    def from_dict(cls, record):
        number = (int, type(None)) if isinstance(record, dict) and record.get("grounded") is False else int
        return cls(**_take(record, cls, {"text": str, "start": number, "end": number}, {"grounded": bool}))

    def to_dict(self):
        kept = {"text": self.text, "start": self.start, "end": self.end}
        return kept if self.grounded is None else {**kept, "grounded": self.grounded}


@dataclass(frozen=True)
class Assignment:
    """A code with its evidence; `score` is the probability of the code's tokens (predictions only)."""

    code: str
    description: str
    evidence: tuple[Evidence, ...] = ()
    score: float | None = None

    @classmethod
    def from_dict(cls, record):
        kept = _take(record, cls, {"code": str, "description": str, "evidence": list}, {"score": (int, float, type(None))})
        return cls(kept["code"], kept["description"], tuple(map(Evidence.from_dict, kept["evidence"])), kept.get("score"))

    def to_dict(self):
        kept = {"code": self.code, "description": self.description, "evidence": [one.to_dict() for one in self.evidence]}
        return kept if self.score is None else {**kept, "score": self.score}


@dataclass(frozen=True)
class CodedDocument:
    """A note with its codes. Raises ValueError where an offset does not slice to its text."""

    id: str
    text: str
    codes: tuple[Assignment, ...] = ()
    output: str | None = None  # the raw generation (predictions only)
    warnings: tuple[str, ...] | None = None

    def __post_init__(self):
        for one in self.codes:
            for evidence in one.evidence:
                if evidence.start is not None and self.text[evidence.start : evidence.end] != evidence.text:
                    raise ValueError(f"document {self.id}: text[{evidence.start}:{evidence.end}] is not {evidence.text!r}; "
                                     "offsets are half-open characters into text")

    @classmethod
    def from_dict(cls, record):
        kept = _take(record, cls, {"id": str, "text": str, "codes": list}, {"output": (str, type(None)), "warnings": (list, type(None))})
        warnings = kept.get("warnings")
        return cls(kept["id"], kept["text"], tuple(map(Assignment.from_dict, kept["codes"])), kept.get("output"),
                   None if warnings is None else tuple(warnings))

    def to_dict(self):
        kept = {"id": self.id, "text": self.text, "codes": [one.to_dict() for one in self.codes]}
        if self.output is not None:
            kept["output"] = self.output
        return kept if self.warnings is None else {**kept, "warnings": list(self.warnings)}


@dataclass(frozen=True)
class Pair:
    """A span pair (Eq. 5): an evidence phrase and its code."""

    evidence: str
    code: str
    source: str
    count: int = 1  # times seen (silver)
    origin: str = ""  # index path, note ids, nearest code

    def __post_init__(self):
        if self.source not in SOURCES:
            raise ValueError(f"source {self.source!r} is not one of {', '.join(SOURCES)}")

    @classmethod
    def from_dict(cls, record):
        return cls(**_take(record, cls, {"evidence": str, "code": str, "source": str}, {"count": int, "origin": str}))

    def to_dict(self):
        return {"evidence": self.evidence, "code": self.code, "source": self.source, "count": self.count, "origin": self.origin}


@dataclass(frozen=True)
class TextSample:
    """What the model is asked and must answer, as text. kind: document or span."""

    prompt: str
    target: str
    kind: str

    @classmethod
    def from_dict(cls, record):
        return cls(**_take(record, cls, {"prompt": str, "target": str, "kind": str}, {}))

    def to_dict(self):
        return {"prompt": self.prompt, "target": self.target, "kind": self.kind}


@dataclass(frozen=True)
class Sample:
    """The same as tokens: the loss is taken on target_ids, which end with the end-of-turn token."""

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    kind: str | None = None

    def __len__(self):
        return len(self.prompt_ids) + len(self.target_ids)

    @classmethod
    def from_dict(cls, record):
        kept = _take(record, cls, {"prompt_ids": list, "target_ids": list}, {"kind": (str, type(None))})
        return cls(tuple(kept["prompt_ids"]), tuple(kept["target_ids"]), kept.get("kind"))

    def to_dict(self):
        kept = {"prompt_ids": list(self.prompt_ids), "target_ids": list(self.target_ids)}
        return kept if self.kind is None else {**kept, "kind": self.kind}
