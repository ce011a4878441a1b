"""Read an answer: tokens → text → evidence and codes → located in the note, scored, checked against the Tabular List.

Read next: data/parse.py, the parser; data/locate.py, the offsets.
"""

import bisect
import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Iterator

from minscl.data.calibration import Calibration, threshold
from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.locate import locate
from minscl.data.prompts import Parsed, render_evidence
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.infer.report import LEFT_OUT
from minscl.infer.sequence import Generation
from minscl.infer.systems import SCL, System


def read_answer(
    note: Note,
    generation: Generation,
    tokenizer,
    evidence: list[str] | None = None,
    system: System = SCL,
    codebook: CodeBook | None = None,
) -> CodedDocument:
    """The coded document of one generation: parsed, scored, each quotation located in the note or marked as not found.

    `evidence`: the human quotations that the prompt ended with. `codebook`: the code set that decides what a code is;
    None: the default edition.
    """
    output = tokenizer.decode(generation.ids)
    prefix = render_evidence(evidence) if evidence is not None else ""
    book = codebook or CodeBook.load()
    parsed = system.parse(prefix + output, known_category=book.has_category, truncated=not generation.stopped)
    quotations = locate_all(note.text, parsed.evidence)
    codes = []
    for item in parsed.codes:
        score = code_probability(tokenizer, generation, item.start - len(prefix), item.end - len(prefix))
        support = [quotations[number - 1] for number in item.references if 1 <= number <= len(quotations)]
        description = book.description(item.code) or item.description
        codes.append(Assignment(item.code, description, tuple(dict.fromkeys(support)), score=score))
    closed_by_limit = generation.closed_by_limit
    warnings = list(answer_warnings(parsed, quotations, codes, system))
    if closed_by_limit:
        warnings.insert(0, "the answer was brought to its end by its length limit; evidence or codes may be missing")
    return CodedDocument(
        note.id,
        note.text,
        tuple(codes),
        output=output,
        warnings=tuple(warnings),
        truncated=1 if closed_by_limit or not generation.stopped else None,
        continued=True if evidence is not None else None,
    )


def locate_all(text: str, quotations: Iterable[str]) -> list[Evidence]:
    """Each quotation as Evidence: the note's own text where it is located, else the quotation without offsets."""
    used: set[tuple[int, int]] = set()
    located = []
    for quotation in quotations:
        span = locate(text, quotation, used)
        if span:
            used.add(span)
            located.append(Evidence(text[slice(*span)], *span, grounded=True))
        else:
            located.append(Evidence(quotation, None, None, grounded=False))
    return located


def finish_document(
    document: CodedDocument, codebook: CodeBook, calibration: Calibration | None, min_score: float | None
) -> CodedDocument:
    """`document` as it is shown: scores calibrated, low ones left out (threshold), checked against the code set."""
    document = calibration.apply(document) if calibration else document
    return check_document(filter_by_score(document, threshold(calibration, min_score)), codebook)


def filter_by_score(document: CodedDocument, min_score: float) -> CodedDocument:
    """`document` without the codes that score less than `min_score` (0 to 1), and with a warning that names them.

    `output` keeps the whole answer.
    """
    dropped = [item for item in document.codes if item.score is not None and item.score < min_score]
    if not dropped:
        return document
    names = ", ".join(f"{item.code} ({score_below(item.score or 0, min_score)})" for item in dropped)
    return dataclasses.replace(
        document,
        codes=tuple(item for item in document.codes if item not in dropped),
        warnings=(*(document.warnings or ()), f"{LEFT_OUT} {min_score:g}: {names}"),
    )


def score_below(score: float, min_score: float) -> str:
    """`score` with two decimals, or as many as show that it is less than `min_score`: 0.2499 is not 0.25."""
    shown = (f"{score:.{decimals}f}" for decimals in range(2, 17))
    return next((text for text in shown if float(text) < min_score), repr(score))


def code_probability(tokenizer, generation: Generation, start: int, end: int) -> float | None:
    """Product of the probabilities of the tokens that contain characters start..end of the decoded answer.

    None for an answer without probabilities, which some servers do not give.

    A token of single bytes may end inside a character: it contains none, and the token that completes the character
    contains it.
    """
    ids, text = generation.ids, tokenizer.decode(generation.ids)
    if len(generation.probabilities) < len(ids):
        return None

    @functools.cache
    def complete_length(tokens: int) -> int:
        """How many characters of the answer are complete after the first `tokens` tokens; grows with `tokens`."""
        prefix = tokenizer.decode(ids[:tokens]).rstrip("\ufffd")  # what an incomplete character is decoded as
        return len(prefix) if text.startswith(prefix) else len(os.path.commonprefix([text, prefix]))

    counts = range(len(ids) + 1)
    first = bisect.bisect_right(counts, max(start, 0), key=complete_length) - 1  # tokens that end at or before `start`
    last = bisect.bisect_left(counts, end, key=complete_length)  # up to the first that reaches `end`
    return math.prod(generation.probabilities[first:last], start=1.0)


def answer_warnings(
    parsed: Parsed, quotations: Iterable[Evidence], codes: Iterable[Assignment], system: System
) -> Iterator[str]:
    """One line for each problem that a coder should review before relying on the answer."""
    if parsed.truncated:
        yield "the answer stopped at its length limit; the last codes may be missing"
    if parsed.sectionless:
        yield "the answer has no section headings"
    for text in dict.fromkeys(quotation.text for quotation in quotations if not quotation.grounded):
        yield f"not found in note: {text}"
    for item in codes:
        if not item.evidence and system.names_evidence:
            yield f"{item.code} names no evidence"
