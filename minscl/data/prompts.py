"""What the model is asked and how it answers: the document and the span template, rendered (Eq. 1, Appendix D).

deviates: the paper's prompt tables are not in the text we have; these templates are ours.
The instruction comes first and the note last, so that all samples of a kind begin with the same tokens. A document's answer:

    Evidence:
    1. acute on chronic systolic heart failure
    2. DM2
    Codes:
    I50.23 Acute on chronic systolic (congestive) heart failure [1]
    E11.9 Type 2 diabetes mellitus without complications [2]

The format is one line a quotation, so runs of white space inside a quotation become one space (locating it in the
note ignores white space). A text quoted for several codes is one numbered line that each of them refers to.

Read next: parse.py, the inverse; samples.py.
"""

DOCUMENT_INSTRUCTION = ("Code this clinical note in ICD-10-CM. First quote the evidence word for word, numbered, in the order of the note. "
                        "Then list each code with its description and the numbers of its evidence.\n\n")
CODES_INSTRUCTION = "Code this clinical note in ICD-10-CM. List each code with its description.\n\n"  # Eq. 2
SPAN_INSTRUCTION = "Give the ICD-10-CM code and description for this evidence:\n"


def render_document_prompt(text: str, evidence_first: bool = True) -> str:
    """The instruction and the note. `evidence_first=False` asks for codes alone (Eq. 2, the code-only baseline)."""
    return (DOCUMENT_INSTRUCTION if evidence_first else CODES_INSTRUCTION) + text


def render_span_prompt(evidence: str) -> str:
    """The instruction and one evidence phrase."""
    return SPAN_INSTRUCTION + one_line(evidence)


def render_span_target(code: str, description: str) -> str:
    """One line: code, space, description."""
    return f"{code} {description}"


def render_evidence(texts) -> str:
    """The evidence section and the heading after it: the beginning of an answer ("+ Evid."). `texts` in document order."""
    lines = [f"{number}. {text}" for number, text in enumerate(numbered(texts), 1)]
    return "Evidence:\n" + "\n".join(lines or ["none"]) + "\nCodes:\n"


def render_document_target(document, evidence_first: bool = True) -> str:
    """The answer for a CodedDocument. Evidence stands in document order, codes in the order of their first evidence."""
    spans = sorted((e.start, e.end, e.text) for one in document.codes for e in one.evidence if e.start is not None)
    texts = [text for _, _, text in spans]
    number = {text: index for index, text in enumerate(numbered(texts), 1)}
    lines = []
    for one in document.codes:
        references = sorted({number[one_line(e.text)] for e in one.evidence if e.start is not None})
        shown = f" {references}" if references and evidence_first else ""
        lines.append((references[:1] or [len(number) + 1], f"{one.code} {one.description}{shown}"))
    lines.sort(key=lambda item: item[0])  # stable: codes of one evidence keep the document's order
    codes = "\n".join(dict.fromkeys(line for _, line in lines)) or "none"
    return (render_evidence(texts) if evidence_first else "Codes:\n") + codes


def numbered(texts) -> list[str]:
    """The quotations as they are numbered: one line each, each text once, in order of first appearance."""
    return list(dict.fromkeys(line for line in map(one_line, texts) if line))


def one_line(text: str) -> str:
    """Runs of white space as one space."""
    return " ".join(text.split())
