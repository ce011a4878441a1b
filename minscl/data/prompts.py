"""What the model is asked and how it answers: the document and the span template, rendered (Eq. 1; Eq. 2 without evidence).

    document: instruction + note → evidence and codes        span: instruction + evidence → code and description

A document's answer, E before C, in one generation:

    Evidence:
    1. acute on chronic systolic heart failure
    2. DM2
    3. A1c of 9.4
    Codes:
    I50.23 Acute on chronic systolic (congestive) heart failure [1]
    E11.65 Type 2 diabetes mellitus with hyperglycemia [2, 3]

Evidence stands in document order, each text once: a text that supports two codes, or stands at two places, is one line,
and codes refer to it by number. Codes follow the number of their first evidence. Runs of white space in a quotation become one space, since
the format is one line a quotation (finding it in the note disregards white space). Nothing to code is `none`. The
instruction comes first, so that all samples of a kind begin with the same tokens.

The baselines' prompts (infer/systems.py) stand here too.

`render_*` and `parse_*` are inverses. Where the tolerant reading of parse.py would change a text, the text is protected:
`1. "none"` quotes the word none, and `[]` ends a code line whose description would be misread.

deviates: the wording is ours; the paper's Table 6, which holds its prompts, is an image.

Read next: parse.py, the inverse; samples.py.
"""

import re
from dataclasses import replace

from minscl.data.parse import REMOVED, Parsed, ParsedCode, parse_document, parse_span
from minscl.data.parse_line import CANONICAL, read_code_line, read_heading, read_quotation

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

DOCUMENT_INSTRUCTION = (
    'Code this note in ICD-10-CM. Under "Evidence:" quote each finding word for word, numbered, in note order. Under '
    '"Codes:" write a line per code: code, description, evidence numbers in brackets. Write "none" if nothing can be coded.'
)
CODES_INSTRUCTION = 'Code this note in ICD-10-CM. Under "Codes:" write a line per code: code, description. Write "none" if nothing can be coded.'
REASONING_INSTRUCTION = (
    "Code this note in ICD-10-CM. First reason step by step: which conditions does the note document, and which code fits each? "
    'Then write "Codes:" and below it a line per code: code, description. Write "none" if nothing can be coded.'
)
SPAN_INSTRUCTION = "Give the ICD-10-CM code and description for this evidence:"


def render_document_prompt(text: str, evidence_first: bool = True) -> str:
    """Instruction, blank line, the note as it is. `evidence_first=False` asks for codes alone (Eq. 2, the baseline)."""
    return f"{DOCUMENT_INSTRUCTION if evidence_first else CODES_INSTRUCTION}\n\n{text}"


def render_reasoning_prompt(text: str) -> str:
    """The zero-shot chain of thought: instruction, blank line, the note as it is. parse_codes reads the answer."""
    return f"{REASONING_INSTRUCTION}\n\n{text}"


def parse_codes(text: str, known_category=None, truncated: bool = False) -> Parsed:
    """The codes of an answer that names no evidence, or reasons before it: what stands under the last code heading; see parse_document."""
    parsed = parse_document(text, known_category, truncated)
    return replace(parsed, evidence=(), links=(), codes=tuple(replace(one, references=()) for one in parsed.codes))


def render_span_prompt(evidence: str) -> str:
    """Instruction, then the evidence phrase on its line."""
    return f"{SPAN_INSTRUCTION}\n{one_line(evidence)}"


def render_span_target(code: str, description: str) -> str:
    """Code, space, description."""
    return f"{code} {one_line(description)}".rstrip()


def render_document_target(document, evidence_first: bool = True) -> str:
    """The answer for a CodedDocument; with `evidence_first=False` the code section alone, without references.

    Evidence without offsets (a prediction's, not found in its note) comes last. Evidence that is only white space is left out.
    """
    evidence = sorted((one for code in document.codes for one in code.evidence), key=_place)
    texts = [one.text for one in evidence]
    number = {text: n for n, text in enumerate(_distinct(texts), 1)}
    codes: dict[str, tuple] = {}  # code → (description, evidence); a code given twice is one line
    for one in document.codes:
        description, found = codes.get(one.code, (one.description, ()))
        codes[one.code] = (description, found + one.evidence)
    lines = []
    for code, (description, found) in codes.items():
        references = sorted({number[one_line(one.text)] for one in found if one_line(one.text)})
        order = (references[0], min(map(_place, found))) if references else (len(number) + 1,)
        lines.append((order, _code_line(code, one_line(description), references if evidence_first else [])))
    lines.sort(key=lambda item: item[0])  # stable: codes of the same evidence keep the document's order
    section = "\n".join(line for _, line in lines) or "none"
    return (render_evidence(texts) if evidence_first else "Codes:\n") + section


def render_evidence(texts) -> str:
    """The evidence section and the heading after it: what an answer begins with where people give the evidence ("+ Evid.").

    `texts` in document order; a text that came before is left out, as in training. No evidence gives `none`.
    """
    lines = []
    for number, text in enumerate(_distinct(texts), 1):
        lines.append(f"{number}. {text}" if quotation_reads_back(number, text) else f'{number}. "{text}"')
    return "\n".join(["Evidence:", *(lines or ["none"]), "Codes:", ""])


def quotation_reads_back(number: int, text: str) -> bool:
    """Whether evidence line `number` with `text` as it is comes back to the letter."""
    line = f"{number}. {text}"
    return read_quotation(line, _any) == (text, None) and not read_heading(line)


def one_line(text: str) -> str:
    """`text` with each run of white space as one space."""
    return " ".join(text.split())


def _code_line(code: str, description: str, references: list[int]) -> str:
    line = f"{code} {description}".rstrip()
    if references:
        return f"{line} [{', '.join(map(str, references))}]"
    safe = not REMOVED.search(line) and read_code_line(line, _any) == ([(0, len(code))], description, ())
    return line if safe or not re.match(CANONICAL, code) else f"{line} []"


def _distinct(texts) -> list[str]:
    """Each text once, on one line, in order of first appearance."""
    return list(dict.fromkeys(line for line in map(one_line, texts) if line))


def _place(evidence) -> tuple:
    return (evidence.start is None, evidence.start or 0, evidence.end or 0)


def _any(category: str) -> bool:
    return True
