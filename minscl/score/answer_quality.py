"""Rates of answers that could not be scored as written, and of codes that are not in the Tabular List.

    `output`, `truncated`, `continued` of documents → parsed again as `generate` parsed them → shares of gold documents

Read next: data/parse.py, which reads an answer; infer/coder.py, which sets the three fields.
"""

from collections.abc import Sequence

from minscl.data.chains import has_steps, split_answers
from minscl.data.icd import CodeBook
from minscl.data.parse import parse_document
from minscl.data.types import CodedDocument
from minscl.score.codes import LabelSets


def rates(
    gold: Sequence[CodedDocument],
    predicted: Sequence[CodedDocument],
    sets: LabelSets,
    codebook: CodeBook | None = None,
) -> dict[str, float]:
    """Each rate by name, 0 to 1.

    Over gold's documents: `missing` (no prediction), `empty` (no codes), `truncated` (stopped at the length limit),
    `sectionless` (no headings), `with malformed lines` (a code line without a code); each of the n chains of cot-sc
    counts as 1/n of its document. Over the predicted ICD-10-CM codes of `sets` (codes.code_sets), 0 if there are
    none: `unlisted codes` (not in the code set), `codes not billable`. `codebook`: the code set; None: the default
    edition.
    """
    book = codebook or CodeBook.load()
    codes = [code for _, predicted_codes in sets for code in predicted_codes]
    missing = len(gold) - len(predicted)
    defects = [answer_defects(document, book) for document in predicted]
    counts = {
        "missing": missing,
        "empty": missing + sum(not document.codes for document in predicted),
        "truncated": sum(truncated for truncated, _, _ in defects),
        "sectionless": sum(sectionless for _, sectionless, _ in defects),
        "with malformed lines": sum(malformed for _, _, malformed in defects),
    }
    return {name: number / len(gold) for name, number in counts.items()} | {
        "unlisted codes": sum(book.description(code) is None for code in codes) / max(1, len(codes)),
        "codes not billable": sum(not book.is_billable(code) for code in codes) / max(1, len(codes)),
    }


def answer_defects(document: CodedDocument, codebook: CodeBook) -> tuple[float, float, float]:
    """(truncated, sectionless, with malformed lines) of a prediction, each 0 or 1, or the share of its chains.

    A prediction without the field `truncated` counts as not truncated, one without `output`, or
    of several steps, as well-formed.
    """
    truncated_answers = document.truncated or 0
    if document.output is None or has_steps(document.output):  # steps are questions, and their replies no whole answer
        return float(truncated_answers > 0), 0.0, 0.0
    answers = split_answers(document.output)
    if document.continued:  # the human evidence in the prompt ended with the heading "Codes:"
        answers = [f"Codes:\n{answer}" for answer in answers]
    truncated = truncated_answers / len(answers)
    # which of several chains was truncated is not recorded
    parsed = [parse_document(answer, codebook.has_category, truncated == 1) for answer in answers]
    return (
        truncated,
        sum(answer.sectionless for answer in parsed) / len(answers),
        sum(answer.malformed > 0 for answer in parsed) / len(answers),
    )
