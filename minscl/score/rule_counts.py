"""How many documents break none of the Tabular List's rules that need no reading of the note: gold and predictions.

Read next: data/icd/rules.py, which defines the rules.
"""

from collections.abc import Callable, Iterable

from minscl.data.icd import CodeBook
from minscl.data.icd.rules import excludes1, invalid, manifestations_without_cause
from minscl.data.types import CodedDocument

RULES: dict[str, Callable[[list[str], CodeBook], list]] = {  # what a document is free of → findings in its codes
    "Excludes1 conflicts": excludes1,
    "manifestations without cause": manifestations_without_cause,
    "invalid codes": invalid,
}


def rule_counts(documents: Iterable[CodedDocument], codebook: CodeBook) -> dict[str, int]:
    """{"documents": how many, "free of …": how many of them, for each of RULES}. Procedure codes are left out."""
    counts = {"documents": 0} | {f"free of {name}": 0 for name in RULES}
    for document in documents:
        codes = [item.code for item in document.codes]
        counts["documents"] += 1
        for name, find in RULES.items():
            counts[f"free of {name}"] += not find(codes, codebook)
    return counts
