"""Prompts and their expected answers: the document and the span template (Eq. 1; Eq. 2 without evidence).

    document: instruction + note → evidence and codes        span: instruction + evidence → code and description

The answer to a document prompt, E before C in one generation:

    Evidence:
    1. acute on chronic systolic heart failure
    2. DM2
    3. A1c of 9.4
    Codes:
    [1] I50.23 Acute on chronic systolic (congestive) heart failure
    [2, 3] E11.65 Type 2 diabetes mellitus with hyperglycemia

Evidence is in document order, each text once: a text that supports two codes, or occurs at two places, is one line, and
codes refer to it by number. The numbers precede the code, which is then written given its evidence: p(C | x, E). Codes
are ordered by their first evidence; a code without evidence comes last, with `[]`. A run of white space in a quotation
becomes one space, because a quotation is one line (locating it in the note ignores white space). A note with nothing to
code gives `none`. The instruction comes first, so all samples of a kind share a prefix of tokens.

Answers without an evidence section have no numbers: `I10 Essential (primary) hypertension`. `reference_first=False` is
the earlier order, numbers last, `I10 Essential (primary) hypertension [1]`. The parser reads both.

The prompts of the baselines (infer/systems/) are here too.

`render_*` and `parse_*` are inverses. Where the tolerant parser of parse.py would change a text, the text is protected:
`1. "none"` quotes the word none, and `[]` ends a code line without numbers whose description would be misread.

deviates: the wording is ours; the paper's Table 6, which has its prompts, is an image.

Read next: parse.py, the inverse; samples.py, which builds training samples.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from minscl.data.answer_sections import REMOVED
from minscl.data.parse import Parsed, ParsedCode, parse_document, parse_span
from minscl.data.parse_line import (
    CANONICAL,
    KnownCategory,
    every_category,
    read_code_line,
    read_heading,
    read_quotation,
)
from minscl.data.types import CodedDocument, Evidence

__all__ = [
    "Parsed",
    "ParsedCode",
    "one_line",
    "parse_codes",
    "parse_document",
    "parse_span",
    "quotation_reads_back",
    "render_document_prompt",
    "render_document_target",
    "render_evidence",
    "render_reasoning_prompt",
    "render_span_prompt",
    "render_span_target",
]

_INSTRUCTION = (
    'Code this note in ICD-10-CM. Under "Evidence:" quote each finding word for word, numbered, in note order. '
    'Under "Codes:" write a line per code: {}. Write "none" if nothing can be coded.'
)
DOCUMENT_INSTRUCTION = _INSTRUCTION.format("evidence numbers in brackets, code, description")
CODE_FIRST_INSTRUCTION = _INSTRUCTION.format("code, description, evidence numbers in brackets")
CODES_INSTRUCTION = (
    'Code this note in ICD-10-CM. Under "Codes:" write a line per code: code, description. '
    'Write "none" if nothing can be coded.'
)
REASONING_INSTRUCTION = (
    "Code this note in ICD-10-CM. First reason step by step: which conditions does the note document, and which code "
    'fits each? Then write "Codes:" and below it a line per code: code, description. '
    'Write "none" if nothing can be coded.'
)
SPAN_INSTRUCTION = "Give the ICD-10-CM code and description for this evidence:"


def render_document_prompt(text: str, evidence_first: bool = True, reference_first: bool = True) -> str:
    """Instruction, blank line, the note unchanged. `evidence_first=False` asks for codes only (Eq. 2, SFT)."""
    with_evidence = DOCUMENT_INSTRUCTION if reference_first else CODE_FIRST_INSTRUCTION
    return f"{with_evidence if evidence_first else CODES_INSTRUCTION}\n\n{text}"


def render_reasoning_prompt(text: str) -> str:
    """The zero-shot chain-of-thought prompt: instruction, blank line, the note. parse_codes parses its answer."""
    return f"{REASONING_INSTRUCTION}\n\n{text}"


def parse_codes(text: str, known_category: KnownCategory | None = None, truncated: bool = False) -> Parsed:
    """The codes of an answer without an evidence section, or with reasoning before its last code heading.

    Arguments as in parse_document; `evidence`, `links` and all references of the result are empty.
    """
    parsed = parse_document(text, known_category, truncated)
    return replace(parsed, evidence=(), links=(), codes=tuple(replace(code, references=()) for code in parsed.codes))


def render_span_prompt(evidence: str) -> str:
    """Instruction, then the evidence phrase on a line of its own."""
    return f"{SPAN_INSTRUCTION}\n{one_line(evidence)}"


def render_span_target(code: str, description: str) -> str:
    """Code, space, description."""
    return f"{code} {one_line(description)}".rstrip()


def render_document_target(document: CodedDocument, evidence_first: bool = True, reference_first: bool = True) -> str:
    """The answer for `document`; with `evidence_first=False` only the code section, without references.

    Evidence without offsets (a prediction's quotation that was not located) comes last; blank evidence is left out.
    """
    evidence = sorted((quotation for assignment in document.codes for quotation in assignment.evidence), key=_order)
    texts = [quotation.text for quotation in evidence]
    number_of = {text: number for number, text in enumerate(_distinct(texts), 1)}
    merged: dict[str, tuple[str, list[Evidence]]] = {}  # a code assigned twice is one line
    for assignment in document.codes:
        merged.setdefault(assignment.code, (assignment.description, []))[1].extend(assignment.evidence)
    lines = []
    for code, (description, quotations) in merged.items():
        references = sorted(
            {number_of[one_line(quotation.text)] for quotation in quotations if one_line(quotation.text)}
        )
        order = (references[0], min(map(_order, quotations))) if references else (len(number_of) + 1,)
        line = f"{code} {one_line(description)}".rstrip()
        if evidence_first and reference_first:
            line = f"[{', '.join(map(str, references))}] {line}"
        elif evidence_first and references:
            line = f"{line} [{', '.join(map(str, references))}]"
        else:
            line = _protected(line, code)
        lines.append((order, line))
    lines.sort(key=lambda item: item[0])  # stable: codes with the same evidence keep the document's order
    section = "\n".join(line for _, line in lines) or "none"
    return (render_evidence(texts) if evidence_first else "Codes:\n") + section


def render_evidence(texts: Iterable[str]) -> str:
    """The evidence section and the heading after it: the beginning of the answer where the user supplies the evidence.

    `texts` is in document order; repeated texts are left out, as in training. Without evidence the section is `none`.
    """
    lines = []
    for number, text in enumerate(_distinct(texts), 1):
        lines.append(f"{number}. {text}" if quotation_reads_back(number, text) else f'{number}. "{text}"')
    return "\n".join(["Evidence:", *(lines or ["none"]), "Codes:", ""])


def quotation_reads_back(number: int, text: str) -> bool:
    """Whether the evidence line `number` with `text`, unquoted, is parsed back to exactly `text`."""
    line = f"{number}. {text}"
    return read_quotation(line, every_category) == (text, None) and not read_heading(line)


def one_line(text: str) -> str:
    """`text` with each run of white space replaced by one space."""
    return " ".join(text.split())


def _protected(line: str, code: str) -> str:
    """A code line without references, ended by `[]` where the parser would not read exactly `code` and description."""
    parsed_back = ([(0, len(code))], line[len(code) + 1 :], ())
    safe = not REMOVED.search(line) and read_code_line(line, every_category) == parsed_back
    return line if safe or not re.match(CANONICAL, code) else f"{line} []"


def _distinct(texts: Iterable[str]) -> list[str]:
    """Each text once, on one line, in order of first appearance."""
    return list(dict.fromkeys(line for line in map(one_line, texts) if line))


def _order(evidence: Evidence) -> tuple[bool, int, int]:
    """Sort key: document order, evidence without offsets last."""
    return evidence.start is None, evidence.start or 0, evidence.end or 0
