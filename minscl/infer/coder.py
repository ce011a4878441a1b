"""Coding a note: note → prompt → tokens → text → evidence and codes → located in the note (Eq. 1).

    x → E → C,  p(C, E | x) = p(E | x) p(C | x, E)

One generation writes both: the evidence lines, then the codes that refer to them. With human evidence ("+ Evid." in
Table 1) the evidence section is the beginning of the answer, appended to the prompt, and only p(C | x, E) is generated.
The baselines (systems/) take the same path.

Read next: systems/scl.py and data/prompts.py for the prompt, jobs.py, engine.py for the tokens, answer.py, which parses
them.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from minscl.data.calibration import Calibration, passage_length
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.infer import BATCH_SIZE
from minscl.infer.answer import finish_document, read_answer
from minscl.infer.compiled_step import MAX_SLOTS, choose_compile
from minscl.infer.constrained import Guide
from minscl.infer.engine import Engine, OnTokens, Request
from minscl.infer.jobs import Job, make_jobs, slots_for
from minscl.infer.passages import join_passages
from minscl.infer.sequence import Generation
from minscl.infer.speculate import Drafter
from minscl.infer.systems import SCL, System, count_votes


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
    compile: str = "off",
    skip: Skip | None = None,
    codebook: CodeBook | None = None,
    calibration: Calibration | None = None,
    min_score: float | None = None,
    passage: int | None = None,
    on_tokens: OnTokens | None = None,
) -> Iterator[CodedDocument]:
    """Code many notes; yields a CodedDocument per note, in order, each as soon as it and all before it are finished.

    `evidence` maps note ids to human quotations; it and `grounded` are for SCL only. At most `batch_size` answers are
    decoded together, fewer where `memory` bytes of keys and values do not allow as many. `compile`: auto, on or off
    (compiled_step.py, choose_compile).
    A note that cannot be coded is passed to `skip(note, error)` and left out; without `skip`, InputError is raised
    before any note is coded. `codebook` and `calibration` as for code_note; codes that score less than `min_score` (0
    to 1; None: the calibration's, 0 without one) are left out before the document is checked against the code set.
    `passage`: a longer note is coded in passages of at most that many tokens (passages.py), except from human evidence;
    0: all of it at once; None: as the calibration was fitted, 0 without one.
    `on_tokens`: as for Engine; the requests are the passages of all notes, in order.
    Logits that are not finite raise InputError, since no other note would fare better.
    """
    if batch_size < 1:
        raise InputError(f"batch_size = {batch_size}: give at least 1")
    if not system.names_evidence and (evidence or grounded or passage):
        raise InputError(
            f"--system {system.name}: names no evidence, so leave out --evidence, --grounded and --passage"
        )
    passage = passage_length(calibration, passage)
    jobs = make_jobs(model, tokenizer, notes, system, evidence or {}, grounded, memory, skip, passage)
    if not jobs:
        return
    book = codebook or CodeBook.load()
    answers_per_job = [system.chains * len(job.prompts) for job in jobs]
    length = max(job.length for job in jobs)
    slots, compiled = plan_engine(model, sum(answers_per_job), length, batch_size, memory, compile)
    engine = Engine(
        model, slots=slots, length=length, stop_ids=tokenizer.stop_ids, compile=compiled, on_tokens=on_tokens
    )
    # With several answers at once the machine is busy enough without draft tokens.
    speculate = slots == 1 and not engine.graphs and system.names_evidence
    requests = make_requests(tokenizer, jobs, system, grounded, speculate, book)
    for job, answers in zip(jobs, in_order(engine.run(requests), answers_per_job), strict=True):
        if system.chains == 1:
            document = read_passages(job, answers, tokenizer, system, book)
        else:
            document = count_votes(job.note, answers, tokenizer, book)
        yield finish_document(document, book, calibration, min_score)


def plan_engine(model, answers: int, length: int, batch_size: int, memory: int | None, compile: str) -> tuple[int, str]:
    """(slots, `compile`) of an engine for `answers` answers, each of `length` tokens with its prompt.

    Other arguments and errors as for code_notes.
    """
    slots = slots_for(model, length, min(batch_size, answers), memory)
    compiled = choose_compile(compile, model, answers, slots)
    if compiled == "on" and model.model.embed_tokens.weight.device.type == "cpu":
        slots = min(slots, MAX_SLOTS)
    return slots, compiled


def make_requests(
    tokenizer, jobs: Iterable[Job], system: System, grounded: bool, speculate: bool, codebook: CodeBook
) -> Iterator[Request]:
    """The requests of all jobs, `system.chains` for each prompt; guides and drafters are created on demand."""
    for job in jobs:
        for prompt in job.prompts:
            for chain in range(system.chains):
                constraint = (prompt.text, prompt.max_new_tokens, job.evidence, codebook, system.reference_first)
                guide = Guide(tokenizer, *constraint) if grounded else None
                drafter = Drafter(tokenizer, prompt.ids, codebook) if speculate else None
                sampler = system.sampler(job.note.id, chain)
                yield Request(prompt.ids, prompt.max_new_tokens, guide, drafter, sampler, show_id(job.note.id))


def in_order(results: Iterable[tuple[int, Generation]], answers_per_job: Iterable[int]) -> Iterator[list[Generation]]:
    """(number of the request, answer) in any order → each job's answers in the jobs' order, without delay."""
    answers: dict[int, Generation] = {}
    numbers = itertools.count()  # of the requests
    jobs = iter([list(itertools.islice(numbers, count)) for count in answers_per_job])
    job = next(jobs, None)
    for number, answer in results:
        answers[number] = answer
        while job is not None and all(item in answers for item in job):
            yield [answers.pop(item) for item in job]
            job = next(jobs, None)


def read_passages(
    job: Job, answers: Iterable[Generation], tokenizer, system: System, codebook: CodeBook
) -> CodedDocument:
    """The document of a job from the answer to each of its prompts."""
    coded = []
    for prompt, answer in zip(job.prompts, answers, strict=True):
        passage = dataclasses.replace(job.note, text=prompt.text)
        coded.append((prompt.offset, read_answer(passage, answer, tokenizer, job.evidence, system, codebook)))
    return join_passages(job.note, coded)
