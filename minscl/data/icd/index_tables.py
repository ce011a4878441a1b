"""The three tables beside the Alphabetic Index, on request: neoplasms, external causes, drugs and chemicals; read, and said as phrases.

A line of the neoplasm table has a code for each behaviour, one of the drug table a code for each way of being harmed. The columns are
put into words: "Aspirin", in the column "Adverse effect", is "adverse effect of aspirin". External causes read in print order:
"Drowning > following > fall > into > swimming-pool" is "drowning following fall into swimming-pool".

Read next: gold.py.
"""

from minscl.data.icd.alphabetic_index import Term, read_index, read_table
from minscl.data.icd.index_phrases import ADJECTIVE, CONNECTIVE, clean, small

TABLES = {
    "neoplasm": "icd10cm_neoplasm_2025.xml.gz",
    "external-cause": "icd10cm_eindex_2025.xml.gz",
    "drug": "icd10cm_drug_2025.xml.gz",
}
COLUMNS = {  # heading → (words of the term that heads the table, words of a line)
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


def read_columns(name: str) -> list[list[Term]]:
    """The terms of table `name`, a list a column; references stay within their column."""
    if name == "external-cause":
        return [read_index(TABLES[name], "external cause index")]
    return list(read_table(TABLES[name], f"{name} table").values())


def said(term: Term) -> str:
    """A line of a table in words; "" where its last title has none of its own ("specified NEC"), for then it would name the line above."""
    if not clean(term.path[-1]):
        return ""
    head, *below = [small(term.path[0], frozenset()), *map(clean, term.path[1:])]
    if not term.column:
        return " ".join(filter(None, [head, *below]))  # an external cause
    alone, line = COLUMNS[term.column]
    if not alone:
        return line.format(around(head, below, " "))  # a drug
    if not below:
        return alone  # the table's title itself, "Neoplasm, neoplastic"
    site = around(below[0], below[1:], " " if ADJECTIVE.search(below[0]) else ", ")
    return (
        f"{site} {alone}" if ADJECTIVE.search(site) and " " not in site else line.format(site)
    )  # "retropharyngeal" is no noun


def around(head: str, below: list[str], joint: str) -> str:
    """Adjectives before the head, everything else after it: "internal upper lip", "stomach, cardiac orifice", "sodium bromide"."""
    for title in filter(None, below):
        if CONNECTIVE.match(title):
            head = f"{head} {title}"
        else:
            head = f"{title} {head}" if ADJECTIVE.search(title) else f"{head}{joint}{title}"
    return head
