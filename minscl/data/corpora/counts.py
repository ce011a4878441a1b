"""Shared by the readers of this package: the names of the splits, counts with warnings, documents with codes only.

Read next: mdace.py, codiesp.py, mimic_iv.py, aci_bench.py.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field

from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument
from minscl.errors import printable

SPLITS = ("train", "val", "test")
MAX_WARNINGS = 10  # per kind that are printed; all are counted


@dataclass
class Counts:
    """What was read, by name in order of first use, and the warnings to print. The reader of a corpus fills it."""

    numbers: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    def warn(self, kind: str, message: str) -> None:
        """Count a warning of `kind`; only the first MAX_WARNINGS messages of a kind are kept."""
        self.numbers[kind] += 1
        if self.numbers[kind] <= MAX_WARNINGS:
            last = " (more of these are only counted)" if self.numbers[kind] == MAX_WARNINGS else ""
            self.warnings.append(printable(message + last))

    def print_warnings(self) -> None:
        """Print the warnings on stderr, for readers that return records alone."""
        for message in self.warnings:
            print(f"minscl: warning: {message}", file=sys.stderr)


def document_without_evidence(id: str, text: str, codes, codebook: CodeBook, counts: Counts) -> CodedDocument:
    """A note with `codes` (str, in canonical form) and no evidence for them; adds to `counts`."""
    document = CodedDocument(id, text, tuple(Assignment(code, codebook.description(code) or "") for code in codes))
    count_codes(document, codebook, counts)
    return document


def count_codes(document: CodedDocument, codebook: CodeBook, counts: Counts) -> None:
    """Add a document that is written to `counts`, with its codes and their evidence."""
    spans = sum(len(assignment.evidence) for assignment in document.codes)
    not_billable = sum(not codebook.is_billable(assignment.code) for assignment in document.codes)
    counts.numbers["documents written"] += 1
    counts.numbers["  codes"] += len(document.codes)
    counts.numbers["  codes that are not billable today, kept"] += not_billable
    if spans:
        counts.numbers["  evidence spans"] += spans
