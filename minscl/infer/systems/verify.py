"""--verify: generate, expand, verify (Yuan et al. 2025, EMNLP Industry Track, arXiv 2510.07629), after any system.

    system ─► code ─► expand ─► the code and its siblings ─► choose ─► code or none ─► verify ─► code or none
                    Tabular List                              LLM: a number            LLM: yes or no

The error that it mends: a code that is nearly right, in the right category with the wrong last character.

1. generate: any system's codes, with their evidence.
2. expand: each code to its siblings, the billable codes under the same heading of the Tabular List; a heading to the
   codes below it; a code that the List lacks to those below the longest beginning that it has.
3. choose: the LLM reads these codes and the evidence, and names one number, or 0.
4. verify: of the chosen code the LLM says, yes or no, whether note and evidence support it.

Theirs: expansion by the Tabular List's siblings; that the LLM then selects by the note among the candidates; the yes or
no about a single code (their verification task with its "valid" labels).

Ours: the prompts; both steps in a row, where their pipeline selects; one question a code; the evidence of systems that
have any; at most MAX_SIBLINGS candidates, the nearest in the List's order.

deviates: the paper was read in excerpts; how it treats codes with hundreds of siblings is not known to us.

A code that stays keeps its score and evidence. One that takes another's place has its evidence and no score.

Read next: questions.py, the loop; mac.py.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from minscl.data.icd import CodeBook
from minscl.data.icd.lookup.default_codes import billable_below
from minscl.data.notes import Skip
from minscl.data.prompts import one_line
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.infer.systems.clh import describe
from minscl.infer.systems.questions import Asker, Dialogue, Question, introduce, run_dialogues, yes_no

MAX_SIBLINGS = 30  # candidates for a code, itself included


def verify_documents(
    documents: Iterable[CodedDocument], codebook: CodeBook, asker: Asker, together: int, skip: Skip | None = None
) -> Iterator[CodedDocument]:
    """The documents with their codes verified, in order; `together` and `skip` as for run_dialogues."""
    by_id: dict[str, CodedDocument] = {}

    def notes() -> Iterator[Note]:
        for document in documents:
            by_id[document.id] = document
            yield Note(document.id, document.text)

    return run_dialogues(lambda note: verify_dialogue(by_id.pop(note.id), codebook), notes(), asker, together, skip)


def verify_dialogue(document: CodedDocument, codebook: CodeBook) -> Dialogue:
    """The dialogue about a document; it returns the document with the codes that were chosen and verified."""
    if not document.codes:
        return document
    shared = introduce(Note(document.id, document.text))
    expanded = [(item, siblings(item.code, codebook)) for item in document.codes]
    several = [(item, codes) for item, codes in expanded if codes != [item.code] and codes]
    replies = iter((yield [choose_question(shared, item, codes, codebook) for item, codes in several]))

    chosen: list[tuple[Assignment, str]] = []
    for item, codes in expanded:
        if codes == [item.code]:
            chosen.append((item, item.code))
        elif codes and (number := int(next(replies).text)):
            chosen.append((item, codes[number - 1]))
    verdicts = yield [verify_question(shared, item.evidence, code, codebook) for item, code in chosen]

    verified: dict[str, Assignment] = {}
    for (item, code), verdict in zip(chosen, verdicts, strict=True):
        if verdict.text == "yes":
            verified[code] = merge(verified.get(code), replaced(item, code, codebook))
    unlisted = [f"{item.code} is not in the Tabular List and was left out" for item, codes in expanded if not codes]
    warnings = (*(document.warnings or ()), *unlisted)
    return dataclasses.replace(document, codes=tuple(verified.values()), warnings=warnings)


def siblings(code: str, codebook: CodeBook) -> list[str]:
    """The candidates for `code` in the List's order, itself included where it is billable; [] if the List has none."""
    if codebook.is_billable(code):
        parent = codebook.parent(code) or ""
        is_code = parent[:1].isalpha() and " " not in parent
        candidates = [item for item in codebook.children(parent) if codebook.is_billable(item)] if is_code else [code]
        place = candidates.index(code)
    else:
        heading = code
        while len(heading) > 3 and codebook.description(heading) is None:
            heading = heading[:-1].rstrip(".")
        candidates, place = list(billable_below(codebook, heading)), 0
    first = max(0, min(place - MAX_SIBLINGS // 2, len(candidates) - MAX_SIBLINGS))
    return candidates[first : first + MAX_SIBLINGS]


def choose_question(shared: str, item: Assignment, codes: list[str], codebook: CodeBook) -> Question:
    """Which of `codes` the evidence of `item` means: a number from 1, or 0."""
    lines = [f"{number}. {code} {codebook.description(code)}" for number, code in enumerate(codes, 1)]
    about = show_evidence(item.evidence) or f"{item.code} {item.description}".strip()
    asks = "\n".join(
        [f"Which of these ICD-10-CM codes does this note support for {about}?", "0. none of these", *lines]
    )
    return Question("choose", shared, f"{asks}\nAnswer with the number alone.", options=numbers(len(codes)))


def verify_question(shared: str, evidence: tuple[Evidence, ...], code: str, codebook: CodeBook) -> Question:
    """Whether the note supports `code`."""
    about = f" Evidence: {show_evidence(evidence)}." if evidence else ""
    return yes_no("verify", shared, f"{describe(code, codebook)}\n{about.strip()}\nDoes this note support this code?")


def numbers(last: int) -> tuple[str, ...]:
    """The options 0 to `last`."""
    return tuple(map(str, range(last + 1)))


def show_evidence(evidence: tuple[Evidence, ...]) -> str:
    """The quotations, each once, in quotation marks."""
    return ", ".join(dict.fromkeys(f'"{one_line(item.text)}"' for item in evidence))


def replaced(item: Assignment, code: str, codebook: CodeBook) -> Assignment:
    """`item`, or `code` in its place: with its evidence and without a score."""
    if code == item.code:
        return item
    return Assignment(code, codebook.description(code) or "", item.evidence)


def merge(first: Assignment | None, second: Assignment) -> Assignment:
    """One assignment of a code that two of a system's codes became: the evidence of both, the higher score."""
    if first is None:
        return second
    scores = [item.score for item in (first, second) if item.score is not None]
    evidence = tuple(dict.fromkeys((*first.evidence, *second.evidence)))
    return dataclasses.replace(first, evidence=evidence, score=max(scores, default=None))
