"""The records that are trained on (Eq. 3): a sample as text and as token ids, with their JSON form.

As in types.py, `from_dict` validates and constructors do not.

Read next: samples.py, which makes them of documents and span pairs.
"""

from dataclasses import dataclass, field

from minscl.data.record_checks import checked_record, with_optional
from minscl.errors import InputError, describe_value

KINDS = ("document", "span")


@dataclass(frozen=True)
class TextSample:
    """A training sample as text. `name` (document id, or file:line) appears in messages and is not written to files."""

    prompt: str
    target: str
    kind: str
    name: str = field(default="", compare=False)

    @classmethod
    def from_dict(cls, record) -> "TextSample":
        """The sample in `record`; raises InputError."""
        fields = checked_record(record, cls, {"prompt": str, "target": str, "kind": str}, {})
        _check_kind(cls, fields["kind"])
        return cls(**fields)

    def to_dict(self) -> dict:
        """The JSON object, without `name`."""
        return {"prompt": self.prompt, "target": self.target, "kind": self.kind}


@dataclass(frozen=True)
class Sample:
    """A training sample as token ids. The loss covers `target_ids`, which end with the end-of-turn token.

    `len(sample)` is the number of tokens, prompt and target together.
    """

    prompt_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    kind: str | None = None
    name: str = field(default="", compare=False)

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.target_ids)

    @classmethod
    def from_dict(cls, record) -> "Sample":
        """The sample in `record`; raises InputError, also for an empty side or a negative id."""
        fields = checked_record(record, cls, {"prompt_ids": list, "target_ids": list}, {"kind": str})
        for key in ("prompt_ids", "target_ids"):
            if not fields[key]:
                raise InputError(f"Sample: {key} is empty; a sample needs a prompt and a target")
            for token in fields[key]:
                if type(token) is not int or token < 0:
                    raise InputError(f"Sample: {key} holds {describe_value(token)}; token ids are whole numbers from 0")
        if fields.get("kind") is not None:
            _check_kind(cls, fields["kind"])
        return cls(tuple(fields["prompt_ids"]), tuple(fields["target_ids"]), fields.get("kind"))

    def to_dict(self) -> dict:
        """The JSON object, without `name`; `kind` only where it is set."""
        return with_optional({"prompt_ids": list(self.prompt_ids), "target_ids": list(self.target_ids)}, kind=self.kind)


def _check_kind(cls, kind: str) -> None:
    if kind not in KINDS:
        raise InputError(f"{cls.__name__}: kind is none of {', '.join(KINDS)}; use one of them")
