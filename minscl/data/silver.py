"""Silver spans (Eq. 7, 8): evidence mined by an LLM from notes that have codes and no evidence.

    stage 1   E_c  = { e | e = f_LLM(x, c), x a note labelled c }     quote what supports the code; only what stands in the note counts
    stage 2   E~_c = f_LLM(c, E_c)                                    of a code's quotations, by frequency, keep the representative ones

Each answer goes into a journal (journal.py), so a job that is stopped goes on where it was. All questions about a note begin with the note: a
local model reads it once (infer/engine.py).

deviates: the wording is ours; the paper's Table 7, which holds its prompts, is an image.

Read next: synthetic.py.
"""

import itertools
import re
from collections import Counter
from dataclasses import asdict, dataclass

from tqdm import tqdm

from minscl.data.icd import CodeBook
from minscl.data.locate import locate
from minscl.data.prompts import one_line
from minscl.data.types import Pair, take

CANDIDATES = 40  # of a code, the commonest, that stage 2 is shown
KEPT = 6  # representative expressions of a code
LONGEST = 200  # characters of a quotation; longer ones are no phrase
TOGETHER = 64  # questions handed to the LLM at a time, at least
_MARK = re.compile(r"^(?:[-*•]|\(?\d{1,3}[.):])\s+")


@dataclass(frozen=True)
class Mined:
    """Stage 1's answer for one code of one note: its quotations as the note has them, and how many stand nowhere in it."""

    note: str
    code: str
    evidence: tuple[str, ...]
    rejected: int
    llm: str
    answered: bool = True  # False: the note was too long to ask about

    @classmethod
    def from_dict(cls, record) -> "Mined":
        kept = take(record, cls, {"note": str, "code": str, "evidence": list, "rejected": int, "llm": str, "answered": bool}, {})
        return cls(**{**kept, "evidence": tuple(kept["evidence"])})

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def key(self) -> tuple[str, str]:
        return self.note, self.code


@dataclass(frozen=True)
class Chosen:
    """Stage 2's answer for one code: the candidates kept, and how many lines were none of them."""

    code: str
    evidence: tuple[str, ...]
    rejected: int
    llm: str

    @classmethod
    def from_dict(cls, record) -> "Chosen":
        kept = take(record, cls, {"code": str, "evidence": list, "rejected": int, "llm": str}, {})
        return cls(**{**kept, "evidence": tuple(kept["evidence"])})

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def key(self) -> str:
        return self.code


@dataclass(frozen=True)
class Candidate:
    """A quotation of a code: the commonest way it is written, how many notes have it, and their ids."""

    text: str
    count: int
    notes: tuple[str, ...]


def mining_prompt(text: str, code: str, description: str) -> str:
    """Stage 1. The note comes first, so that all questions about it begin alike."""
    return (f"Clinical note:\n\n{text}\n\nWhich words of the note support the ICD-10-CM code {code} {description}? Quote them word for word, short phrases, one a line. "
            'Write "none" if no words of the note support it.')


def choosing_prompt(code: str, description: str, candidates) -> str:
    """Stage 2: the candidates by frequency."""
    lines = "\n".join(f"{one.text} ({one.count})" for one in candidates)
    return (f"ICD-10-CM code {code} {description}\n\nPhrases that clinicians wrote for it, with how often:\n{lines}\n\nChoose at most {KEPT} of these phrases that "
            "represent the code best: typical, different from one another, and specific to it. Copy each as it is, one a line.")


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


def mine(documents, codebook: CodeBook, llm, journal) -> list[Mined]:
    """Stage 1 for every code of every document, in order; asks what `journal` (of Mined) does not hold."""
    known = {one.key: one for one in journal.records}
    asked = [(document, [one for one in document.codes if (document.id, one.code) not in known]) for document in documents]
    groups = ([((document, one.code), mining_prompt(document.text, one.code, codebook.description(one.code) or one.description)) for one in codes]
              for document, codes in asked)
    bar = tqdm(desc="quoting", total=sum(len(one.codes) for one in documents), initial=sum(len(one.codes) for one in documents) - sum(len(codes) for _, codes in asked))
    for (document, code), answer in answered(llm, groups, bar):
        found, rejected = quotations(document.text, lines_of(answer or ""))
        mined = Mined(document.id, code, tuple(found), rejected, llm.name, answer is not None)
        known[mined.key] = mined
        journal.append([mined])
    return [known[document.id, one.code] for document in documents for one in document.codes]


def quotations(text: str, lines) -> tuple[list[str], int]:
    """The lines that stand in `text`, as it has them on one line, each once; and the number of the others."""
    found, rejected = {}, 0
    for line in lines:
        place = locate(text, line) if len(line) <= LONGEST else None
        if place:
            found.setdefault(one_line(text[slice(*place)]))
        else:
            rejected += 1
    return list(found), rejected


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
        of_code = [Candidate(min(written[code, key].items(), key=lambda item: (-item[1], item[0]))[0], len(ids), tuple(ids)) for key, ids in notes[code].items()]
        found[code] = sorted(of_code, key=lambda one: (-one.count, one.text))
    return found


def choose(found: dict[str, list[Candidate]], codebook: CodeBook, llm, journal) -> list[Chosen]:
    """Stage 2 for every code; a code with a single candidate keeps it unasked, one whose candidates have changed is asked again."""
    texts = {code: {one.text for one in several} for code, several in found.items()}
    known = {one.key: one for one in journal.records if texts.get(one.code, set()).issuperset(one.evidence)}
    several = [code for code in found if len(found[code]) > 1]
    asked = [code for code in several if code not in known]
    groups = ([(code, choosing_prompt(code, codebook.description(code) or "", found[code][:CANDIDATES]))] for code in asked)
    for code, answer in answered(llm, groups, tqdm(desc="choosing", total=len(several), initial=len(several) - len(asked))):
        among = {one.text.casefold(): one.text for one in found[code][:CANDIDATES]}
        lines = [re.sub(r"\s*\(\d+\)$", "", line).casefold() for line in lines_of(answer or "")]
        kept = dict.fromkeys(among[line] for line in lines if line in among)
        known[code] = Chosen(code, tuple(itertools.islice(kept, KEPT)), sum(line not in among for line in lines), llm.name)
        journal.append([known[code]])
    return [known[code] if len(of_code) > 1 else Chosen(code, (of_code[0].text,), 0, llm.name) for code, of_code in found.items()]


def silver_pairs(chosen, found: dict[str, list[Candidate]]) -> list[Pair]:
    """The kept expressions as pairs, with the number of notes that have them and the notes' ids."""
    pairs = []
    for one in chosen:
        of_code = {candidate.text: candidate for candidate in found[one.code]}
        pairs += [Pair(text, one.code, "silver", of_code[text].count, "notes: " + ", ".join(of_code[text].notes)) for text in one.evidence]
    return pairs


def answered(llm, groups, bar):
    """(what a question is about, its answer), in order, for groups of (about, prompt); a group is never divided, so that its common beginning is read once."""
    waiting: list[tuple] = []
    with bar:
        for group in itertools.chain(groups, [None]):
            waiting += group or []
            if waiting and (group is None or len(waiting) >= TOGETHER):
                for (about, _), answer in zip(waiting, llm.ask([prompt for _, prompt in waiting]), strict=True):
                    bar.update()
                    yield about, answer
                waiting = []
