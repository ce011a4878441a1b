"""Sentence shapes: text with slots, compiled once and written into a draft that remembers where each mention stands.

A slot `{name}` is one of: a mention slot (MENTIONS below: a phrase of a code of this note is taken from the pools), a distractor slot
(`{N}` a disease the note does not code, `{NN}` two to four of them joined by "or", `{F}` one that runs in families), a fragment of the same
template table (`{presents}`), or a word of lexicon.py (`{age}`, `{date}`).

Read next: notes.py.
"""

import re
from dataclasses import dataclass

from study.lexicon import WORDS

# Which classes of phrase (see phrases.py) a mention slot takes. Doubled slots take a series of two or more.
MENTIONS = {
    "X": "nch",
    "Y": "n",
    "C": "cn",
    "H": "h",
    "A": "a",
    "S": "s",
    "R": "r",
    "aR": "r",
    "V": "v",
    "D": "m",
    "P": "p",
    "E": "e",
    "O": "o",
    "L": "l",
    "XX": "nch",
    "YY": "n",
    "CC": "cn",
}
DISTRACTORS = ("N", "NN", "F")
# How the same words look in a hurried hand; applied to the literal text of a shape, in notes that are written tersely.
TERSE = (
    (r"\bThe patient\b", "Pt"),
    (r"\bthe patient\b", "pt"),
    (r"\bpatient\b", "pt"),
    (r"\bhistory of\b", "h/o"),
    (r"\bwith\b", "w/"),
    (r"\bwithout\b", "w/o"),
    (r"\bstatus post\b", "s/p"),
    (r"\bcomplicated by\b", "c/b"),
    (r"\bsecondary to\b", "2/2"),
    (r"\bdue to\b", "d/t"),
    (r"\band\b", "&"),
    (r"\bfollow up\b", "f/u"),
    (r"\bhospital\b", "hosp"),
    (r"\btreatment\b", "tx"),
    (r"\btreated\b", "tx'd"),
    (r"\bdiagnosed\b", "dx'd"),
    (r"\bmedications\b", "meds"),
    (r"\bwithin normal limits\b", "WNL"),
)
LITERAL, WORD, FRAGMENT, MENTION, DISTRACTOR = range(5)


@dataclass(frozen=True, slots=True)
class Shape:
    """A compiled template: `parts` of (what, value); `terse` the same in shorthand; `needs` the mention slots in order."""

    text: str
    parts: tuple
    terse: tuple
    needs: tuple[str, ...]
    fixed: bool  # no mention slot
    denies: bool  # a distractor slot: its words say that the disease is absent, feared or a relative's


def compile_shape(text: str, fragments: dict) -> Shape:
    """Compile one template. Raises KeyError naming an unknown slot."""
    parts, needs = [], []
    for index, piece in enumerate(re.split(r"\{(\w+)\}", text)):
        if index % 2 == 0:
            if piece:
                parts.append((LITERAL, piece))
        elif piece in MENTIONS:
            parts.append((MENTION, piece))
            needs.append(piece)
        elif piece in DISTRACTORS:
            parts.append((DISTRACTOR, piece))
        elif piece in fragments:
            parts.append((FRAGMENT, fragments[piece]))
        else:
            parts.append((WORD, WORDS[piece]))
    terse = []
    for what, value in parts:
        if what == LITERAL:
            for pattern, short in TERSE:
                value = re.sub(pattern, short, value)
        terse.append((what, value))
    return Shape(
        text, tuple(parts), tuple(terse), tuple(needs), not needs, any(what == DISTRACTOR for what, _ in parts)
    )


class Templates:
    """A compiled template table: `shapes[name]` lists of Shape; `headings`, `layouts` as in the module it comes from.

    `module` has FRAGMENTS (name to list of str; a fragment may use words and fragments named before it), SHAPES (name to list of str),
    HEADINGS (section to list of str) and LAYOUTS (tuples of section names).
    """

    def __init__(self, module):
        fragments: dict[str, tuple[Shape, ...]] = {}
        for name, texts in module.FRAGMENTS.items():
            fragments[name] = tuple(compile_shape(text, fragments) for text in texts)
            assert all(shape.fixed for shape in fragments[name]), f"fragment {name} holds a mention slot"
        self.shapes = {
            name: tuple(compile_shape(text, fragments) for text in texts) for name, texts in module.SHAPES.items()
        }
        self.headings = module.HEADINGS
        self.layouts = module.LAYOUTS
        self._serving: dict[tuple[str, str], tuple[Shape, ...]] = {}

    def serving(self, name: str, kind: str) -> tuple[Shape, ...]:
        """The shapes of table `name` that have a slot for a phrase of class `kind`."""
        key = name, kind
        if key not in self._serving:
            self._serving[key] = tuple(
                shape for shape in self.shapes[name] if any(kind in MENTIONS[slot] for slot in shape.needs)
            )
        return self._serving[key]
