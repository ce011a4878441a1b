"""How often an answer could not be scored as it was written, and how often its codes are none of the list (EVALUATION 4).

    documents with `output` and `warnings` → read again as generate read them → shares of gold's documents, and of the predicted codes

Read next: data/parse.py, which reads an answer; infer/coder.py, which writes `output` and the warnings.
"""

import re

from minscl.data.icd import CodeBook
from minscl.data.parse import parse_document

CHAIN = re.compile(r"^--- chain \d+ of \d+\n", re.MULTILINE)  # what coder.py writes between cot-sc's answers
CUT = re.compile(
    r"(?:the answer|(\d+) of \d+ chains) (?:stopped at|was brought to its end by) (?:its|their) length limit"
)  # and how it warns of a cut answer
NO_HEADINGS = "the answer has no section headings"


def rates(gold, predicted, sets) -> dict[str, float]:
    """Of gold's documents: without prediction, without codes, cut at the length limit, without headings, with malformed code lines; of the predicted
    ICD-10-CM codes (`sets`: metrics.code_sets): not in the Tabular List, not billable. The chains of cot-sc are equal parts of their document.
    """
    book, answers, codes = (
        CodeBook.load(),
        {one.id: one for one in predicted},
        [code for _, found in sets for code in found],
    )
    missing, read = len(gold) - len(answers), [(0.0, 0.0, 0.0), *map(read_output, answers.values())]
    truncated, sectionless, malformed = map(sum, zip(*read, strict=True))
    counts = {
        "missing": missing,
        "empty": missing + sum(not one.codes for one in answers.values()),
        "truncated": truncated,
        "sectionless": sectionless,
        "with malformed lines": malformed,
    }
    return {name: number / len(gold) for name, number in counts.items()} | {
        "unlisted codes": sum(book.description(code) is None for code in codes) / max(1, len(codes)),
        "codes not billable": sum(not book.is_billable(code) for code in codes) / max(1, len(codes)),
    }


def read_output(document) -> tuple[float, float, float]:
    """(truncated, sectionless, with malformed lines) of a CodedDocument's `output`, each 0 or 1, or the share of its chains.

    An answer without headings that `generate` did not warn of goes on from given evidence, whose last line is the heading "Codes:".
    """
    cut = next(filter(None, map(CUT.match, document.warnings or ())), None)
    if document.output is None:
        return float(cut is not None), 0.0, 0.0
    chains = (
        [one.removesuffix("\n") for one in CHAIN.split(document.output)[1:]]
        if document.output.startswith("--- chain 1 of ")
        else []
    )
    texts = chains or [document.output]
    truncated = 0.0 if cut is None else int(cut[1] or 1) / len(texts)
    parsed = [
        parse_document(text, _known_category, truncated == 1) for text in texts
    ]  # of several chains it is not said which was cut
    if not chains and parsed[0].sectionless and document.warnings is not None and NO_HEADINGS not in document.warnings:
        parsed = [parse_document(f"Codes:\n{document.output}", _known_category, truncated == 1)]
    return (
        truncated,
        sum(one.sectionless for one in parsed) / len(texts),
        sum(one.malformed > 0 for one in parsed) / len(texts),
    )


def _known_category(code: str) -> bool:
    return CodeBook.load().description(code[:3]) is not None
