"""Synthetic spans (Eq. 9): evidence that an LLM writes for a code that neither gold nor silver covers, shown its nearest covered code.

    e = f_LLM(c, c*, K(c*))      c* the covered code at the fewest steps in the hierarchy, K(c*) its evidence

Answers are journalled as they come, and checked in code order when all are there, so that the result does not depend on which came first: not
empty, not the description of another code, not a phrase that is tied to another code already. Where no LLM is at hand, `template` makes one
phrase by rule, and says so in its source.

deviates: the wording is ours; the paper's Table 8, which holds its prompts, is an image.

Read next: coverage.py.
"""

import difflib
import re
from collections import Counter
from dataclasses import asdict, dataclass

from tqdm import tqdm

from minscl.data.icd import CodeBook
from minscl.data.prompts import one_line
from minscl.data.spans.gold import billable_for
from minscl.data.spans.silver import LONGEST, answered, digest, lines_of, take_answer
from minscl.data.types import Pair

SHOWN = 8  # phrases of the nearest code in a prompt
WRITTEN = 3  # phrases taken from an answer
NOTES = {
    "inclusionTerm": "Includes",
    "includes": "Includes",
    "excludes1": "Does not include",
    "excludes2": "Coded elsewhere",
}


@dataclass(frozen=True)
class Written:
    """An LLM's answer for one code: its phrases, unchecked."""

    code: str
    prompt: str  # digest of the question
    evidence: tuple[str, ...]
    llm: str

    @classmethod
    def from_dict(cls, record) -> "Written":
        return cls(**take_answer(record, cls, {}))

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def key(self) -> tuple[str, str]:
        return self.code, self.prompt


class Taken:
    """Which phrases belong to which codes: what is known, and the Tabular List's descriptions of codes and headings.

    A heading's words are also those of the billable code that it determines (gold.billable_for), if it determines one.
    """

    def __init__(self, pairs, codebook: CodeBook):
        self.codes: dict[str, set[str]] = {}
        self.described: dict[str, set[str]] = {}
        for one in pairs:
            self.add(one.evidence, one.code)
        for node in {node for code in codebook.billable for node in (code, *codebook.ancestors(code))}:
            own = self.described.setdefault(codebook.description(node).casefold(), set())
            own.update([node, *(code for code, words in billable_for(node, codebook)[0] if not words)])

    def add(self, phrase: str, code: str) -> None:
        self.codes.setdefault(phrase.casefold(), set()).add(code)

    def fault(self, phrase: str, code: str) -> str | None:
        """Why `phrase` cannot be evidence of `code`; None where it can."""
        key = phrase.casefold()
        if not any(letter.isalnum() for letter in phrase):
            return "empty"
        if code not in self.described.get(key, {code}):
            return "the description of another code"
        if self.codes.get(key, {code}) - {code}:
            return "a phrase of another code"
        return None


def writing_prompt(code: str, nearest: str, evidence, codebook: CodeBook) -> str:
    """The code with its notes, and the nearest code with its evidence."""
    lines = [f"ICD-10-CM code {code} {codebook.description(code)}"]
    for node in (code, codebook.parent(code)):
        lines += [f"{label}: {one_line(note)}" for kind, label in NOTES.items() for note in codebook.notes(node, kind)]
    lines += [
        "",
        f"The nearest code with known phrases is {nearest} {codebook.description(nearest)}. Clinicians write for it:",
        *evidence[:SHOWN],
        "",
        f"Write at most {WRITTEN} short phrases, one a line, that a clinician might write in a note for {code} and for no other code.",
    ]
    return "\n".join(lines)


def neighbours(pairs, codebook: CodeBook) -> list[tuple[str, str]]:
    """(uncovered billable code, its nearest covered code), in code order. Raises InputError where nothing is covered."""
    covered = frozenset(one.code for one in pairs if codebook.is_billable(one.code))
    return [(code, codebook.nearest(code, covered)) for code in codebook.billable if code not in covered]


def synthesise(pairs, codebook: CodeBook, llm, journal) -> tuple[list[Pair], Counter]:
    """Pairs for every uncovered code as `llm` writes them, and what was rejected by reason; asks what `journal` (of Written) does not hold."""
    evidence, every = by_code(pairs), neighbours(pairs, codebook)
    known = {one.key: one for one in journal.records}
    prompts = {code: writing_prompt(code, nearest, evidence[nearest], codebook) for code, nearest in every}
    keys = {code: (code, digest(prompt)) for code, prompt in prompts.items()}
    asked = [code for code in prompts if keys[code] not in known]
    bar = tqdm(desc="writing", total=len(prompts), initial=len(prompts) - len(asked))
    for code, answer in answered(llm, ([(code, prompts[code])] for code in asked), bar):
        known[keys[code]] = Written(*keys[code], tuple(map(one_line, lines_of(answer or ""))), llm.name)
        journal.append([known[keys[code]]])
    return checked([(code, nearest, known[keys[code]].evidence) for code, nearest in every], Taken(pairs, codebook))


def checked(written, taken: Taken) -> tuple[list[Pair], Counter]:
    """Pairs of the phrases that pass, and the others by reason, of (code, nearest, phrases) in order: a phrase written for two codes is the first's."""
    found, rejected = [], Counter()
    for code, nearest, phrases in written:
        kept: list[str] = []
        for phrase in phrases or [""]:
            fault = "too long for a phrase" if len(phrase) > LONGEST else taken.fault(phrase, code)
            if fault:
                rejected[fault] += 1
            elif phrase not in kept and len(kept) < WRITTEN:
                kept.append(phrase)
                taken.add(phrase, code)
        found += [Pair(phrase, code, "synthetic", origin=f"nearest: {nearest}") for phrase in kept]
    return found, rejected


def template_pairs(pairs, codebook: CodeBook) -> list[Pair]:
    """One pair by rule for every uncovered code, in code order."""
    evidence, taken, found = by_code(pairs), Taken(pairs, codebook), []
    for code, nearest in neighbours(pairs, codebook):
        phrase = next(one for one in template(code, nearest, evidence[nearest], codebook) if not taken.fault(one, code))
        taken.add(phrase, code)
        found.append(Pair(phrase, code, "synthetic-template", origin=f"nearest: {nearest}"))
    return found


def template(code: str, nearest: str, evidence, codebook: CodeBook):
    """Phrases for `code`, the best first: one of the neighbour's with its words changed as the description's are, the description as one would
    write it, the description, the description with the code."""
    description, other = codebook.description(code), codebook.description(nearest)
    for phrase in evidence:
        changed = reworded(phrase, other, description)
        if changed:
            yield changed
    yield spoken(description)
    yield description
    yield f"{description} ({code})"


def reworded(phrase: str, before: str, after: str) -> str | None:
    """`phrase` with the changes that lead from the description `before` to `after`; None unless each of them applies to it in one way.

    "fracture of right hand" with "Fracture of right wrist" → "Fracture of left wrist" is "fracture of left hand".
    """
    words, old, new = phrase.split(), before.lower().split(), after.lower().split()
    plain = [word.lower() for word in words]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        places = [at for at in range(len(plain) - (b - a) + 1) if plain[at : at + b - a] == old[a:b]]
        if kind != "replace" or len(places) != 1:
            return None
        [at] = places
        words[at : at + b - a], plain[at : at + b - a] = new[c:d], new[c:d]
    return " ".join(words) if plain != [word.lower() for word in phrase.split()] else None


def spoken(description: str) -> str:
    """A description without what a note would not say: "unspecified", "other", brackets, the capital of its first word."""
    text = re.sub(r"\s*\([^)]*\)|\s*\[[^\]]*\]", "", description)
    text = re.sub(r"\b(unspecified|not elsewhere classified|NEC|NOS)\b", "", text, flags=re.IGNORECASE)
    text = re.sub(r"\s*,(\s*,)*", ",", " ".join(text.split())).strip(" ,")
    first = text.split(" ")[0]
    return text[0].lower() + text[1:] if first[1:].islower() and text else text


def by_code(pairs) -> dict[str, list[str]]:
    """Code → its phrases, silver's commonest first, else in order."""
    found: dict[str, list[Pair]] = {}
    for one in pairs:
        found.setdefault(one.code, []).append(one)
    return {
        code: [one.evidence for one in sorted(several, key=lambda one: -one.count)] for code, several in found.items()
    }
