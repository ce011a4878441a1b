"""Coding a note: note → prompt → tokens → text → evidence and codes → located in the note (Eq. 1).

    x → E → C,  p(C, E | x) = p(E | x) p(C | x, E)

One generation writes both: the evidence lines, then the codes that refer to them. With human evidence ("+ Evid." in
Table 1) the evidence section is the beginning of the answer, appended to the prompt, and only p(C | x, E) is generated.
The baselines (systems/) take the same path.

Read next: systems/scl.py and data/prompts.py for the prompt, engine.py for the tokens, answer.py, which parses them.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from minscl.data.calibration import Calibration, threshold
from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip
from minscl.data.prompts import render_evidence
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.infer import BATCH_SIZE
from minscl.infer.answer import filter_by_score, read_answer
from minscl.infer.cache import KVCache
from minscl.infer.constrained import Guide, check_max_new_tokens
from minscl.infer.engine import Engine, Request
from minscl.infer.sequence import Generation
from minscl.infer.speculate import Drafter
from minscl.infer.systems import SCL, System, count_votes

MAX_NEW_TOKENS = 1024  # an answer of 30 codes with their evidence is about 900 tokens
FIRST_CHARACTERS = 16  # per token of the context, tokenised first of a longer text; a token has about 4
MAX_COMPOSITION = 4  # a tokenizer's normaliser (NFC, NFKC) shortens a text, in bytes, by at most this factor
LOG = logging.getLogger("minscl")


@dataclass(frozen=True)
class Job:
    """A note to be coded: its prompt as token ids, the length limit of its answer, and human evidence, if any."""

    note: Note
    prompt: list[int]
    max_new_tokens: int
    evidence: list[str] | None

    @property
    def length(self) -> int:
        """Number of tokens of the prompt and the longest possible answer."""
        return len(self.prompt) + self.max_new_tokens


def code_note(
    model,
    tokenizer,
    text: str,
    *,
    evidence: list[str] | None = None,
    grounded: bool = False,
    codebook: CodeBook | None = None,
    calibration: Calibration | None = None,
) -> CodedDocument:
    """Code one note: the paper's plain generation with raw scores, unless the arguments say otherwise.

    `python -m minscl.generate` is `grounded` and calibrated by default; this function leaves both to its caller.

    `evidence`: human quotations, in document order, in place of the model's. `grounded`: constrained decoding, so that
    only quotations from the note and billable codes with evidence can be written (constrained.py). `codebook`: the code
    set, which the result is checked against (data/checks.py); None: the default edition. `calibration`: that of this
    decoding of the model (pretrained.load_calibration); scores become calibrated ones, and codes below its threshold
    are left out. Raises InputError for an empty note and for one that does not fit in the model's context.
    """
    by_note = {"note": evidence} if evidence is not None else None
    documents = code_notes(
        model,
        tokenizer,
        [Note("note", text)],
        evidence=by_note,
        grounded=grounded,
        codebook=codebook,
        calibration=calibration,
    )
    return next(documents)


def code_notes(
    model,
    tokenizer,
    notes: Iterable[Note],
    *,
    system: System = SCL,
    evidence: dict[str, list[str]] | None = None,
    grounded: bool = False,
    batch_size: int = BATCH_SIZE,
    memory: int | None = None,
    cuda_graphs: bool = False,
    skip: Skip | None = None,
    codebook: CodeBook | None = None,
    calibration: Calibration | None = None,
    min_score: float | None = None,
) -> Iterator[CodedDocument]:
    """Code many notes; yields a CodedDocument per note, in order, each as soon as it and all before it are finished.

    `evidence` maps note ids to human quotations; it and `grounded` are for SCL only. At most `batch_size` answers are
    decoded together, fewer where `memory` bytes of keys and values do not allow as many. `cuda_graphs`: as for Engine.
    A note that cannot be coded is passed to `skip(note, error)` and left out; without `skip`, InputError is raised
    before any note is coded. `codebook` and `calibration` as for code_note; codes that score less than `min_score` (0
    to 1; None: the calibration's, 0 without one) are left out before the document is checked against the code set.
    Logits that are not finite raise InputError, since no other note would fare better.
    """
    if batch_size < 1:
        raise InputError(f"batch_size = {batch_size}: give at least 1")
    if not system.names_evidence and (evidence or grounded):
        raise InputError(f"--system {system.name}: names no evidence, so leave out --evidence and --grounded")
    jobs = make_jobs(model, tokenizer, notes, system, evidence or {}, grounded, memory, skip)
    if not jobs:
        return
    book = codebook or CodeBook.load()
    length = max(job.length for job in jobs)
    slots = slots_for(model, length, min(batch_size, len(jobs) * system.chains), memory)
    engine = Engine(
        model,
        slots=slots,
        length=length,
        stop_ids=tokenizer.stop_ids,
        cuda_graphs=cuda_graphs,
    )
    # With several answers at once the machine is busy enough without draft tokens.
    speculate = slots == 1 and not cuda_graphs and system.names_evidence
    requests = make_requests(tokenizer, jobs, system, grounded, speculate, book)
    for job, answers in zip(jobs, in_order(engine.run(requests), system.chains), strict=True):
        if system.chains == 1:
            document = read_answer(job.note, answers[0], tokenizer, job.evidence, system, book)
        else:
            document = count_votes(job.note, answers, tokenizer, book)
        if calibration:
            document = calibration.apply(document)
        yield check_document(filter_by_score(document, threshold(calibration, min_score)), book)


def make_requests(
    tokenizer, jobs: Iterable[Job], system: System, grounded: bool, speculate: bool, codebook: CodeBook
) -> Iterator[Request]:
    """The requests of all jobs, `system.chains` for each; guides and drafters are created on demand."""
    for job in jobs:
        for chain in range(system.chains):
            constraint = (job.note.text, job.max_new_tokens, job.evidence, codebook, system.reference_first)
            guide = Guide(tokenizer, *constraint) if grounded else None
            drafter = Drafter(tokenizer, job.prompt, codebook) if speculate else None
            sampler = system.sampler(job.note.id, chain)
            yield Request(job.prompt, job.max_new_tokens, guide, drafter, sampler, show_id(job.note.id))


def in_order(results: Iterable[tuple[int, Generation]], chains: int) -> Iterator[list[Generation]]:
    """(number of the request, answer) in any order → each job's `chains` answers in the jobs' order, without delay."""
    answers: dict[int, Generation] = {}
    first = 0  # number of the next job's first request
    for number, answer in results:
        answers[number] = answer
        while all(first + chain in answers for chain in range(chains)):
            yield [answers.pop(first + chain) for chain in range(chains)]
            first += chains


def make_jobs(
    model, tokenizer, notes: Iterable[Note], system: System, evidence, grounded: bool, memory, skip: Skip | None
) -> list[Job]:
    """A Job for each note that can be coded; arguments and errors as for code_notes."""
    jobs = []
    for note in notes:
        try:
            prompt = note_prompt(model, tokenizer, note, evidence.get(note.id), system)
            max_new_tokens = min(MAX_NEW_TOKENS, model.config.context_length - len(prompt))
            job = Job(note, prompt, max_new_tokens, evidence.get(note.id))
            check_memory(model, note.id, job.length, memory)
            if grounded:
                check_max_new_tokens(max_new_tokens)
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
    if not note.text.strip():
        raise InputError(f"{show_id(note.id)}: the note is empty; give a note with text")
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


def exceeds_context(model, tokenizer, text: str) -> bool:
    """Whether `text` is so long that it certainly has more tokens than the model's context holds.

    Told without tokenising all of it, which takes a hundred bytes of memory for each of the text: by a beginning that
    has twice as many tokens (where it is cut, a few may differ from those of the whole text), or by more bytes than
    that many of the longest token have. False for a text that may fit.
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
