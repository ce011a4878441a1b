"""The answers of an LLM, as they are logged: one record per code of a note in stage 1 (Eq. 7), per code in the others.

`prompt` is a digest: a logged answer counts for exactly the same prompt (asking.prompt_digest).

Read next: silver.py, synthetic.py.
"""

from dataclasses import asdict, dataclass
from typing import Any

from minscl.data.record_checks import checked_record
from minscl.errors import InputError


@dataclass(frozen=True)
class StageOneAnswer:
    """Stage 1's answer for one code of one note.

    `evidence`: quotations as spelt in the note; `rejected`: number of lines that are not in the note; `too_long`: of
    lines that are in it but too long for a phrase; `answered`: False where the note did not fit in the LLM's context.
    """

    note: str
    code: str
    prompt: str  # digest
    evidence: tuple[str, ...]
    rejected: int
    too_long: int
    llm: str
    answered: bool = True

    @classmethod
    def from_dict(cls, record) -> "StageOneAnswer":
        """The answer in `record`, a line of the log; raises InputError."""
        return cls(**answer_fields(record, cls, {"note": str, "rejected": int, "too_long": int, "answered": bool}))

    def to_dict(self) -> dict:
        """The JSON object."""
        return asdict(self)

    @property
    def key(self) -> tuple[str, str, str]:
        """Look-up key of the answer in the log."""
        return self.note, self.code, self.prompt


@dataclass(frozen=True)
class StageTwoAnswer:
    """Stage 2's answer for one code: the chosen candidates, and how many lines were no candidate."""

    code: str
    prompt: str  # digest
    evidence: tuple[str, ...]
    rejected: int
    llm: str

    @classmethod
    def from_dict(cls, record) -> "StageTwoAnswer":
        """The answer in `record`, a line of the log; raises InputError."""
        return cls(**answer_fields(record, cls, {"rejected": int}))

    def to_dict(self) -> dict:
        """The JSON object."""
        return asdict(self)

    @property
    def key(self) -> tuple[str, str]:
        """Look-up key of the answer in the log."""
        return self.code, self.prompt


@dataclass(frozen=True)
class SyntheticAnswer:
    """An LLM's answer for one code: its phrases, unchecked."""

    code: str
    prompt: str  # digest
    evidence: tuple[str, ...]
    llm: str

    @classmethod
    def from_dict(cls, record) -> "SyntheticAnswer":
        """The answer in `record`, a line of the log; raises InputError."""
        return cls(**answer_fields(record, cls, {}))

    def to_dict(self) -> dict:
        """The JSON object."""
        return asdict(self)

    @property
    def key(self) -> tuple[str, str]:
        """Look-up key of the answer in the log."""
        return self.code, self.prompt


def answer_fields(record, cls: type, required: dict[str, type]) -> dict[str, Any]:
    """The checked fields of a logged answer: `required`, and those that every answer has. Raises InputError."""
    if isinstance(record, dict) and "prompt" not in record:
        raise InputError(
            f"{cls.__name__}: key 'prompt' is missing: an older version's answer, to an unknown prompt; delete the file"
        )
    fields = checked_record(record, cls, {"code": str, "prompt": str, "evidence": list, "llm": str, **required}, {})
    for phrase in fields["evidence"]:
        checked_record({"evidence": phrase}, cls, {"evidence": str}, {})
    return {**fields, "evidence": tuple(fields["evidence"])}
