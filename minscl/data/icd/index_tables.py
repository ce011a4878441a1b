"""The three tables besides the Alphabetic Index, read on request: neoplasms, external causes, drugs and chemicals.

A line of the neoplasm table has a code for each behaviour, a line of the drug table a code for each circumstance. The
column becomes part of the phrase: "Aspirin" in the column "Adverse effect" is "adverse effect of aspirin". External
causes read in print order: "Drowning > following > fall > into > swimming-pool" is "drowning following fall into
swimming-pool".

Read next: ../spans/gold.py, which pairs the phrases with codes.
"""

from collections.abc import Iterable

from minscl.data.icd.alphabetic_index import Term, read_index, read_table
from minscl.data.icd.editions import Edition
from minscl.data.icd.index_phrases import ADJECTIVE, CONNECTIVE, lowercase_first, plain_title
from minscl.errors import InputError, describe_value

TABLES = ("neoplasm", "external-cause", "drug")  # the roles of their files in an edition
_COLUMN_PHRASES = {  # column heading → (phrase of the table's main term, phrase of any other line)
    "Malignant Primary": ("primary malignant neoplasm", "primary malignant neoplasm of {}"),
    "Malignant Secondary": ("secondary malignant neoplasm", "secondary malignant neoplasm of {}"),
    "Ca in situ": ("carcinoma in situ", "carcinoma in situ of {}"),
    "Benign": ("benign neoplasm", "benign neoplasm of {}"),
    "Uncertain Behavior": ("neoplasm of uncertain behavior", "neoplasm of uncertain behavior of {}"),
    "Unspecified Behavior": ("neoplasm of unspecified behavior", "neoplasm of unspecified behavior of {}"),
    "Poisoning Accidental (unintentional)": ("", "accidental poisoning by {}"),
    "Poisoning Intentional self-harm": ("", "intentional self-harm poisoning by {}"),
    "Poisoning Assault": ("", "poisoning by {}, assault"),
    "Poisoning Undetermined": ("", "poisoning by {}, undetermined"),
    "Adverse effect": ("", "adverse effect of {}"),
    "Underdosing": ("", "underdosing of {}"),
}


def read_columns(name: str, edition: Edition) -> list[list[Term]]:
    """The terms of table `name` (one of TABLES), one list for each column. `see` references stay in their column.

    Raises InputError for a damaged file, and for a column that no phrase is known for.
    """
    if name == "external-cause":
        return [read_index(edition, name, "external cause index")]
    columns = read_table(edition, name, f"{name} table")
    for heading in columns:
        if heading not in _COLUMN_PHRASES:
            raise InputError(
                f"{edition.file(name).path}: a column is headed {describe_value(heading)}, not one of "
                f"{', '.join(_COLUMN_PHRASES)}; leave {name} out of --tables"
            )
    return list(columns.values())


def table_phrase(term: Term) -> str:
    """The phrase of a table's line; "" if its last title has no words of its own ("specified NEC").

    Such a line would otherwise get the phrase of the line above it.
    """
    if not plain_title(term.path[-1]):
        return ""
    main, *subterms = [lowercase_first(term.path[0], frozenset()), *map(plain_title, term.path[1:])]
    if not term.column:  # an external cause
        return " ".join(filter(None, [main, *subterms]))
    neoplasm, template = _COLUMN_PHRASES[term.column]
    if not neoplasm:  # a drug
        return template.format(attach_subterms(main, subterms, " "))
    if not subterms:  # the table's main term, "Neoplasm, neoplastic"
        return neoplasm
    site = attach_subterms(subterms[0], subterms[1:], " " if ADJECTIVE.search(subterms[0]) else ", ")
    is_adjective = ADJECTIVE.search(site) and " " not in site  # "retropharyngeal" is no noun
    return f"{site} {neoplasm}" if is_adjective else template.format(site)


def attach_subterms(head: str, titles: Iterable[str], separator: str) -> str:
    """`head` with adjectives before it, connectives after it, and other titles after it and `separator`.

    "internal upper lip", "stomach, cardiac orifice", "sodium bromide".
    """
    for title in filter(None, titles):
        if CONNECTIVE.match(title):
            head = f"{head} {title}"
        elif ADJECTIVE.search(title):
            head = f"{title} {head}"
        else:
            head = f"{head}{separator}{title}"
    return head
