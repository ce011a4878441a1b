"""Synthetic spans (Eq. 9): an LLM writes evidence for a code that has none, given the nearest code that has some.

    e = f_LLM(c, c*, K(c*))      c* the nearest covered code in the hierarchy, K(c*) its evidence

Answers are logged on arrival (asking.py) and checked in code order once all are there, so the result does not depend on
the order of arrival. A phrase is rejected where it is empty, the description of another code, or already used for
another code. Without an LLM, `template_pairs` makes one phrase per code by rule; its pairs have a source of their own.

deviates: the wording of the prompt is ours; the paper's Table 8, which holds it, is an image.

Read next: templates.py, the phrases by rule; coverage.py.
"""

import functools
from collections import Counter
from collections.abc import Iterable

from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.prompts import one_line
from minscl.data.spans.answers import SyntheticAnswer
from minscl.data.spans.asking import MAX_PHRASE_CHARACTERS, ask_about_codes, open_answer_log
from minscl.data.spans.gold import billable_for
from minscl.data.spans.templates import template_phrases
from minscl.data.types import Pair
from minscl.files import output_path

MAX_NEIGHBOUR_PHRASES = 8  # of the nearest code, in a prompt
MAX_PHRASES = 3  # taken from an answer
NOTE_LABELS = {  # kind of Tabular List note → how the prompt introduces it
    "inclusionTerm": "Includes",
    "includes": "Includes",
    "excludes1": "Does not include",
    "excludes2": "Coded elsewhere",
}


class PhraseIndex:
    """Which phrases belong to which codes: those of `pairs`, and the Tabular List's descriptions of codes and headings.

    The description of a heading also belongs to the billable code that it determines (gold.billable_for), if any.
    """

    def __init__(self, pairs: Iterable[Pair], codebook: CodeBook):
        self.phrase_codes: dict[str, set[str]] = {}  # folded phrase → codes
        self.description_codes = _description_codes(codebook)
        for pair in pairs:
            self.add(pair.evidence, pair.code)

    def add(self, phrase: str, code: str) -> None:
        """Record that `phrase` belongs to `code`."""
        self.phrase_codes.setdefault(phrase.casefold(), set()).add(code)

    def conflict(self, phrase: str, code: str) -> str | None:
        """Why `phrase` cannot be evidence of `code`; None where it can."""
        folded = phrase.casefold()
        if not any(letter.isalnum() for letter in phrase):
            return "empty"
        if code not in self.description_codes.get(folded, {code}):
            return "the description of another code"
        if self.phrase_codes.get(folded, {code}) - {code}:
            return "a phrase of another code"
        return None


@functools.cache
def _description_codes(codebook: CodeBook) -> dict[str, set[str]]:
    """Folded description → codes and headings that it belongs to."""
    description_codes: dict[str, set[str]] = {}
    for node in {node for code in codebook.billable for node in (code, *codebook.ancestors(code))}:
        codes = description_codes.setdefault((codebook.description(node) or "").casefold(), set())
        codes.update([node, *(code for code, addition in billable_for(node, codebook)[0] if not addition)])
    return description_codes


def expand_synthetic(pairs: list[Pair], codebook: CodeBook, llm, out: str) -> tuple[list[Pair], list[tuple[str, int]]]:
    """(a few phrases for every billable code without a pair, counts as (name, number) rows).

    `llm` None: template_pairs. The answer log is written beside `out`. Raises InputError before any question where
    `out` cannot be written.
    """
    output_path(out)
    rejected: Counter[str] = Counter()
    if llm is None:
        synthetic = template_pairs(pairs, codebook)
    else:
        with open_answer_log(answer_log_path(out), SyntheticAnswer, llm) as log:
            synthetic, rejected = write_synthetic(pairs, codebook, llm, log)
    return synthetic, [
        ("uncovered codes", len(uncovered_codes(pairs, codebook))),
        ("pairs written", len(synthetic)),
        ("  distinct codes", len({pair.code for pair in synthetic})),
        ("phrases rejected", rejected.total()),
        *((f"  {reason}", number) for reason, number in rejected.most_common()),
    ]


def answer_log_path(out: str) -> str:
    """The answer log beside the pairs' file `out`."""
    return f"{out}.written.jsonl"


def synthetic_prompt(code: str, nearest: str, evidence: list[str], codebook: CodeBook) -> str:
    """Asks for phrases (Eq. 9): the code with its Tabular List notes, then the nearest code with its evidence."""
    lines = [f"ICD-10-CM code {code} {codebook.description(code)}"]
    for node in (code, codebook.parent(code) or ""):
        for kind, label in NOTE_LABELS.items():
            lines += [f"{label}: {one_line(note)}" for note in codebook.notes(node, kind)]
    lines += [
        "",
        f"The nearest code with known phrases is {nearest} {codebook.description(nearest)}. Clinicians write for it:",
        *evidence[:MAX_NEIGHBOUR_PHRASES],
        "",
        f"Write at most {MAX_PHRASES} short phrases, one a line, that a clinician might write in a note for {code} "
        "and for no other code.",
    ]
    return "\n".join(lines)


def uncovered_codes(pairs: Iterable[Pair], codebook: CodeBook) -> list[tuple[str, str]]:
    """(billable code without a pair, its nearest code with one), in code order. InputError where no code has one."""
    covered = frozenset(pair.code for pair in pairs if codebook.is_billable(pair.code))
    return [(code, codebook.nearest(code, covered)) for code in codebook.billable if code not in covered]


def write_synthetic(pairs: list[Pair], codebook: CodeBook, llm, log: AnswerLog) -> tuple[list[Pair], Counter[str]]:
    """Eq. 9 for every uncovered code: (pairs, rejected phrases by reason); asks only what is not in `log`."""
    evidence, uncovered = phrases_by_code(pairs), uncovered_codes(pairs, codebook)
    prompts = {code: synthetic_prompt(code, nearest, evidence[nearest], codebook) for code, nearest in uncovered}

    def read_answer(code: str, digest: str, lines: list[str]) -> SyntheticAnswer:
        return SyntheticAnswer(code, digest, tuple(map(one_line, lines)), llm.name)

    answers = ask_about_codes(llm, prompts, log, "writing", read_answer)
    phrases_written = [(code, nearest, answers[code].evidence) for code, nearest in uncovered]
    return accept_phrases(phrases_written, PhraseIndex(pairs, codebook))


def accept_phrases(
    phrases_written: Iterable[tuple[str, str, tuple[str, ...]]], index: PhraseIndex
) -> tuple[list[Pair], Counter[str]]:
    """(pairs of the phrases without a conflict, the others by reason), of (code, nearest, phrases) in order.

    A phrase written for two codes belongs to the first; `index` learns each accepted phrase.
    """
    pairs: list[Pair] = []
    rejected: Counter[str] = Counter()
    for code, nearest, phrases in phrases_written:
        accepted: list[str] = []
        for phrase in phrases or ("",):
            too_long = len(phrase) > MAX_PHRASE_CHARACTERS
            reason = "too long for a phrase" if too_long else index.conflict(phrase, code)
            if reason:
                rejected[reason] += 1
            elif phrase.casefold() not in map(str.casefold, accepted) and len(accepted) < MAX_PHRASES:
                accepted.append(phrase)
                index.add(phrase, code)
        pairs += [Pair(phrase, code, "synthetic", origin=f"nearest: {nearest}") for phrase in accepted]
    return pairs, rejected


def template_pairs(pairs: list[Pair], codebook: CodeBook) -> list[Pair]:
    """One pair by rule for every uncovered code, in code order."""
    evidence, index = phrases_by_code(pairs), PhraseIndex(pairs, codebook)
    templates = []
    for code, nearest in uncovered_codes(pairs, codebook):
        options = template_phrases(code, nearest, evidence[nearest], codebook)
        phrase = next(option for option in options if not index.conflict(option, code))
        index.add(phrase, code)
        templates.append(Pair(phrase, code, "synthetic-template", origin=f"nearest: {nearest}"))
    return templates


def phrases_by_code(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Code → its phrases, the most frequent (silver's counts) first, else in the order of `pairs`."""
    by_code: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_code.setdefault(pair.code, []).append(pair)
    return {
        code: [pair.evidence for pair in sorted(of_code, key=lambda pair: -pair.count)]
        for code, of_code in by_code.items()
    }
