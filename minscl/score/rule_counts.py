"""How many documents break none of the Tabular List's rules that need no reading of the note: gold and predictions.

Read next: data/icd/rules/, which define the rules.
"""

from collections.abc import Callable, Iterable

from minscl.data.icd import CodeBook
from minscl.data.icd.rules import excludes1, invalid, manifestations_without_cause
from minscl.data.types import CodedDocument

FREE_OF: dict[str, Callable[[list[str], CodeBook], list]] = {  # name of the count → the findings in a document's codes
    "free of Excludes1 conflicts": excludes1,
    "free of manifestations without cause": manifestations_without_cause,
    "free of invalid codes": invalid,
}


def rule_counts(documents: Iterable[CodedDocument], codebook: CodeBook) -> dict[str, int]:
    """{"documents": how many, and for each of FREE_OF how many of them}. Procedure codes are left out."""
    counts = {"documents": 0} | dict.fromkeys(FREE_OF, 0)
    for document in documents:
        codes = [item.code for item in document.codes]
        counts["documents"] += 1
        for name, findings in FREE_OF.items():
            counts[name] += not findings(codes, codebook)
    return counts
