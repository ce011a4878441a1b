"""Silver spans (Eq. 7, 8): evidence that an LLM quotes from notes with codes and no evidence, in two stages.

    stage 1, Eq. 7   E_c  = { e | e = f_LLM(x, c), x a note labelled c }   quote what supports the code, verified in x
    stage 2, Eq. 8   E~_c = f_LLM(c, E_c)                                  select the representative quotations

Each answer is logged on arrival (asking.py). The prompts about a note all begin with the note, so a local model
computes it only once (infer/engine.py).

deviates: the wording of the prompts is ours; the paper's Table 7, which holds them, is an image.

Read next: synthetic.py.
"""

import re
from collections import Counter
from dataclasses import dataclass

from tqdm import tqdm

from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.locate import locate
from minscl.data.prompts import one_line
from minscl.data.spans.answers import StageOneAnswer, StageTwoAnswer
from minscl.data.spans.asking import (
    MAX_PHRASE_CHARACTERS,
    answer_lines,
    ask_about_codes,
    ask_in_batches,
    open_answer_log,
    prompt_digest,
)
from minscl.data.types import CodedDocument, Pair
from minscl.files import output_path

MAX_CANDIDATES = 40  # per code in stage 2's prompt, the most frequent ones
MAX_CHOSEN = 6  # representative expressions of a code


@dataclass(frozen=True)
class Candidate:
    """A quotation of a code: its most frequent spelling, how many notes have it, and their ids."""

    text: str
    count: int
    notes: tuple[str, ...]


Candidates = dict[str, list[Candidate]]  # code → its quotations


def expand_silver(
    documents: list[CodedDocument], codebook: CodeBook, llm, out: str
) -> tuple[list[Pair], list[tuple[str, int]]]:
    """Both stages: (the pairs, counts as (name, number) rows). The answer logs are written beside `out`.

    Raises InputError before any question where `out` cannot be written.
    """
    output_path(out)
    quoted_path, chosen_path = answer_log_paths(out)
    with (
        open_answer_log(quoted_path, StageOneAnswer, llm) as quoted_log,
        open_answer_log(chosen_path, StageTwoAnswer, llm) as chosen_log,
    ):
        quoted = run_stage_one(documents, codebook, llm, quoted_log)
        candidates = collect_candidates(quoted)
        chosen = run_stage_two(candidates, codebook, llm, chosen_log)
    pairs = silver_pairs(chosen, candidates)
    unlisted = sum(not codebook.description(item.code) for document in documents for item in document.codes)
    return pairs, [
        ("notes", len(documents)),
        ("codes not in the Tabular List, not asked about", unlisted),
        ("codes asked about", len(quoted)),
        ("  with a quotation", sum(bool(answer.evidence) for answer in quoted)),
        ("  whose note is too long to ask", sum(not answer.answered for answer in quoted)),
        ("quotations", sum(len(answer.evidence) for answer in quoted)),
        ("  rejected: not in the note", sum(answer.rejected for answer in quoted)),
        ("  rejected: in the note, too long for a phrase", sum(answer.too_long for answer in quoted)),
        ("candidates", sum(map(len, candidates.values()))),
        ("  chosen", sum(len(answer.evidence) for answer in chosen)),
        ("  answers outside them, rejected", sum(answer.rejected for answer in chosen)),
        ("pairs written", len(pairs)),
        ("  distinct codes", len({pair.code for pair in pairs})),
    ]


def answer_log_paths(out: str) -> tuple[str, str]:
    """The answer logs of stages 1 and 2 beside the pairs' file `out`."""
    return f"{out}.quoted.jsonl", f"{out}.chosen.jsonl"


def stage_one_prompt(text: str, code: str, description: str) -> str:
    """Asks for quotations (Eq. 7). The note comes first, so that all prompts about it share a prefix."""
    return (
        f"Clinical note:\n\n{text}\n\nWhich words of the note support the ICD-10-CM code {code} {description}? "
        'Quote them word for word, short phrases, one a line. Write "none" if no words of the note support it.'
    )


def stage_two_prompt(code: str, description: str, candidates: list[Candidate]) -> str:
    """Asks for the representative ones (Eq. 8) of `candidates`, shown with their frequency."""
    lines = "\n".join(f"{candidate.text} ({candidate.count})" for candidate in candidates)
    return (
        f"ICD-10-CM code {code} {description}\n\nPhrases that clinicians wrote for it, with how often:\n{lines}\n\n"
        f"Choose at most {MAX_CHOSEN} of these phrases that represent the code best: typical, different from one "
        "another, and specific to it. Copy each as it is, one a line."
    )


def run_stage_one(documents: list[CodedDocument], codebook: CodeBook, llm, log: AnswerLog) -> list[StageOneAnswer]:
    """Eq. 7: an answer for every code of every document, in order; asks only what is not answered in `log`.

    Prompts that were too long are asked again: the context may be longer now.
    """
    logged = {answer.key for answer in log.records}
    answers = {answer.key: answer for answer in log.records if answer.answered}
    keys = [key for document in documents for key in _stage_one_prompts(document, codebook)]
    groups = (
        [
            ((document, key), prompt)
            for key, prompt in _stage_one_prompts(document, codebook).items()
            if key not in answers
        ]
        for document in documents
    )
    with tqdm(desc="quoting", total=len(keys), initial=sum(key in answers for key in keys)) as bar:
        for (document, key), answer in ask_in_batches(llm, groups, bar):
            located = locate_quotations(document.text, answer_lines(answer or ""))
            answers[key] = StageOneAnswer(*key, *located, llm.name, answer is not None)
            if answer is not None or key not in logged:
                log.append([answers[key]])
    return [answers[key] for key in keys]


def _stage_one_prompts(document: CodedDocument, codebook: CodeBook) -> dict[tuple[str, str, str], str]:
    """StageOneAnswer.key → prompt, for each code of a document that the Tabular List has; no other can be trained."""
    prompts = {
        assignment.code: stage_one_prompt(document.text, assignment.code, description)
        for assignment in document.codes
        if (description := codebook.description(assignment.code))
    }
    return {(document.id, code, prompt_digest(prompt)): prompt for code, prompt in prompts.items()}


def locate_quotations(text: str, lines: list[str]) -> tuple[tuple[str, ...], int, int]:
    """(quotations, rejected, too long) of the `lines` of an answer.

    Quotations are the lines that occur in `text`, spelt as there, on one line, without repetition. `rejected` counts
    the lines that do not occur in `text`, `too long` those that do but exceed MAX_PHRASE_CHARACTERS.
    """
    quotations: dict[str, None] = {}
    rejected = too_long = 0
    for line in lines:
        place = locate(text, line) if any(map(str.isalnum, line)) else None  # no rule of dashes
        quotation = one_line(text[slice(*place)]) if place else ""
        if not place:
            rejected += 1
        elif len(quotation) > MAX_PHRASE_CHARACTERS:
            too_long += 1
        else:
            quotations.setdefault(quotation)
    return tuple(quotations), rejected, too_long


def collect_candidates(answers: list[StageOneAnswer]) -> Candidates:
    """E_c of Eq. 7: a code's quotations over all notes, case ignored, by frequency, then text; codes in order."""
    note_ids: dict[str, dict[str, dict[str, None]]] = {}  # code → folded text → ids of its notes
    spellings: dict[tuple[str, str], Counter[str]] = {}  # (code, folded text) → count of each spelling
    for answer in answers:
        for text in answer.evidence:
            note_ids.setdefault(answer.code, {}).setdefault(text.casefold(), {})[answer.note] = None
            spellings.setdefault((answer.code, text.casefold()), Counter())[text] += 1
    candidates = {}
    for code in sorted(note_ids):
        of_code = []
        for folded, ids in note_ids[code].items():
            text, _ = min(spellings[code, folded].items(), key=lambda item: (-item[1], item[0]))
            of_code.append(Candidate(text, len(ids), tuple(ids)))
        candidates[code] = sorted(of_code, key=lambda candidate: (-candidate.count, candidate.text))
    return candidates


def run_stage_two(candidates: Candidates, codebook: CodeBook, llm, log: AnswerLog) -> list[StageTwoAnswer]:
    """Eq. 8: an answer for every code, in order; asks only what is not in `log`.

    A code with a single candidate keeps it and is not asked about. New candidates or counts make a new prompt.
    """
    prompts = {
        code: stage_two_prompt(code, codebook.description(code) or "", of_code[:MAX_CANDIDATES])
        for code, of_code in candidates.items()
        if len(of_code) > 1
    }

    def read_answer(code: str, digest: str, lines: list[str]) -> StageTwoAnswer:
        matches = [_match_candidate(line, candidates[code][:MAX_CANDIDATES]) for line in lines]
        chosen = tuple(dict.fromkeys(text for text in matches if text))[:MAX_CHOSEN]
        return StageTwoAnswer(code, digest, chosen, matches.count(None), llm.name)

    answers = ask_about_codes(llm, prompts, log, "choosing", read_answer)
    return [
        answers[code] if code in prompts else StageTwoAnswer(code, "", (of_code[0].text,), 0, llm.name)
        for code, of_code in candidates.items()
    ]


def _match_candidate(line: str, candidates: list[Candidate]) -> str | None:
    """The candidate that `line` copies, case ignored, alone or with its count, "CKD (3)"; None for no candidate."""
    texts = {candidate.text.casefold(): candidate.text for candidate in candidates}
    folded = line.casefold()
    return texts.get(folded) or texts.get(re.sub(r"\s*\(\d+\)$", "", folded))


def silver_pairs(answers: list[StageTwoAnswer], candidates: Candidates) -> list[Pair]:
    """The chosen expressions as pairs, each with the number of notes that have it and their ids."""
    pairs = []
    for answer in answers:
        by_text = {candidate.text: candidate for candidate in candidates[answer.code]}
        for text in answer.evidence:
            origin = "notes: " + ", ".join(by_text[text].notes)
            pairs.append(Pair(text, answer.code, "silver", by_text[text].count, origin))
    return pairs
