"""What is to be decoded for a note: the prompts of its passages as token ids, checked against context and memory.

Read next: passages.py, how a note is cut; engine.py, which decodes the prompts.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from minscl.data.notes import Skip, require_text
from minscl.data.prompts import render_evidence
from minscl.data.record_checks import show_id
from minscl.data.types import Note
from minscl.errors import InputError
from minscl.infer.cache import KVCache
from minscl.infer.constrained import check_max_new_tokens
from minscl.infer.passages import split_passages
from minscl.infer.systems import SCL, System

MAX_NEW_TOKENS = 1024  # an answer of 30 codes with their evidence is about 900 tokens
MAX_CHARACTERS = 1_000_000  # of a note: in passages, some hours on a CPU
FIRST_CHARACTERS = 16  # characters per token of context that are tokenised first of a longer text; a token has about 4
MAX_COMPOSITION = 4  # a tokenizer's normaliser (NFC, NFKC) shortens a text, in bytes, by at most this factor
LOG = logging.getLogger("minscl")


@dataclass(frozen=True)
class Prompt:
    """A passage of a note: its text, at `offset` in the note, its prompt as token ids, its answer's length limit."""

    offset: int
    text: str
    ids: list[int]
    max_new_tokens: int

    @property
    def length(self) -> int:
        """Number of tokens of the prompt and the longest possible answer."""
        return len(self.ids) + self.max_new_tokens


@dataclass(frozen=True)
class Job:
    """A note to be coded: the prompts of its passages, most often one of all of it, and human evidence, if any."""

    note: Note
    prompts: tuple[Prompt, ...]
    evidence: list[str] | None

    @property
    def length(self) -> int:
        """Number of tokens of the longest prompt with its longest possible answer."""
        return max(prompt.length for prompt in self.prompts)


def make_jobs(
    model,
    tokenizer,
    notes: Iterable[Note],
    system: System,
    evidence,
    grounded: bool,
    memory,
    skip: Skip | None,
    passage: int = 0,
) -> list[Job]:
    """A Job for each note that can be coded; arguments and errors as for code_notes."""
    jobs = []
    for note in notes:
        try:
            require_text(note)
            check_characters(note)
            quotations, prompts = evidence.get(note.id), []
            for offset, text in split_passages(note.text, tokenizer, 0 if quotations is not None else passage):
                ids = note_prompt(model, tokenizer, Note(note.id, text), quotations, system)
                prompts.append(Prompt(offset, text, ids, min(MAX_NEW_TOKENS, model.config.context_length - len(ids))))
            job = Job(note, tuple(prompts), quotations)
            check_memory(model, note.id, job.length, memory)
            if grounded:
                for prompt in prompts:
                    check_max_new_tokens(prompt.max_new_tokens)
        except InputError as error:
            if skip is None:
                raise
            skip(note, error)
            continue
        jobs.append(job)
    return jobs


def note_prompt(model, tokenizer, note: Note, evidence: list[str] | None = None, system: System = SCL) -> list[int]:
    """The prompt of a note as token ids; human `evidence` is appended as the beginning of the answer.

    Raises InputError for an empty note and for a prompt that leaves no room for an answer in the model's context.
    """
    require_text(note)
    limit = model.config.context_length
    message = {"role": "user", "content": system.render_prompt(note.text)}
    answer_start = render_evidence(evidence) if evidence is not None else ""
    for name, text in (("note", message["content"]), ("evidence", answer_start)):
        if exceeds_context(model, tokenizer, text):
            raise InputError(
                f"{show_id(note.id)}: the {name} makes a prompt of {len(text):,} characters, more than the model's "
                f"context of {limit:,} tokens holds; split the note or use a model with a longer context"
            )
    prompt = tokenizer.encode_chat([message], add_generation_prompt=True)
    if evidence is not None:
        prompt = prompt + tokenizer.encode_answer_start(answer_start)
    if len(prompt) >= limit:
        raise InputError(
            f"{show_id(note.id)}: the note makes a prompt of {len(prompt):,} tokens, and the model's context holds "
            f"{limit:,} with the answer; split the note or use a model with a longer context"
        )
    return prompt


def check_characters(note: Note) -> None:
    """Raises InputError for a note of more than MAX_CHARACTERS, before it is tokenised and cut into passages."""
    if len(note.text) > MAX_CHARACTERS:
        raise InputError(
            f"{show_id(note.id)}: the note has {len(note.text):,} characters, and at most {MAX_CHARACTERS:,} are coded "
            "at once; split the note"
        )


def exceeds_context(model, tokenizer, text: str) -> bool:
    """Whether `text` certainly has more tokens than the model's context holds; False for a text that may fit.

    A long text is not tokenised as a whole, which would take a hundred times its size in memory. It is too long if its
    beginning has twice as many tokens as fit (where it is cut, a few tokens may differ from those of the whole text),
    or if it has more bytes than a context full of the longest token.
    """
    limit = model.config.context_length
    if len(text) <= FIRST_CHARACTERS * limit:
        return False
    if len(tokenizer.encode(text[: FIRST_CHARACTERS * limit])) > 2 * limit:
        return True
    longest = max(len(piece) for piece in tokenizer.pieces() if piece)  # bytes
    return len(text.encode("utf-8", "surrogatepass")) > MAX_COMPOSITION * longest * limit


def slots_for(model, length: int, slots: int, memory: int | None) -> int:
    """`slots`, or as many slots of `length` tokens as fit into `memory` bytes, with a log message; None: no limit."""
    if memory is None or slots_within(model, length, memory) >= slots:
        return slots
    fitting = slots_within(model, length, memory)
    LOG.warning(
        "minscl: %d answers at a time instead of %d: %.1f GB are available for keys and values, and the longest note "
        "needs %d tokens with its answer",
        fitting,
        slots,
        memory / 1e9,
        length,
    )
    return fitting


def slots_within(model, length: int, memory: int) -> int:
    """How many slots of `length` tokens, prompt included, fit into `memory` bytes of keys and values."""
    return memory // slot_bytes(model, length)


def slot_bytes(model, length: int) -> int:
    """Bytes of the keys and values of `length` tokens."""
    return KVCache.bytes_per_slot(model.config, length, model.model.embed_tokens.weight.dtype)


def check_memory(model, note_id: str, length: int, memory: int | None) -> None:
    """Raises InputError where keys and values of `length` tokens need more than `memory` bytes; None: no limit."""
    if memory is not None and not slots_within(model, length, memory):
        raise InputError(
            f"{show_id(note_id)}: the note needs {slot_bytes(model, length) / 2**20:,.0f} MiB for the keys and values "
            f"of {length:,} tokens, and {memory / 2**20:,.0f} MiB are available; raise --memory, or split the note"
        )
