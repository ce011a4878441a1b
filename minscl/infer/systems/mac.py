"""mac: five roles by turns (Li et al. 2024, Exploring LLM Multi-Agents for ICD Coding, arXiv 2406.15363).

    note ─► physician ─► coder ─► reviewer ─┬─► physician ─┬─► adjuster ─► codes
            SOAP note    candidates  yes/no └─► patient   ─┘   yes/no, where the three differ
                         + evidence  a code      yes/no a code

1. The physician writes the encounter as a SOAP note: subjective, objective, assessment, plan.
2. The coder reads the note and the physician's, and writes evidence and codes. These are the candidates: later roles
   can drop them and add nothing.
3. The reviewer says of each candidate whether the note supports it, with the Tabular List's notes at hand.
4. The physician and the patient, who learn the reviewer's verdict, each say whether it is right.
5. The adjuster decides where these three verdicts differ; where they agree, that is the decision.

Theirs: the five roles and their duties, the SOAP structure, and that the adjuster settles what patient or physician
contest. No training.

Ours: the prompts; the fixed number of turns, each asked once; the reviewer, who may only drop codes, not write others;
verdicts code by code in place of a discussion of the list; and the coder's answer with evidence, in SCL's format
(data/prompts.py), so that codes can be traced to the note.

deviates: the paper was not at hand in full, only its abstract and reviews of it; its prompts are not known to us.

A code's score is the probability of the verdict that decided; None where a server answers.

Read next: questions.py, the loop; verify.py.
"""

import dataclasses
from collections.abc import Sequence

from minscl.data.icd import CodeBook
from minscl.data.prompts import DOCUMENT_INSTRUCTION, parse_document
from minscl.data.types import Assignment, CodedDocument, Note
from minscl.infer.answer import locate_all
from minscl.infer.systems.clh import describe
from minscl.infer.systems.questions import CODES, TEXT, Dialogue, Question, Reply, introduce, score, yes_no

MAC = "mac"
MAX_CODES = 40
SOAP = (
    "You are the physician. Write this encounter as a short SOAP note: Subjective, Objective, Assessment, Plan. "
    "State nothing that the note does not say."
)
CODER = "You are the coder. The physician's SOAP note:\n{soap}\n\n" + DOCUMENT_INSTRUCTION.replace(
    "this note", "the note above"
)
REVIEWER = "You are the reviewer. The coder assigned {code}. Does the note support this code?"
PHYSICIAN = (
    "You are the physician. The coder assigned {code}, and the reviewer says {reviewer}. Is it right to assign this "
    "code?"
)
PATIENT = (
    "You are the patient. The coder assigned {code}, and the reviewer says {reviewer}. Is this something that you had "
    "or were seen for, as the note tells it?"
)
ADJUSTER = (
    "You are the adjuster and decide. The coder assigned {code}. The reviewer says {reviewer}, the physician says "
    "{physician}, the patient says {patient}. Is the code assigned?"
)


def multi_agent_coding(note: Note, codebook: CodeBook) -> Dialogue:
    """The dialogue about `note`; its document has the coder's codes that were not dropped, in the coder's order."""
    shared = introduce(note)
    [soap] = yield [Question("physician: SOAP note", shared, SOAP, TEXT)]
    [answer] = yield [Question("coder", shared, CODER.format(soap=soap.text), CODES, note=note.text)]
    candidates, warnings = read_candidates(note, answer, codebook)
    names = [describe(item.code, codebook) for item in candidates]

    reviewer = yield [yes_no("reviewer", shared, REVIEWER.format(code=name)) for name in names]
    facts = [{"code": name, "reviewer": verdict.text} for name, verdict in zip(names, reviewer, strict=True)]
    replies = yield [
        yes_no(role, shared, template.format(**fact))
        for role, template in (("physician", PHYSICIAN), ("patient", PATIENT))
        for fact in facts
    ]
    physician, patient = replies[: len(names)], replies[len(names) :]

    verdicts = list(zip(reviewer, physician, patient, strict=True))
    contested = [number for number, replies in enumerate(verdicts) if len({reply.text for reply in replies}) > 1]
    decisions = yield [
        yes_no(
            "adjuster",
            shared,
            ADJUSTER.format(**facts[number], physician=physician[number].text, patient=patient[number].text),
        )
        for number in contested
    ]
    decided = dict(enumerate(reviewer)) | dict(zip(contested, decisions, strict=True))
    codes = tuple(
        dataclasses.replace(item, score=score(decided[number]))
        for number, item in enumerate(candidates)
        if decided[number].text == "yes"
    )
    return CodedDocument(note.id, note.text, codes, warnings=warnings)


def read_candidates(note: Note, answer: Reply, codebook: CodeBook) -> tuple[Sequence[Assignment], tuple[str, ...]]:
    """The billable codes of the coder's answer with their evidence, each once, and what was left out of it."""
    parsed = parse_document(answer.text, codebook.has_category, truncated=answer.truncated)
    quotations = locate_all(note.text, parsed.evidence)
    candidates: dict[str, Assignment] = {}
    left_out: dict[str, None] = {}
    for item in parsed.codes:
        if not codebook.is_billable(item.code):
            left_out[item.code] = None
            continue
        support = [quotations[number - 1] for number in item.references if 1 <= number <= len(quotations)]
        evidence = tuple(dict.fromkeys(quotation for quotation in support if quotation.grounded))
        candidates.setdefault(item.code, Assignment(item.code, codebook.description(item.code) or "", evidence))
    warnings = []
    if left_out:
        warnings.append(f"the coder's codes are not billable and left out: {', '.join(left_out)}")
    if unread := list(candidates)[MAX_CODES:]:
        warnings.append(f"the coder's codes after the first {MAX_CODES} are left out: {', '.join(unread)}")
    return list(candidates.values())[:MAX_CODES], tuple(warnings)
