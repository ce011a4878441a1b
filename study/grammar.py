"""Sentence shapes: text with slots, compiled once, then filled by draft.py.

A slot `{name}` is a mention slot (MENTIONS below: a phrase for a code of the note), a distractor slot (`{N}` a disease
that the note does not code, `{NN}` two to four of them joined by "or", `{F}` a disease of a relative), a fragment of
the same template table (`{presents}`), or a word of lexicon.py (`{age}`, `{date}`).

Read next: draft.py.
"""

import re
from dataclasses import dataclass

from study.lexicon import WORDS

# The classes of phrase (see phrases.py) that a mention slot takes. Slots with a doubled letter take two or more.
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
# Shorthand of terse notes, applied to the literal text of a shape.
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
    """A compiled template: `parts` of (type, value); `terse`: the same in shorthand; `needs`: the mention slots."""

    text: str
    parts: tuple
    terse: tuple
    needs: tuple[str, ...]
    fixed: bool  # no mention slot
    denies: bool  # has a distractor slot: a disease that is absent, feared or a relative's


def compile_shape(text: str, fragments: dict) -> Shape:
    """Compile a template. Raises KeyError naming an unknown slot."""
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
    for part, value in parts:
        if part == LITERAL:
            for pattern, short in TERSE:
                value = re.sub(pattern, short, value)
        terse.append((part, value))
    denies = any(part == DISTRACTOR for part, _ in parts)
    return Shape(text, tuple(parts), tuple(terse), tuple(needs), fixed=not needs, denies=denies)


class Templates:
    """A compiled template table: `shapes` {name: Shapes}; `headings` and `layouts` as in `module`.

    `module` has FRAGMENTS and SHAPES {name: templates} (a fragment may use words and earlier fragments), HEADINGS
    {section: texts} and LAYOUTS, tuples of section names.
    """

    def __init__(self, module):
        fragments: dict[str, tuple[Shape, ...]] = {}
        for name, texts in module.FRAGMENTS.items():
            fragments[name] = tuple(compile_shape(text, fragments) for text in texts)
            assert all(shape.fixed for shape in fragments[name]), f"fragment {name} has a mention slot"
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
