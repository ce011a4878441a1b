"""The main job: note → prompt → tokens → text → evidence and codes → located in the note (Eq. 1).

    x → E → C,  p(C, E | x) = p(E | x) p(C | x, E)
One generation gives both: the evidence lines, then the codes that refer to them. With human evidence ("+ Evid.",
Table 1) the evidence section is given as the beginning of the answer, and only p(C | x, E) is generated.

Read next: data/prompts.py for the text, engine.py for the tokens, locate.py for the offsets.
"""

import dataclasses
import functools
import logging

from minscl.data.icd import CodeBook
from minscl.data.locate import locate
from minscl.data.prompts import parse_codes, parse_document, render_evidence
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.infer.cache import KVCache
from minscl.infer.constrained import Guide, check_room
from minscl.infer.decode import BATCH_SIZE
from minscl.infer.engine import Engine, Request
from minscl.infer.speculate import Drafter
from minscl.infer.systems import System, vote

MAX_NEW_TOKENS = 1024  # an answer of 30 codes with their evidence is about 900 tokens
SCL = System()
LOG = logging.getLogger("minscl")


def code_note(model, tokenizer, text: str, *, evidence=None, grounded: bool = False) -> CodedDocument:
    """Code one note. `evidence`: human quotations (list of str, document order) in place of the model's. `grounded`: only quotations that stand
    in the note and billable codes with evidence can be written (grounded.py).

    Raises InputError for an empty note and for one that does not fit in the model's context.
    """
    return next(
        code_notes(
            model,
            tokenizer,
            [Note("note", text)],
            evidence={"note": evidence} if evidence is not None else None,
            grounded=grounded,
        )
    )


def code_notes(
    model,
    tokenizer,
    notes,
    *,
    system: System = SCL,
    evidence=None,
    grounded: bool = False,
    batch_size: int = BATCH_SIZE,
    memory: int | None = None,
    cuda_graphs: bool = False,
    skip=None,
):
    """Code many notes; yields a CodedDocument a note, in order, each as soon as it and those before it are finished.

    `evidence` maps note ids to human quotations; it and `grounded` are SCL's alone. At most `batch_size` answers are written at a time, and no
    more than `memory` bytes of keys and values allow; `cuda_graphs` as for Engine. A note that cannot be coded is handed to `skip(note, error)` and left
    out; without it, InputError is raised before any is coded.
    """
    if batch_size < 1:
        raise InputError(f"batch_size = {batch_size}: give at least 1")
    if system.name != "scl" and (evidence or grounded):
        raise InputError(f"--system {system.name}: names no evidence, so leave out --evidence and --grounded")
    evidence, good, prompts = evidence or {}, [], []
    for note in notes:
        try:
            prompt = note_prompt(model, tokenizer, note, evidence.get(note.id), system)
            room = answer_room(model, prompt)
            check_memory(model, note.id, len(prompt) + room, memory)
            if grounded:
                check_room(room)
        except InputError as error:
            if skip is None:
                raise
            skip(note, error)
            continue
        good.append(note)
        prompts.append(prompt)
    if not good:
        return
    length = max(len(prompt) + answer_room(model, prompt) for prompt in prompts)
    chains = len(system.samplers(""))
    slots = slots_for(model, length, min(batch_size, len(good) * chains), memory)
    engine = Engine(model, slots=slots, length=length, stop_ids=tokenizer.stop_ids, cuda_graphs=cuda_graphs)

    def requests():
        for note, prompt in zip(good, prompts, strict=True):
            room = answer_room(model, prompt)
            guide = Guide(tokenizer, note.text, room, evidence.get(note.id)) if grounded else None
            alone = (
                slots == 1 and not cuda_graphs and system.name == "scl"
            )  # several answers fill the machine without guesses
            drafter = Drafter(tokenizer, prompt) if alone else None
            for sampler in system.samplers(note.id):
                yield Request(prompt, room, guide, drafter, sampler)

    answers, given = {}, 0  # number of a request → its answer; how many notes have been given out
    for number, answer in engine.run(requests()):
        answers[number] = answer
        while given < len(good) and all(given * chains + chain in answers for chain in range(chains)):
            found, note = [answers.pop(given * chains + chain) for chain in range(chains)], good[given]
            yield (
                read_answer(note, found[0], tokenizer, evidence.get(note.id), system)
                if chains == 1
                else count_votes(note, found, tokenizer)
            )
            given += 1


def answer_room(model, prompt) -> int:
    """Tokens that the answer to `prompt` may have."""
    return min(MAX_NEW_TOKENS, model.config.max_position_embeddings - len(prompt))


def slots_for(model, length: int, wanted: int, memory: int | None) -> int:
    """`wanted` answers at a time, or as many as the memory allows, which is then said."""
    if memory is None or slots_within(model, length, memory) >= wanted:
        return wanted
    slots = slots_within(model, length, memory)
    LOG.warning(
        "minscl: %d answers at a time instead of %d: keys and values have %.1f GB, the longest note and its answer %d tokens",
        slots,
        wanted,
        memory / 1e9,
        length,
    )
    return slots


def slots_within(model, length: int, memory: int) -> int:
    """How many answers of `length` tokens, prompt included, fit into `memory` bytes of keys and values."""
    return memory // KVCache.bytes_per_slot(model.config, length, model.model.embed_tokens.weight.dtype)


def check_memory(model, name: str, length: int, memory: int | None) -> None:
    if memory is not None and not slots_within(model, length, memory):
        need = KVCache.bytes_per_slot(model.config, length, model.model.embed_tokens.weight.dtype)
        raise InputError(
            f"{name}: the note needs {need / 2**20:,.0f} MiB for the keys and values of {length:,} tokens, and {memory / 2**20:,.0f} MiB "
            "are there; give more with --memory, or split the note"
        )


def note_prompt(model, tokenizer, note: Note, evidence=None, system: System = SCL) -> list[int]:
    """Prompt ids of a note for `system`, with the beginning of the answer where evidence is given."""
    if not note.text.strip():
        raise InputError(f"{note.id}: the note is empty; give a note with text")
    prompt = tokenizer.encode_chat([{"role": "user", "content": system.prompt(note.text)}], add_generation_prompt=True)
    if evidence is not None:
        prompt = prompt + tokenizer.encode_answer_start(render_evidence(evidence))
    limit = model.config.max_position_embeddings
    if len(prompt) >= limit:
        raise InputError(
            f"{note.id}: the note makes a prompt of {len(prompt):,} tokens, and the model's context holds {limit:,} with "
            "the answer; split the note or use a model with a longer context"
        )
    return prompt


def read_answer(note: Note, answer, tokenizer, given=None, system: System = SCL) -> CodedDocument:
    """The coded document of one generation: parsed, scored, every quotation located or marked as not found."""
    output = tokenizer.decode(answer.ids)
    before = render_evidence(given) if given is not None else ""
    parse = parse_document if system.name == "scl" else parse_codes
    parsed = parse(before + output, known_category=known_category, truncated=not answer.stopped)
    used, places = set(), []
    for quotation in parsed.evidence:
        place = locate(note.text, quotation, used)
        used.add(place)
        places.append(
            Evidence(note.text[slice(*place)], *place, grounded=True)
            if place
            else Evidence(quotation, None, None, grounded=False)
        )
    hurried = (
        ["the answer was brought to its end by its length limit; evidence or codes may be missing"]
        if answer.closed_by_limit
        else []
    )
    codes, book = [], CodeBook.load()
    for one in parsed.codes:
        score = code_probability(tokenizer, answer, one.start - len(before), one.end - len(before))
        support = tuple(dict.fromkeys(places[number - 1] for number in one.references if 1 <= number <= len(places)))
        codes.append(Assignment(one.code, book.description(one.code) or one.description, support, score=score))
    return CodedDocument(
        note.id,
        note.text,
        tuple(codes),
        output=output,
        warnings=(*hurried, *warnings(parsed, places, codes, book, system)),
    )


def filter_by_score(document: CodedDocument, least: float) -> CodedDocument:
    """The document without the codes that score less than `least`, 0 to 1, and with a warning that names them; `output` keeps the whole answer."""
    weak = [one for one in document.codes if one.score is not None and one.score < least]
    if not weak:
        return document
    told = f"left out, score below {least:g}: {', '.join(f'{one.code} ({one.score:.2f})' for one in weak)}"
    return dataclasses.replace(
        document,
        codes=tuple(one for one in document.codes if one not in weak),
        warnings=(*(document.warnings or ()), told),
    )


def count_votes(note: Note, answers, tokenizer) -> CodedDocument:
    """The coded document of several chains: codes that at least half of them give, with that share as score; `output` holds all chains."""
    book, texts = CodeBook.load(), [tokenizer.decode(one.ids) for one in answers]
    parsed = [
        parse_codes(text, known_category, truncated=not one.stopped) for text, one in zip(texts, answers, strict=True)
    ]
    codes = [
        Assignment(code, book.description(code) or "", score=share)
        for code, share in vote([[one.code for one in chain.codes] for chain in parsed])
    ]
    cut = sum(one.truncated for one in parsed)
    told = [f"{cut} of {len(answers)} chains stopped at their length limit"] if cut else []
    told += [
        f"{one.code} is not a billable code of the Tabular List" for one in codes if not book.is_billable(one.code)
    ]
    output = "\n".join(f"--- chain {number} of {len(texts)}\n{text}" for number, text in enumerate(texts, 1))
    return CodedDocument(note.id, note.text, tuple(codes), output=output, warnings=tuple(told))


def code_probability(tokenizer, answer, start: int, end: int) -> float:
    """Product of the probabilities of the tokens that hold characters start..end of the decoded answer."""

    @functools.cache
    def length(count: int) -> int:
        return len(tokenizer.decode(answer.ids[:count]))

    def tokens_before(offset: int) -> int:
        """How many whole tokens end at or before `offset` (bisection: a decoded prefix only grows)."""
        low, high = 0, len(answer.ids)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if length(middle) <= offset else (low, middle - 1)
        return low

    first, last = tokens_before(start), tokens_before(end)
    last += length(last) < end  # a token that runs past the code still holds its end
    probability = 1.0
    for value in answer.probabilities[first:last]:
        probability *= value
    return probability


def known_category(code: str) -> bool:
    """Whether the Tabular List has the three-character category of `code`."""
    book = CodeBook.load()
    return book.description(code[:3]) is not None


def warnings(parsed, places, codes, book, system: System = SCL):
    """One line for each thing a coder should look at before trusting the answer."""
    if parsed.truncated:
        yield "the answer stopped at its length limit; the last codes may be missing"
    if parsed.sectionless:
        yield "the answer has no section headings"
    for text in dict.fromkeys(one.text for one in places if not one.grounded):
        yield f"not found in note: {text}"
    for one in codes:
        if not book.is_billable(one.code):
            yield f"{one.code} is not a billable code of the Tabular List"
        if not one.evidence and system.name == "scl":
            yield f"{one.code} names no evidence"
