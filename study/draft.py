"""A note under construction: its text, the offsets of its mentions, and the filling of sentence shapes.

`Draft` is the growing text. Mentions to be written are in pools (class of phrase → mentions, see phrases.py), from
which a shape takes what its slots need.

Read next: paragraphs.py.
"""

from study.grammar import DISTRACTOR, FRAGMENT, LITERAL, MENTION, MENTIONS, WORD, Shape
from study.lexicon import Facts

# (status code, prefix of the code of a disease that it follows): "CAD s/p CABG"
ATTACH = (
    ("Z95.1", "I25"),
    ("Z95.5", "I25"),
    ("Z98.61", "I25"),
    ("Z79.01", "I48"),
    ("Z79.01", "I26"),
    ("Z79.4", "E11"),
    ("Z79.4", "E10"),
    ("Z99.2", "N18.6"),
    ("Z99.81", "J44"),
    ("Z95.0", "I49.5"),
    ("Z95.0", "I44"),
    ("Z95.810", "I42"),
    ("Z94.0", "N18.6"),
    ("Z95.5", "I21"),
    ("Z79.82", "I25"),
    ("Z79.02", "I25"),
)


class Draft:
    """A text under construction: `parts`, their `length` in characters, and `marks` (start, end, mention).

    `distractors` and `family_words` fill distractor slots; `terse`: write in shorthand; `variety`: see vary.py, or
    None.
    """

    def __init__(self, facts: Facts, templates, distractors, family_words, terse: bool = False, variety=None):
        self.facts, self.rng, self.templates = facts, facts.rng, templates
        self.distractors, self.family_words, self.terse, self.variety = distractors, family_words, terse, variety
        self.parts, self.length, self.marks, self.capital, self.upper = [], 0, [], False, False
        self.oxford, self.joiner = self.rng.random() < 0.6, "and" if self.rng.random() < 0.88 else "&"

    def write(self, text: str) -> None:
        """Append `text`: capitalised if `capital` is set, which this resets; in capitals if `upper` is set."""
        if not text:
            return
        if self.capital:
            text, self.capital = text[0].upper() + text[1:], False
        if self.upper:
            text = text.upper()
        self.parts.append(text)
        self.length += len(text)

    def mention(self, mention, title: bool = False) -> None:
        """Append a mention and mark its offsets; now and then its case changes, or words are abbreviated."""
        text, chance = mention.text, self.rng.random()
        if title or chance < 0.03:
            text = " ".join(
                word if word in ("of", "the", "with", "and", "to", "due", "in", "s/p") else word[:1].upper() + word[1:]
                for word in text.split(" ")
            )
        elif chance < 0.045:
            text = text.upper()
        elif chance < 0.06 and not any(character.isdigit() for character in text):
            text = text.lower()
        elif self.terse and chance < 0.5:
            text = (
                text.replace(" with ", " w/ ")
                .replace(" due to ", " d/t ")
                .replace(" secondary to ", " 2/2 ")
                .replace(" and ", " & ")
            )
        start = self.length
        self.write(text)
        self.marks.append((start, self.length, mention))

    def shape(self, shape: Shape, pools=None, title: bool = False, affirming: bool = False) -> None:
        """Write a shape; its mention slots take from `pools`, which must suffice (see `fits`).

        `affirming`: a fragment of an affirming shape. With `variety`, literals of affirming shapes vary.
        """
        reserved = reserve(shape.needs, pools, self.rng) if shape.needs else None
        affirming = bool(self.variety) and (affirming or bool(shape.needs) and not shape.denies)
        for part, value in shape.terse if self.terse else shape.parts:
            if part == LITERAL:
                self.write(self.variety.literal(value) if affirming else value)
            elif part == WORD:
                self.write(value(self.facts))
            elif part == FRAGMENT:
                self.shape(self.rng.choice(value), affirming=affirming)
            elif part == MENTION:
                self.slot(value, reserved.pop(0), pools, title)
            elif part == DISTRACTOR:
                self.write(self.denied(value))

    def denied(self, slot: str) -> str:
        """The text of a distractor slot."""
        if slot == "F":
            return self.rng.choice(self.family_words)
        words = [self.distractors.draw() for _ in range(1 if slot == "N" else self.rng.randrange(2, 5))]
        if len(words) == 1:
            return words[0]
        return ", ".join(words[:-1]) + (", or " if self.oxford else " or ") + words[-1]

    def slot(self, slot: str, mentions: list, pools, title: bool) -> None:
        """Write the reserved mentions of a slot; a series may take more from the pools."""
        if len(slot) == 2 and slot != "aR":
            self.series(mentions, MENTIONS[slot], pools)
            return
        mention = mentions[0]
        if slot == "aR":
            self.write("an " if mention.text[0] in "aeiouAEIOU" else "a ")
        self.mention(mention, title and slot != "aR")
        if mention.kind == "n" and pools.get("s"):
            self.attach(mention, pools)

    def attach(self, mention, pools) -> None:
        """Write a status of the disease just mentioned after it, as in "CAD s/p CABG", if the pools have one."""
        for status in pools["s"]:
            follows = any(status.codes[0] == code and mention.codes[0].startswith(prefix) for code, prefix in ATTACH)
            if follows and self.rng.random() < 0.7:
                pools["s"].remove(status)
                self.write(" ")
                self.mention(status)
                return

    def series(self, mentions: list, kinds: str, pools) -> None:
        """Write two or more mentions as an enumeration: "HTN, CAD s/p CABG, and GERD"."""
        rng = self.rng
        for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 2, 3, 4, 6))):
            if any(pools.get(kind) for kind in kinds):
                mentions.append(take(pools, kinds, rng))
        if pools.get("s") and rng.random() < 0.3:
            mentions.insert(rng.randrange(1, len(mentions)), take(pools, "s", rng))
        slashes, last = rng.random() < 0.04, len(mentions) - 1
        for index, mention in enumerate(mentions):
            if index and index < last:
                self.write("/" if slashes else ", ")
            elif index:
                self.write("/" if slashes else f", {self.joiner} " if self.oxford and last > 1 else f" {self.joiner} ")
            self.mention(mention)
            if mention.kind == "n" and pools.get("s"):
                self.attach(mention, pools)


def take(pools, kinds: str, rng):
    """Remove and return a mention of the classes `kinds`."""
    present = [kind for kind in kinds if pools.get(kind)]
    kind = present[0] if len(present) == 1 else rng.choices(present, [len(pools[kind]) for kind in present])[0]
    return pools[kind].pop()


def slot_order(needs: tuple[str, ...]) -> list[int]:
    """Indices of the slots, those with the fewest classes first: in "{X} and {Y}", {Y} gets the only chronic noun."""
    return sorted(range(len(needs)), key=lambda index: len(MENTIONS[needs[index]]))


def min_mentions(slot: str) -> int:
    """The minimum number of mentions of a slot."""
    return 2 if slot in ("XX", "YY", "CC") else 1


def fits(needs: tuple[str, ...], pools) -> bool:
    """Whether the pools hold enough mentions for the slots `needs`."""
    if len(needs) == 1 and min_mentions(needs[0]) == 1:
        return any(pools.get(kind) for kind in MENTIONS[needs[0]])
    left = {kind: len(mentions) for kind, mentions in pools.items()}
    for index in slot_order(needs):
        for _ in range(min_mentions(needs[index])):
            kind = max(MENTIONS[needs[index]], key=lambda kind: left.get(kind, 0))
            if not left.get(kind):
                return False
            left[kind] -= 1
    return True


def reserve(needs: tuple[str, ...], pools, rng) -> list[list]:
    """The minimum number of mentions of each slot, removed from the pools; in the order of `needs`."""
    taken: list[list] = [[] for _ in needs]
    for index in slot_order(needs):
        kinds = MENTIONS[needs[index]]
        for _ in range(min_mentions(needs[index])):
            taken[index].append(pools[max(kinds, key=lambda kind: len(pools.get(kind, ())))].pop())
    return taken


def remaining(pools) -> int:
    """The number of mentions in the pools."""
    return sum(map(len, pools.values()))
