"""clh: Code Like Humans (Motzfeldt et al. 2025, Findings of EMNLP, arXiv 2509.05378; code: MotzWanted/codeseeker).

    note ─► extract ─► quotations ─► locate ─► candidates ─► assign ─► codes ─► verify ─► codes
              LLM                     BM25                     LLM                LLM
                                                 one question a quotation   one question a code

1. extract: the LLM quotes what is to be coded.
2. locate: each quotation is looked up in the Alphabetic Index and the Tabular List (retrieval.py), without an LLM.
3. assign: for each quotation the LLM reads the candidates with the Tabular List's notes and names one number, or 0.
4. verify: for each code of the list the LLM reads all codes, what the Tabular List says against this one beside them,
   and guideline sentences, and says whether it stays.

Theirs: the four steps in this order (analyze, locate, assign, verify, after the UK's National Health Service), the
Alphabetic Index as the way in, the instructional notes beside the candidates, "none" as number 0, and guidelines in the
last step; temperature 0. From their code: candidates are numbered, and an answer is a number.

Ours: the prompts; BM25 alone in place of dense and sparse embeddings, fused, and of an LLM that picks among the terms;
quotations word for word in place of normalised lead terms with modifiers, so that codes have evidence; one question for
each quotation rather than for each group of codes; no reasoning before an answer, which is one of a list and nothing
else; verification code by code, by the rules of data/icd/rules and seven sentences after the Official Guidelines in
place of whole sections of them. Of 7th characters, only that of the initial encounter is a candidate.

A code's score is the probability of its number times that of its yes; None where a server answers.

Read next: questions.py, the loop; mac.py.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from minscl.data.icd import CodeBook
from minscl.data.icd.rules import check
from minscl.data.prompts import one_line, parse_document
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.infer.answer import locate_all
from minscl.infer.systems.questions import QUOTATIONS, Dialogue, Question, Reply, introduce, score, yes_no

CLH = "clh"
MAX_QUOTATIONS = 40
CANDIDATES = 10  # for each quotation
MAX_NOTE_CHARACTERS = 240  # of each kind of note that is shown beside a candidate
KINDS = {  # notes of the Tabular List that are shown, by what they are called there
    "inclusionTerm": "inclusion terms",
    "includes": "includes",
    "excludes1": "Excludes1",
    "codeFirst": "code first",
    "useAdditionalCode": "use additional code",
}
# After the ICD-10-CM Official Guidelines for Coding and Reporting, by section, in our words.
GUIDELINES = (
    "Assign the most specific code that the note supports (I.B.2).",
    "Do not code signs and symptoms that routinely belong to a confirmed diagnosis of the note (I.B.5).",
    "Codes that an Excludes1 note separates are not assigned together for one condition (I.A.12.a).",
    "Where a condition has a cause and a manifestation, code both and the cause first (I.A.13).",
    "Do not code a condition that the note denies or that was treated earlier and no longer exists (IV.J).",
    "Do not code what is only suspected or to be ruled out, unless it is so at an inpatient's discharge (II.H, IV.H).",
    "Code what is evaluated, treated or affects care in this encounter (III, IV.J).",
)
EXTRACT = (
    "Which diagnoses, symptoms, injuries, statuses and reasons for this encounter are to be coded in ICD-10-CM? "
    'Under "Evidence:" quote each word for word, numbered, in note order. Write "none" if nothing can be coded.'
)


class CodeSource(Protocol):
    """What finds candidates, such as retrieval.Retriever."""

    def codes(self, phrase: str, limit: int) -> list[str]:
        """At most `limit` distinct billable codes, best first."""


def code_like_humans(note: Note, codebook: CodeBook, retriever: CodeSource) -> Dialogue:
    """The dialogue about `note`; its document has each code that was assigned and verified, with its quotations."""
    shared = introduce(note)
    [extracted] = yield [Question("extract", shared, EXTRACT, QUOTATIONS, note=note.text)]
    quotations = distinct_quotations(note.text, extracted)
    located = [(item, retriever.codes(item.text, CANDIDATES)) for item in quotations[:MAX_QUOTATIONS]]
    lookups = [(item, codes) for item, codes in located if codes]

    replies = yield [assign_question(shared, item, codes, codebook) for item, codes in lookups]
    evidence: defaultdict[str, list[Evidence]] = defaultdict(list)
    choices: dict[str, list[Reply]] = {}
    for (item, codes), reply in zip(lookups, replies, strict=True):
        if number := int(reply.text):
            code = codes[number - 1]
            evidence[code].append(item)
            choices.setdefault(code, []).append(reply)

    verdicts = yield verify_questions(shared, evidence, codebook)
    assignments = tuple(
        Assignment(
            code, codebook.description(code) or "", tuple(evidence[code]), score=best_score(choices[code], verdict)
        )
        for code, verdict in zip(evidence, verdicts, strict=True)
        if verdict.text == "yes"
    )
    not_found = [item.text for item, codes in located if not codes]
    warnings = tuple(f"no code was located for: {text}" for text in not_found)
    if left_out := len(quotations[MAX_QUOTATIONS:]):
        warnings += (f"{left_out} quotations after the first {MAX_QUOTATIONS} were not looked up",)
    return CodedDocument(note.id, note.text, assignments, warnings=warnings)


def distinct_quotations(text: str, reply: Reply) -> list[Evidence]:
    """The quotations of the reply that are in the note `text`, each place once."""
    items = locate_all(text, dict.fromkeys(parse_document(reply.text).evidence))
    return list(dict.fromkeys(item for item in items if item.grounded))


def assign_question(shared: str, item: Evidence, codes: Sequence[str], codebook: CodeBook) -> Question:
    """Which of the candidates is meant: a number from 1, or 0."""
    lines = [f"{number}. {describe(code, codebook)}" for number, code in enumerate(codes, 1)]
    asks = (
        f'Which ICD-10-CM code is assigned for "{one_line(item.text)}" in this note?\n'
        + "\n".join(["0. none of these", *lines])
        + "\nAnswer with the number alone."
    )
    return Question("assign", shared, asks, options=tuple(map(str, range(len(codes) + 1))))


def describe(code: str, codebook: CodeBook) -> str:
    """Code, description, and what the Tabular List notes at the code and at its category."""
    notes = []
    for kind, name in KINDS.items():
        nodes = dict.fromkeys((code, codebook.category(code)))
        if texts := [text for node in nodes for text in codebook.notes(node, kind)]:
            shown = one_line("; ".join(texts))
            shown = shown if len(shown) <= MAX_NOTE_CHARACTERS else shown[:MAX_NOTE_CHARACTERS].rsplit(" ", 1)[0] + " …"
            notes.append(f"{name}: {shown}")
    return f"{code} {codebook.description(code)}" + (f" ({'; '.join(notes)})" if notes else "")


def verify_questions(shared: str, codes: Iterable[str], codebook: CodeBook) -> list[Question]:
    """One question for each code of the list; what they have alike comes first."""
    listed = list(codes)
    lines = [f"{code} {codebook.description(code)}" for code in listed]
    common = "\n".join(["Codes assigned to this note:", *lines, "Guidelines:", *GUIDELINES])
    findings = check(listed, codebook)
    questions = []
    for code in listed:
        against = [str(finding) for finding in findings if code in finding.codes and not finding.informational]
        about = "\n".join([f"The Tabular List on {code}:", *against]) + "\n" if against else ""
        asks = f"{common}\n{about}Does {code} {codebook.description(code)} stay on the list?"
        questions.append(yes_no("verify", shared, asks))
    return questions


def best_score(choices: Sequence[Reply], verdict: Reply) -> float | None:
    """The highest score that one of the replies which chose a code gives it, with its verdict."""
    scores = [score(choice, verdict) for choice in choices]
    return max((item for item in scores if item is not None), default=None)
