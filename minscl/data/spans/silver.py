"""Silver spans (Eq. 7, 8): evidence mined by an LLM from notes that have codes and no evidence.

    stage 1   E_c  = { e | e = f_LLM(x, c), x a note labelled c }     quote what supports the code; only what stands in the note counts
    stage 2   E~_c = f_LLM(c, E_c)                                    of a code's quotations, by frequency, keep the representative ones

Each answer goes into a journal (journal.py) as it comes, with a hash of its question, so a job that is stopped goes on where it was, and one
whose notes or candidates have changed asks what has changed. All questions about a note begin with the note: a local model reads it once
(infer/engine.py).

deviates: the wording is ours; the paper's Table 7, which holds its prompts, is an image.

Read next: synthetic.py.
"""

import hashlib
import itertools
import re
from collections import Counter
from dataclasses import asdict, dataclass

from tqdm import tqdm

from minscl.data.icd import CodeBook
from minscl.data.locate import locate
from minscl.data.prompts import one_line
from minscl.data.record_checks import checked_record
from minscl.data.types import Pair
from minscl.errors import InputError

CANDIDATES = 40  # of a code, the commonest, that stage 2 is shown
KEPT = 6  # representative expressions of a code
LONGEST = 200  # characters of a quotation; longer ones are no phrase
TOGETHER = 64  # questions handed to the LLM at a time, at least
_MARK = re.compile(r"^(?:[-*•]|\(?\d{1,3}[.):])\s+")


@dataclass(frozen=True)
class StageOneAnswer:
    """Stage 1's answer for one code of one note: its quotations as the note has them; how many stand nowhere in it, how many are no phrase."""

    note: str
    code: str
    prompt: str  # digest of the question
    evidence: tuple[str, ...]
    rejected: int
    too_long: int
    llm: str
    answered: bool = True  # False: the note was too long to ask about

    @classmethod
    def from_dict(cls, record) -> "StageOneAnswer":
        return cls(**take_answer(record, cls, {"note": str, "rejected": int, "too_long": int, "answered": bool}))

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def key(self) -> tuple[str, str, str]:
        return self.note, self.code, self.prompt


@dataclass(frozen=True)
class StageTwoAnswer:
    """Stage 2's answer for one code: the candidates kept, and how many lines were none of them."""

    code: str
    prompt: str
    evidence: tuple[str, ...]
    rejected: int
    llm: str

    @classmethod
    def from_dict(cls, record) -> "StageTwoAnswer":
        return cls(**take_answer(record, cls, {"rejected": int}))

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def key(self) -> tuple[str, str]:
        return self.code, self.prompt


@dataclass(frozen=True)
class Candidate:
    """A quotation of a code: the commonest way it is written, how many notes have it, and their ids."""

    text: str
    count: int
    notes: tuple[str, ...]


def take_answer(record, cls, required: dict) -> dict:
    """A line of a journal, checked: `required` and what every answer has."""
    if isinstance(record, dict) and "prompt" not in record:
        raise InputError(
            f"{cls.__name__}: key 'prompt' is missing: an older version's answer, to which question is not known; delete the file"
        )
    kept = checked_record(record, cls, {"code": str, "prompt": str, "evidence": list, "llm": str, **required}, {})
    for phrase in kept["evidence"]:
        checked_record({"evidence": phrase}, cls, {"evidence": str}, {})
    return {**kept, "evidence": tuple(kept["evidence"])}


def digest(prompt: str) -> str:
    """A question's short hash: an answer is used again for the very same question alone."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def mining_prompt(text: str, code: str, description: str) -> str:
    """Stage 1. The note comes first, so that all questions about it begin alike."""
    return (
        f"Clinical note:\n\n{text}\n\nWhich words of the note support the ICD-10-CM code {code} {description}? Quote them word for word, short phrases, one a line. "
        'Write "none" if no words of the note support it.'
    )


def choosing_prompt(code: str, description: str, candidates) -> str:
    """Stage 2: the candidates by frequency."""
    lines = "\n".join(f"{one.text} ({one.count})" for one in candidates)
    return (
        f"ICD-10-CM code {code} {description}\n\nPhrases that clinicians wrote for it, with how often:\n{lines}\n\nChoose at most {KEPT} of these phrases that "
        "represent the code best: typical, different from one another, and specific to it. Copy each as it is, one a line."
    )


def lines_of(answer: str) -> list[str]:
    """What an answer lists: its lines without bullets, numbers and quotation marks; nothing for "none" and headings."""
    found = []
    for line in answer.splitlines():
        line = _MARK.sub("", line.strip()).strip()
        if len(line) > 1 and line[0] + line[-1] in ('""', "''", "“”"):
            line = line[1:-1].strip()
        if line and line.lower().rstrip(".") != "none" and not line.endswith(":"):
            found.append(line)
    return found


def mine(documents, codebook: CodeBook, llm, journal) -> list[StageOneAnswer]:
    """Stage 1 for every code of every document, in order, whichever is answered first; asks what `journal` (of StageOneAnswer) does not hold."""
    known = {one.key: one for one in journal.records}
    keys = [key for document in documents for key in _mining_prompts(document, codebook)]
    groups = (
        [((document, key), prompt) for key, prompt in _mining_prompts(document, codebook).items() if key not in known]
        for document in documents
    )
    bar = tqdm(desc="quoting", total=len(keys), initial=sum(key in known for key in keys))
    for (document, key), answer in answered(llm, groups, bar):
        known[key] = StageOneAnswer(
            *key, *quotations(document.text, lines_of(answer or "")), llm.name, answer is not None
        )
        journal.append([known[key]])
    return [known[key] for key in keys]


def _mining_prompts(document, codebook: CodeBook) -> dict[tuple[str, str, str], str]:
    """StageOneAnswer.key → its question, for each code of a document."""
    prompts = {
        one.code: mining_prompt(document.text, one.code, codebook.description(one.code) or one.description)
        for one in document.codes
    }
    return {(document.id, code, digest(prompt)): prompt for code, prompt in prompts.items()}


def quotations(text: str, lines) -> tuple[tuple[str, ...], int, int]:
    """(lines that stand in `text`, as it has them on one line, each once; how many stand nowhere in it; how many do and are too long for a phrase)."""
    found, rejected, too_long = {}, 0, 0
    for line in lines:
        place = locate(text, line)
        quoted = one_line(text[slice(*place)]) if place else ""
        if not place:
            rejected += 1
        elif len(quoted) > LONGEST:
            too_long += 1
        else:
            found.setdefault(quoted)
    return tuple(found), rejected, too_long


def candidates(mined) -> dict[str, list[Candidate]]:
    """Code → its quotations over the corpus, commonest first (ties in code order of the text), case aside; codes in order."""
    notes: dict[str, dict[str, dict[str, None]]] = {}
    written: dict[tuple[str, str], Counter] = {}
    for one in mined:
        for text in one.evidence:
            notes.setdefault(one.code, {}).setdefault(text.casefold(), {})[one.note] = None
            written.setdefault((one.code, text.casefold()), Counter())[text] += 1
    found = {}
    for code in sorted(notes):
        of_code = [
            Candidate(min(written[code, key].items(), key=lambda item: (-item[1], item[0]))[0], len(ids), tuple(ids))
            for key, ids in notes[code].items()
        ]
        found[code] = sorted(of_code, key=lambda one: (-one.count, one.text))
    return found


def choose(found: dict[str, list[Candidate]], codebook: CodeBook, llm, journal) -> list[StageTwoAnswer]:
    """Stage 2 for every code, in order; one with a single candidate keeps it unasked, one whose candidates or counts have changed is asked again."""
    known = {one.key: one for one in journal.records}
    prompts = {
        code: choosing_prompt(code, codebook.description(code) or "", several[:CANDIDATES])
        for code, several in found.items()
        if len(several) > 1
    }
    keys = {code: (code, digest(prompt)) for code, prompt in prompts.items()}
    asked = [code for code in prompts if keys[code] not in known]
    bar = tqdm(desc="choosing", total=len(prompts), initial=len(prompts) - len(asked))
    for code, answer in answered(llm, ([(code, prompts[code])] for code in asked), bar):
        lines = [_candidate(line, found[code][:CANDIDATES]) for line in lines_of(answer or "")]
        kept = tuple(dict.fromkeys(line for line in lines if line))[:KEPT]
        known[keys[code]] = StageTwoAnswer(*keys[code], kept, lines.count(None), llm.name)
        journal.append([known[keys[code]]])
    return [
        known[keys[code]] if code in keys else StageTwoAnswer(code, "", (several[0].text,), 0, llm.name)
        for code, several in found.items()
    ]


def _candidate(line: str, among: list[Candidate]) -> str | None:
    """The candidate that `line` copies, case aside, or copies with its count, "CKD (3)"; None where it is none of them."""
    texts = {one.text.casefold(): one.text for one in among}
    key = line.casefold()
    return texts.get(key) or texts.get(re.sub(r"\s*\(\d+\)$", "", key))


def silver_pairs(chosen, found: dict[str, list[Candidate]]) -> list[Pair]:
    """The kept expressions as pairs, with the number of notes that have them and the notes' ids."""
    pairs = []
    for one in chosen:
        of_code = {candidate.text: candidate for candidate in found[one.code]}
        pairs += [
            Pair(text, one.code, "silver", of_code[text].count, "notes: " + ", ".join(of_code[text].notes))
            for text in one.evidence
        ]
    return pairs


def answered(llm, groups, bar):
    """(what a question is about, its answer) as they come, for groups of (about, prompt); a group is never divided: its common beginning is read once."""
    waiting: list[tuple] = []
    with bar:
        for group in itertools.chain(groups, [None]):
            waiting += group or []
            if waiting and (group is None or len(waiting) >= TOGETHER):
                for number, answer in llm.ask([prompt for _, prompt in waiting]):
                    bar.update()
                    yield waiting[number][0], answer
                waiting = []
