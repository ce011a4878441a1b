"""Every line of the Alphabetic Index and its tables with the code that it leads to, `see` references followed.

search.py and page.py read the Index through `read_entries` only. Read next: search.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from minscl.collection import collection_paused
from minscl.data.icd.alphabetic_index import SeeReferences, Term, read_index
from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.divided_codes import DividedCodes, term_texts
from minscl.data.icd.editions import Edition
from minscl.data.icd.index_tables import TABLES, read_columns


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A term with the code that it or its `see` reference leads to; `code` is "" where no single code follows."""

    term: Term
    code: str  # without the dash of an incomplete code
    printed: str  # the code as printed: "S52.50-"
    manifestation: str = ""  # the second code, printed in brackets

    @property
    def where(self) -> str:
        """The place as a coder reads it: "index: Attack > heart, see Infarct, myocardium"."""
        see = f", see {self.term.see}" if self.term.see and not self.term.default_code else ""
        return self.term.origin + see + (f" (printed {self.printed})" if self.is_older else "")

    @property
    def is_older(self) -> bool:
        """Whether the code as printed is not in the List any more, or no longer billable, and `code` has its place."""
        return self.code != self.printed.rstrip("-").rstrip(".")

    @property
    def printed_codes(self) -> str:
        """The codes as the Index prints them: "E85.4 [I43]"."""
        return f"{self.printed} [{self.manifestation}]" if self.manifestation else self.printed


def read_entries(codebook: CodeBook) -> list[IndexEntry]:
    """The entries of the edition's Index and tables, as far as it has them, in print order. Raises InputError.

    A code that has been divided since is replaced where its successor is known (DividedCodes), a code that `codebook`
    does not list by the heading that it begins with. Left out: terms with neither code nor reference, "see condition"
    (which names no term), fragments of words, and codes of unknown headings.
    """
    with collection_paused():
        entries: list[IndexEntry] = []
        for terms in _term_lists(codebook.edition):
            references = SeeReferences(terms) if any(term.see for term in terms) else None
            divided = DividedCodes(terms, codebook) if terms and terms[0].book == "index" else None
            for term in terms:
                if term.is_fragment:
                    continue
                target = term if term.default_code or references is None else references.resolve(term)[0]
                printed = target.default_code if target else ""
                code = _listed(printed.rstrip("-").rstrip("."), codebook)
                if target and divided and divided.is_divided(printed):
                    code = divided.resolve(printed, *term_texts(target))[0] or code
                if code or (not printed and term.see and term.see.casefold() != "condition"):
                    entries.append(IndexEntry(term, code, printed, target.manifestation if target else ""))
        return entries


def _listed(code: str, codebook: CodeBook) -> str:
    """The code, or the longest listed heading of four characters or more that it begins with; "" if there is none."""
    while code and codebook.description(code) is None:
        code = code[:-1].rstrip(".") if len(code) > 5 else ""
    return code


def _term_lists(edition: Edition) -> Iterator[list[Term]]:
    """The terms of the Index, and of each column of the tables; references stay within a list."""
    if edition.has("index"):
        yield read_index(edition)
    for name in TABLES:
        if edition.has(name):
            yield from read_columns(name, edition)
