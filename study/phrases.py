"""What clinicians call a disease: for each ICD-10-CM code the phrases by which a note may mention it.

Hand-written tables (resources/phrases_*.txt) have phrases for the codes of MDACE's charts and other common codes; every
other code gets its phrases from its Tabular description, rewritten in clinical wording, and from the gold pairs
(Alphabetic Index, inclusion terms). A phrase belongs to a single code: where several claim it, hand-written phrases win
over gold pairs, and these over descriptions, so that the training data never contradicts itself.

The class of a phrase determines where in a sentence it fits:
n chronic noun ("hypertension"), c current noun, never after "history of" ("septic shock"), h noun that says history
itself ("prior MI"), a adjective ("hypotensive"), s status ("s/p CABG"), r role ("former smoker"), v verb phrase
("smokes a pack a day"), m medication, p procedure, e event ("mechanical fall"), o organism, l laboratory finding ("Na
of 124").

Read next: notes.py.
"""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from minscl.data.types import Pair
from minscl.errors import InputError

TABLES = Path(__file__).parent / "resources"
KINDS = "nchasrvmpeol"
# Categories of conditions that always belong to the present stay: their nouns without a class in the table are "c".
_CURRENT = re.compile(
    r"^(A[034]|B[0-3]|B4[49]|B59|C|D[0-4]|D62|D65|D70|D72|D78|E16|E86|E87|E88\.3|G00|G0[4-6]|G9[1367]|H1[01]|H53|I16|I21|"
    r"I26|I30|I33|I46|I6[0-3]|I74|I82\.4|I82\.6|I95|I97|J0|J1|J2[0-2]|J38|J69|J8[01]|J9[0-68]|K25\.[0-4]|K26\.[0-4]|"
    r"K27\.[0-4]|K35|K5[56]|K57\.[0-9]1|K61|K63\.1|K65|K68|K7[25]|K8[0-3]|K85|K91|K92|L0|L2[57]|L5|L89|L97|"
    r"M60|M62\.82|M79\.8|N0[01]|N1[0379]|N30|N39|O|P|R|S|T|Z1)"
)


@dataclass(frozen=True)
class Phrase:
    """A way to mention `code`. `kind`: its class, a letter of KINDS; `weight`: how common it is for the code."""

    text: str
    kind: str
    code: str
    weight: float = 1.0


def default_kind(code: str) -> str:
    """The class of a noun phrase for `code` that has no class in a table."""
    if code[0] in "VWXY":
        return "e"
    if code.startswith(("Z85", "Z86", "Z87", "Z80", "Z81", "Z82", "Z83")):
        return "h"
    if code.startswith(("Z79", "Z89", "Z9")):
        return "s"
    return "c" if _CURRENT.match(code) else "n"


def expand(text: str) -> list[str]:
    """All variants of `text` with {a,b,} alternatives, in order: "{two,three}-vessel CAD" gives two."""
    parts = re.split(r"\{([^{}]*)\}", text)
    options = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    # the empty alternative of "{two,three,}" may leave a double space
    return list(dict.fromkeys(re.sub(r"  +", " ", "".join(choice)).strip() for choice in product(*options)))


def read_table(path: Path) -> dict[str, list[Phrase]]:
    """A phrase table, `CODE phrase | class:phrase | …` per line. Raises InputError naming file and line."""
    table: dict[str, list[Phrase]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        code, _, rest = line.strip().partition(" ")
        if not rest or not re.match(r"^[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?$", code):
            raise InputError(
                f"{path}:{number}: {line[:40]!r} is not 'CODE phrase | phrase'; write the code, a space and the phrases"
            )
        for rank, item in enumerate(rest.split("|")):
            kind, colon, text = item.strip().partition(":")
            if not (colon and len(kind) == 1 and kind in KINDS):
                kind, text = default_kind(code), item.strip()
            variants = expand(text.strip())
            weight = 1.0 / (1.0 + 0.12 * rank) / len(variants) ** 0.5
            table.setdefault(code, []).extend(Phrase(variant, kind, code, weight) for variant in variants)
    return table


def hand_tables() -> dict[str, list[Phrase]]:
    """All hand-written phrases by code; a phrase that several codes claim belongs to the first of them."""
    owner: dict[str, str] = {}
    table: dict[str, list[Phrase]] = {}
    for path in sorted(TABLES.glob("phrases_*.txt")):
        for code, phrases in read_table(path).items():
            for phrase in phrases:
                key = normalise(phrase.text)
                if owner.setdefault(key, code) == code and all(
                    normalise(other.text) != key or other.text != phrase.text for other in table.get(code, ())
                ):
                    table.setdefault(code, []).append(phrase)
    return table


def normalise(text: str) -> str:
    """The form in which phrases are compared: lower case, single spaces."""
    return " ".join(text.lower().split())


_DROP = re.compile(
    r",? (unspecified|not elsewhere classified|not otherwise specified|unspecified site|site unspecified|"
    r"unspecified severity|unspecified organism|cause unspecified|initial encounter|uncomplicated|"
    r"without complications?)(?=,|$)"
)


def from_description(description: str) -> list[str]:
    """Rewordings of a Tabular description: without "unspecified" or brackets, in spoken order, lower-cased."""
    text = description
    for _ in range(4):
        text = _DROP.sub("", text)
    text = re.sub(r"^(Unspecified|Other specified|Other and unspecified|Other) ", "", text)
    text = re.sub(
        r" initial encounter for (closed|open) fracture",
        r" \1 fracture" if "fracture" not in text.lower()[:-20] else "",
        text,
    )
    plain = re.sub(r"\s*[(\[][^)\]]*[)\]]", "", text).strip(" ,")
    forms = [plain, re.sub(r"[()]", "", text)]
    head, comma, tail = plain.partition(", ")
    if comma and tail and "," not in tail and len(tail.split()) <= 3:
        forms.append(f"{tail} {head}")
    forms.append(re.sub(r"^Malignant neoplasm of ", "cancer of ", plain))
    forms.append(re.sub(r"^Malignant neoplasm of (.+)$", r"\1 cancer", plain))
    forms.append(re.sub(r"^Secondary malignant neoplasm of ", "metastases to ", plain))
    forms.append(re.sub(r"^Secondary malignant neoplasm of (.+)$", r"\1 metastases", plain))
    forms.append(re.sub(r"^Benign neoplasm of ", "benign tumor of ", plain))
    forms.append(re.sub(r"^Personal history of (other )?(malignant neoplasm of )(.+)$", r"history of \3 cancer", plain))
    forms.append(re.sub(r"^Fracture of (unspecified part of )?(.+)$", r"\2 fracture", plain))
    forms.append(re.sub(r"\bunspecified (?=\w)", "", plain))
    if len(forms[-1]) < len(plain):
        forms.append(re.sub(r"^(.*?), (right|left|bilateral)\b(.*)$", r"\2 \1\3", forms[-1]))
    forms.append(re.sub(r"^Poisoning by ([^,]+), .*$", r"\1 overdose", plain))
    forms.append(re.sub(r"^Adverse effect of (.+)$", r"adverse reaction to \1", plain))
    lowered = (
        form[:1].lower() + form[1:] if form[1:2].islower() and not _PROPER.match(form) else form for form in forms
    )
    return list(dict.fromkeys(re.sub(r"\s+", " ", form).strip(" ,") for form in lowered if 2 < len(form) <= 90))


# Proper names at the beginning of a description, which keep their capital: "Crohn's disease".
_PROPER = re.compile(
    r"^[A-Z][\w-]*'s\b|^(Sj|Guillain|Wernicke|Barrett|Crohn|Hodgkin|Graves|Raynaud|Alzheimer|Parkinson|Burkitt|Kaposi|"
    r"Down|Turner|Lyme|Salmonella|Escherichia|Streptococcus|Staphylococcus|Pseudomonas|Klebsiella|Listeria|Dengue|"
    r"Zika|Ebola|Lewy)"
)


class PhraseBook:
    """The phrases of every code; `hand` has the hand-written ones.

    `codebook`: a minscl.data.icd.CodeBook; `gold`: gold pairs (minscl.data.spans.gold_pairs), or None.
    """

    def __init__(self, codebook, gold=None):
        self.codebook = codebook
        self.hand = {code: phrases for code, phrases in hand_tables().items() if codebook.is_billable(code)}
        self._owner = {normalise(phrase.text): code for code, phrases in self.hand.items() for phrase in phrases}
        self._gold: dict[str, list[str]] = {}
        for pair in gold or ():
            if pair.code in self.hand or not 3 <= len(pair.evidence) <= 60:
                continue
            if self._owner.setdefault(normalise(pair.evidence), pair.code) == pair.code:
                self._gold.setdefault(pair.code, []).append(pair.evidence)
        self._cache: dict[str, tuple[Phrase, ...]] = {}

    def of(self, code: str) -> tuple[Phrase, ...]:
        """The hand-written phrases of `code`, else those from gold pairs and its description; at least one."""
        if code not in self._cache:
            self._cache[code] = tuple(self.hand.get(code) or self._automatic(code))
        return self._cache[code]

    def _automatic(self, code: str) -> list[Phrase]:
        """Phrases from gold pairs and the description."""
        kind = default_kind(code)
        if kind in "sh":
            kind = "n"  # a description reads as a noun ("Presence of ...")
        texts = list(self._gold.get(code, ()))
        for text in from_description(self.codebook.description(code)):
            if self._owner.setdefault(normalise(text), code) == code:
                texts.append(text)
        texts = texts or [self.codebook.description(code)]
        return [Phrase(text, kind, code) for text in dict.fromkeys(texts)]

    def pairs(self) -> list[Pair]:
        """The hand-written phrases as span pairs, for codes of every split: splits share phrases, not notes."""
        return [
            Pair(evidence=phrase.text, code=code, source="synthetic-template", origin="study/resources")
            for code, phrases in self.hand.items()
            for phrase in phrases
        ]

    def described(self, code: str) -> bool:
        """Whether the code can be mentioned: it is billable, hence has a description."""
        return self.codebook.is_billable(code)
