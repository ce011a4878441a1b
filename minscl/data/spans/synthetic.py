"""Synthetic spans (Eq. 9): an LLM writes evidence for a code that has none, given the nearest code that has some.

    e = f_LLM(c, c*, K(c*))      c* the nearest covered code in the hierarchy, K(c*) its evidence

Answers are logged on arrival (asking.py) and checked in code order once all are there, so the result does not depend on
the order of arrival. A phrase is rejected where it is empty, the description of another code, or already used for
another code. Without an LLM, `template_pairs` makes one phrase per code by rule; its pairs have a source of their own.

deviates: the wording of the prompt is ours; the paper's Table 8, which holds it, is an image.

Read next: coverage.py.
"""

import difflib
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

from tqdm import tqdm

from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.prompts import one_line
from minscl.data.spans.asking import (
    MAX_PHRASE_CHARACTERS,
    answer_fields,
    answer_lines,
    ask_in_batches,
    open_answer_log,
    prompt_digest,
)
from minscl.data.spans.gold import billable_for
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
    answers = {answer.key: answer for answer in log.records}
    prompts = {code: synthetic_prompt(code, nearest, evidence[nearest], codebook) for code, nearest in uncovered}
    keys = {code: (code, prompt_digest(prompt)) for code, prompt in prompts.items()}
    unanswered = [code for code in prompts if keys[code] not in answers]
    with tqdm(desc="writing", total=len(prompts), initial=len(prompts) - len(unanswered)) as bar:
        for code, answer in ask_in_batches(llm, ([(code, prompts[code])] for code in unanswered), bar):
            phrases = tuple(map(one_line, answer_lines(answer or "")))
            answers[keys[code]] = SyntheticAnswer(*keys[code], phrases, llm.name)
            log.append([answers[keys[code]]])
    phrases_written = [(code, nearest, answers[keys[code]].evidence) for code, nearest in uncovered]
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
            elif phrase not in accepted and len(accepted) < MAX_PHRASES:
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


def template_phrases(code: str, nearest: str, evidence: list[str], codebook: CodeBook) -> Iterator[str]:
    """Phrases for `code`, best first: the neighbour's, reworded; the description, simplified, plain, with the code."""
    description, nearest_description = codebook.description(code) or "", codebook.description(nearest) or ""
    for phrase in evidence:
        reworded = reword(phrase, nearest_description, description)
        if reworded:
            yield reworded
    yield simplify_description(description)
    yield description
    yield f"{description} ({code})"


def reword(phrase: str, before: str, after: str) -> str | None:
    """`phrase` with the edits from the description `before` to `after`; None unless each edit fits at one place only.

    "fracture of right hand" with "Fracture of right wrist" → "Fracture of left wrist" is "fracture of left hand".
    """
    edits = _replacements(before, after)
    if edits is None:
        return None
    words = phrase.split()
    folded = [word.lower() for word in words]
    for old, new in edits:
        places = [at for at in range(len(folded) - len(old) + 1) if folded[at : at + len(old)] == old]
        if len(places) != 1:
            return None
        [at] = places
        words[at : at + len(old)], folded[at : at + len(old)] = new, new
    return " ".join(words) if folded != [word.lower() for word in phrase.split()] else None


@functools.lru_cache(maxsize=1)  # asked for each phrase of a neighbour in turn
def _replacements(before: str, after: str) -> list[tuple[list[str], list[str]]] | None:
    """(words, words that replace them) that make the description `after` of `before`; None if words come or go."""
    old, new = before.lower().split(), after.lower().split()
    edits = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    if any(kind not in ("equal", "replace") for kind, *_ in edits):
        return None
    return [(old[a:b], new[c:d]) for kind, a, b, c, d in edits if kind == "replace"]


def simplify_description(description: str) -> str:
    """A description without what notes do not say: "unspecified", NEC, NOS, brackets, the capital at its beginning."""
    text = re.sub(r"\s*\([^)]*\)|\s*\[[^\]]*\]", "", description)
    text = re.sub(r"\b(unspecified|not elsewhere classified|NEC|NOS)\b", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\s*,(\s*,)*", ",", " ".join(text.split())).strip(" ,")
    first = text.split(" ")[0]
    return text[0].lower() + text[1:] if first[1:].islower() and text else text


def phrases_by_code(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Code → its phrases, the most frequent (silver's counts) first, else in the order of `pairs`."""
    by_code: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_code.setdefault(pair.code, []).append(pair)
    return {
        code: [pair.evidence for pair in sorted(of_code, key=lambda pair: -pair.count)]
        for code, of_code in by_code.items()
    }
