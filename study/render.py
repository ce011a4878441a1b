"""Writing a note: mentions, fillers and distractors poured into sections, sentences and lists, with the offsets kept.

`Draft` is the growing text. `write_section` turns one section's share of the mentions into prose, a list or a problem list; `write_note`
chooses a layout, deals the mentions out to sections and sets headings. Line breaks are put in last, in place of spaces, so offsets stay.

Read next: notes.py.
"""

from study.grammar import DISTRACTOR, FRAGMENT, LITERAL, MENTION, MENTIONS, WORD, Shape
from study.lexicon import Facts

# Sections, and how readily a phrase of each class goes there. A section is written as prose, list or problems (see WRITERS).
ACCEPTS = {
    "cc": {"c": 2, "n": 0.4, "e": 1}, "hpi": {"n": 3, "c": 4, "h": 2, "a": 4, "s": 2, "r": 1, "v": 3, "m": 1, "p": 1, "e": 6, "o": 1, "l": 2},
    "pmh": {"n": 8, "h": 7, "s": 4, "p": 1}, "psh": {"p": 6, "s": 2}, "meds": {"m": 8}, "meds_out": {"m": 5}, "social": {"r": 9, "v": 3}, "labs": {"l": 5},
    "micro": {"o": 9}, "imaging": {"c": 1}, "exam": {"a": 0.5}, "course": {"n": 2, "c": 5, "a": 4, "o": 1, "l": 1, "s": 0.7, "e": 1}, "problems": {"n": 3, "c": 6, "h": 0.3},
    "ap": {"n": 4, "c": 5, "a": 1, "h": 0.6, "s": 0.4}, "dx": {"n": 3, "c": 5, "h": 1.5, "s": 0.7}, "status": {"s": 0.2},
}
ATTACH = (("Z95.1", "I25"), ("Z95.5", "I25"), ("Z98.61", "I25"), ("Z79.01", "I48"), ("Z79.01", "I26"), ("Z79.4", "E11"), ("Z79.4", "E10"), ("Z99.2", "N18.6"),
          ("Z99.81", "J44"), ("Z95.0", "I49.5"), ("Z95.0", "I44"), ("Z95.810", "I42"), ("Z94.0", "N18.6"), ("Z95.5", "I21"), ("Z79.82", "I25"), ("Z79.02", "I25"))


class Draft:
    """A text under construction: `parts`, its `length`, and `marks` (start, end, mention)."""

    def __init__(self, facts: Facts, templates, distractors, family_words, terse: bool = False, variety=None):
        self.facts, self.rng, self.templates = facts, facts.rng, templates
        self.distractors, self.family_words, self.terse, self.variety = distractors, family_words, terse, variety
        self.parts, self.length, self.marks, self.capital, self.upper = [], 0, [], False, False
        self.oxford, self.joiner = self.rng.random() < 0.6, "and" if self.rng.random() < 0.88 else "&"

    def write(self, text: str) -> None:
        """Append plain text, with a capital first letter where one is due."""
        if not text:
            return
        if self.capital:
            text, self.capital = text[0].upper() + text[1:], False
        if self.upper:
            text = text.upper()
        self.parts.append(text)
        self.length += len(text)

    def mention(self, mention, title: bool = False) -> None:
        """Append a mention and mark where it stands."""
        text, chance = mention.text, self.rng.random()
        if title or chance < 0.03:
            text = " ".join(word if word in ("of", "the", "with", "and", "to", "due", "in", "s/p") else word[:1].upper() + word[1:] for word in text.split(" "))
        elif chance < 0.045:
            text = text.upper()
        elif chance < 0.06 and not any(ch.isdigit() for ch in text):
            text = text.lower()
        elif self.terse and chance < 0.5:
            text = text.replace(" with ", " w/ ").replace(" due to ", " d/t ").replace(" secondary to ", " 2/2 ").replace(" and ", " & ")
        start = self.length
        self.write(text)
        self.marks.append((start, self.length, mention))

    def shape(self, shape: Shape, pools=None, title: bool = False, affirming: bool = False) -> None:
        """Write one shape; its mention slots take from `pools` (which must suffice: see `fits`). Words of an affirming one may vary."""
        reserved = reserve(shape.needs, pools, self.rng) if shape.needs else None
        affirming = bool(self.variety) and (affirming or bool(shape.needs) and not shape.denies)
        for what, value in (shape.terse if self.terse else shape.parts):
            if what == LITERAL:
                self.write(self.variety.literal(value) if affirming else value)
            elif what == WORD:
                self.write(value(self.facts))
            elif what == FRAGMENT:
                self.shape(self.rng.choice(value), affirming=affirming)
            elif what == MENTION:
                self.slot(value, reserved.pop(0), pools, title)
            elif what == DISTRACTOR:
                self.write(self.denied(value))

    def denied(self, slot: str) -> str:
        """Text for a distractor slot."""
        if slot == "F":
            return self.rng.choice(self.family_words)
        words = [self.distractors.draw() for _ in range(1 if slot == "N" else self.rng.randrange(2, 5))]
        if len(words) == 1:
            return words[0]
        return ", ".join(words[:-1]) + (", or " if self.oxford else " or ") + words[-1]

    def slot(self, slot: str, mentions: list, pools, title: bool) -> None:
        """Write the reserved mention(s) of one slot; a series may take more from the pools."""
        if len(slot) == 2 and slot != "aR":
            return self.series(mentions, MENTIONS[slot], pools)
        mention = mentions[0]
        if slot == "aR":
            self.write("an " if mention.text[0] in "aeiouAEIOU" else "a ")
        self.mention(mention, title and slot != "aR")
        if mention.kind == "n" and pools.get("s"):
            self.attach(mention, pools)

    def attach(self, mention, pools) -> None:
        """ "CAD" + " s/p CABG": a status that belongs to the disease just written follows it."""
        for status in pools["s"]:
            if any(status.codes[0] == one and mention.codes[0].startswith(other) for one, other in ATTACH) and self.rng.random() < 0.7:
                pools["s"].remove(status)
                self.write(" ")
                self.mention(status)
                return

    def series(self, mentions: list, kinds: str, pools) -> None:
        """Two or more mentions: "HTN, DM2 s/p ..., and GERD"."""
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
    """Remove and return a mention of one of the classes `kinds`."""
    present = [kind for kind in kinds if pools.get(kind)]
    kind = present[0] if len(present) == 1 else rng.choices(present, [len(pools[kind]) for kind in present])[0]
    return pools[kind].pop()


def order(needs: tuple[str, ...]) -> list[int]:
    """Slots from the most particular to the least, so that "{X} and {Y}" leaves the only chronic noun to {Y}."""
    return sorted(range(len(needs)), key=lambda index: len(MENTIONS[needs[index]]))


def least(slot: str) -> int:
    """How many mentions a slot takes at least."""
    return 2 if slot in ("XX", "YY", "CC") else 1


def fits(needs: tuple[str, ...], pools) -> bool:
    """Whether the pools hold enough mentions for the slots `needs`."""
    if len(needs) == 1 and least(needs[0]) == 1:
        return any(pools.get(kind) for kind in MENTIONS[needs[0]])
    left = {kind: len(found) for kind, found in pools.items()}
    for index in order(needs):
        for _ in range(least(needs[index])):
            kind = max(MENTIONS[needs[index]], key=lambda kind: left.get(kind, 0))
            if not left.get(kind):
                return False
            left[kind] -= 1
    return True


def reserve(needs: tuple[str, ...], pools, rng) -> list[list]:
    """Take the least number of mentions for each slot out of the pools; slots in the order of `needs`."""
    taken: list[list] = [[] for _ in needs]
    for index in order(needs):
        kinds = MENTIONS[needs[index]]
        for _ in range(least(needs[index])):
            taken[index].append(pools[max(kinds, key=lambda kind: len(pools.get(kind, ())))].pop())
    return taken


def remaining(pools) -> int:
    return sum(map(len, pools.values()))


def choose(draft: Draft, table: str, pools, tries: int = 8) -> Shape:
    """A shape of `table` that the pools can fill, preferring those that use more of them. Every class has a one-slot shape in "state"."""
    rng = draft.rng
    kind = rng.choice([kind for kind, found in pools.items() for _ in found])
    options = draft.templates.serving(table, kind)
    for _ in range(tries if options else 0):
        shape = rng.choice(options)
        if fits(shape.needs, pools):
            return shape
    options = [shape for shape in draft.templates.serving("state", kind) if len(shape.needs) == 1 and len(shape.needs[0].replace("aR", "R")) == 1]
    return rng.choice(options)


def sentence(draft: Draft, shape: Shape, pools=None) -> None:
    """A sentence. Where the note varies: perhaps a foreign one in place of a filler, or a few foreign words before one that denies."""
    draft.capital = True
    other = draft.variety.filler() if draft.variety and not shape.needs and not shape.denies else None
    if draft.variety and shape.denies:
        draft.write(draft.variety.opening())
    if other:
        draft.write(other)
    else:
        draft.shape(shape, pools)
    draft.capital = False


def prose(draft: Draft, pools, table: str, fillers=(), opener: str | None = None, gap: str = " ") -> None:
    """Sentences that use up the pools, with filler and distractor sentences (tables named in `fillers`) strewn in."""
    rng, first = draft.rng, True
    fillers = list(fillers)
    rng.shuffle(fillers)
    while remaining(pools) or fillers:
        if not first:
            draft.write(gap)
        if first and opener and remaining(pools) and any(fits(shape.needs, pools) for shape in draft.templates.shapes[opener]):
            options = [shape for shape in draft.templates.shapes[opener] if fits(shape.needs, pools)]
            sentence(draft, rng.choice(options), pools)
        elif remaining(pools) and (not fillers or rng.random() < remaining(pools) / (remaining(pools) + len(fillers) + 1)):
            sentence(draft, choose(draft, table, pools), pools)
        elif fillers:
            sentence(draft, rng.choice(draft.templates.shapes[fillers.pop()]))
        first = False


BULLETS = ("- ", "* ", "• ", "-", "+ ", "  - ", "-- ", "")


def items(draft: Draft, pools, table: str, fillers=(), title: float = 0.15) -> None:
    """A list: numbered, bulleted, one a line, or a comma line."""
    rng = draft.rng
    style = rng.random()
    todo = [kind for kind, found in pools.items() for _ in found] + [("filler", name) for name in fillers]
    rng.shuffle(todo)
    bullet, numbered, titled = rng.choice(BULLETS), rng.choice(("{}. ", "{}) ", "#{} ", "{}.", "({}) ")), rng.random() < title
    upper_first, comma = rng.random() < 0.6, style < 0.25
    separator = ", " if rng.random() < 0.8 else "; "
    number = 0
    while todo:
        entry = todo.pop()
        if isinstance(entry, str) and not pools[entry]:
            continue  # a status that followed its disease
        number += 1
        if number > 1:
            draft.write(separator if comma else "\n")
        if not comma:
            draft.write(numbered.format(number) if style < 0.6 else bullet)
        draft.capital = upper_first and not (comma and number > 1)
        if isinstance(entry, tuple):
            draft.shape(rng.choice(draft.templates.shapes[entry[1]]))
        elif rng.random() < (0.9 if comma else 0.55):
            mention = pools[entry].pop()
            draft.mention(mention, titled)
            if entry == "n" and pools.get("s"):
                draft.attach(mention, pools)
        else:
            own = {entry: [pools[entry].pop()]}
            options = [shape for shape in draft.templates.serving(table, entry) if fits(shape.needs, own)]
            if options:
                draft.shape(rng.choice(options), own, titled)
            else:
                draft.mention(own[entry][0], titled)
        draft.capital = False
    if comma and rng.random() < 0.7:
        draft.write(".")


def problems(draft: Draft, pools, table: str, plans: str) -> None:
    """A problem list: each disease a heading of its own, with what was done below or behind it."""
    rng = draft.rng
    mark = rng.choice(("# ", "#", "{}. ", "{}) ", "- ", "", "* ", "#{} "))
    break_after, blank, titled, upper = rng.random() < 0.4, rng.random() < 0.5, rng.random() < 0.2, rng.random() < 0.08
    end = rng.choice((":", ".", " -", ":", "", ": ")) if not break_after else rng.choice((":", "", ".", ""))
    number = 0
    while remaining(pools):
        number += 1
        if number > 1:
            draft.write("\n\n" if blank else "\n")
        draft.write(mark.format(number))
        draft.capital = rng.random() < 0.7
        draft.upper = upper
        kind = rng.choice([kind for kind, found in pools.items() for _ in found])
        options = [shape for shape in draft.templates.serving(table, kind) if fits(shape.needs, pools)]
        if options and rng.random() < 0.55:
            draft.shape(rng.choice(options), pools, titled)
        else:
            draft.mention(pools[kind].pop(), titled)
        draft.capital = draft.upper = False
        sentences = rng.choice((0, 1, 1, 2, 2, 3)) if not break_after else rng.choice((1, 1, 2, 2, 3))
        if sentences:
            draft.write(end + ("\n" if break_after else " "))
            if break_after and rng.random() < 0.3:
                draft.write("- ")
        for index in range(sentences):
            if index:
                draft.write(" ")
            sentence(draft, rng.choice(draft.templates.shapes[plans if rng.random() < 0.85 else "neg"]))


def lines(draft: Draft, names: list[str], pools=None, table: str = "state") -> None:
    """Fillers one a line (vitals, examination, laboratory), mentions as sentences among them."""
    rng = draft.rng
    names = list(names) + [None] * remaining(pools or {})
    rng.shuffle(names)
    gap = "\n" if rng.random() < 0.65 else " "
    for index, name in enumerate(names):
        if index:
            draft.write(gap)
        if name is None:
            if remaining(pools):
                sentence(draft, choose(draft, table, pools), pools)
        else:
            sentence(draft, rng.choice(draft.templates.shapes[name]))


def write_section(draft: Draft, name: str, pools) -> None:
    """The body of one section."""
    rng = draft.rng

    def some(table, low, high):
        return [table] * rng.randint(low, high)

    if name == "cc":
        prose(draft, pools, "cc", some("cc_fill", 0 if remaining(pools) else 1, 1))
    elif name == "hpi":
        prose(draft, pools, "state", some("hpi_fill", 1, 4) + some("neg", 1, 3), "open")
    elif name in ("pmh", "psh"):
        if name == "pmh" and rng.random() < 0.2:
            prose(draft, pools, "pmh")
        else:
            items(draft, pools, f"{name}_item", some(f"{name}_fill", 0, 2) if rng.random() < 0.3 or not remaining(pools) else ())
    elif name in ("meds", "meds_out"):
        items(draft, pools, "med_item", some("med_fill", 2, 9), title=0.05)
    elif name == "social":
        prose(draft, pools, "social", some("social_fill", 1, 3))
    elif name == "family":
        prose(draft, {}, "state", some("family", 1, 3))
    elif name == "labs":
        lines(draft, some("lab_fill", 2, 5), pools, "labs")
    elif name == "micro":
        lines(draft, some("micro_fill", 0 if remaining(pools) else 1, 2), pools, "micro")
    elif name == "imaging":
        prose(draft, pools, "imaging", some("imaging_fill", 1, 2) + some("imaging_neg", 0, 2))
    elif name == "exam":
        lines(draft, some("exam_fill", 4, 8), pools, "state")
    elif name == "vitals":
        lines(draft, some("vital_fill", 1, 2))
    elif name == "ros":
        lines(draft, some("ros", 1, 5))
    elif name == "course":
        prose(draft, pools, "course", some("course_fill", 1, 3) + some("neg", 0, 2))
    elif name in ("problems", "ap"):
        if name == "ap" and rng.random() < 0.35:
            prose(draft, pools, "assess", some("plan", 1, 4) + some("neg", 0, 1), "ap_open")
        elif remaining(pools):
            problems(draft, pools, "problem_item", "plan")
        else:
            prose(draft, pools, "state", some("plan", 1, 3))
    elif name == "dx":
        if not remaining(pools):
            prose(draft, pools, "state", ["dx_fill"])
        elif remaining(pools) > 1 and rng.random() < 0.35:
            split_diagnoses(draft, pools)
        else:
            items(draft, pools, "dx_item", title=0.35)
    elif name == "status":
        prose(draft, pools, "status", () if remaining(pools) else ["status_fill"])
    else:  # sections without mentions: header, allergies, instructions, followup, condition, procedures
        low, high = {"header": (2, 4), "allergies": (1, 1), "condition": (1, 3), "procedures": (1, 2), "risk": (1, 3)}.get(name, (1, 4))
        names = some(name, low, high)
        if name == "instructions":
            names += some("risk", 0, 2)
        lines(draft, names) if name == "header" else prose(draft, {}, "state", names)


def split_diagnoses(draft: Draft, pools) -> None:
    """Primary and secondary diagnoses under their own small headings."""
    rng = draft.rng
    first, second = rng.choice(draft.templates.headings["primary"]), rng.choice(draft.templates.headings["secondary"])
    kind = rng.choice([kind for kind in "cnhs" if pools.get(kind)])
    draft.write(first + rng.choice(("\n", " ")))
    items(draft, {kind: [pools[kind].pop()]}, "dx_item", title=0.3)
    draft.write("\n" + second + "\n")
    items(draft, pools, "dx_item", title=0.3)


def deal(mentions, layout, rng) -> dict:
    """Deal the mentions out to the sections of a layout: section to pools (class to mentions)."""
    dealt = {name: {} for name in layout}
    anywhere = [name for name in layout if name in ("hpi", "course", "ap", "problems")]
    for mention in mentions:
        names = [name for name in layout if mention.kind in ACCEPTS.get(name, ())]
        weights = [ACCEPTS[name][mention.kind] for name in names]
        if mention.kind == "s" and mention.codes[0] == "Z66" and "status" in layout:
            names, weights = ["status"], [1]
        name = rng.choices(names, weights)[0] if names else rng.choice(anywhere)
        if name == "cc" and dealt["cc"]:
            name = rng.choice(anywhere)
        dealt[name].setdefault(mention.kind, []).append(mention)
    return dealt


def write_note(draft: Draft, mentions) -> None:
    """A whole note: layout, headings, sections."""
    rng, templates = draft.rng, draft.templates
    layout = [name for name in rng.choice(templates.layouts) if not name.endswith("?") or rng.random() < 0.5]
    layout = [name.rstrip("?") for name in layout]
    if draft.variety and draft.variety.shuffled:
        rng.shuffle(layout)
    dealt = deal(mentions, layout, rng)
    style = rng.choice(("caps", "asis", "asis", "title", "caps"))
    after = rng.choice((":\n", ":\n", ": ", ": ", "\n", ":\n\n", "\n\n")) if style != "asis" else rng.choice((":\n", ": ", ": ", "\n"))
    between = rng.choice(("\n\n", "\n\n", "\n\n", "\n", "\n\n\n"))
    first = True
    for name in layout:
        pools = dealt[name]
        if name == "pmh" and not remaining(pools):
            continue
        if name in ("cc", "psh", "micro", "status", "dx") and not remaining(pools) and rng.random() < 0.6:
            continue
        if not first:
            draft.write(between)
        first = False
        heading = rng.choice(templates.headings.get(name, ("",)))
        if heading:
            if draft.variety and name != "family":
                heading = draft.variety.heading(heading)
            heading = heading.upper() if style == "caps" else heading.title() if style == "title" and not heading.isupper() else heading
            short = name in ("cc", "allergies", "status", "condition") or rng.random() < 0.03
            draft.write(heading + (rng.choice((": ", ":\n")) if short and ":" in after else after))
        write_section(draft, name, pools)


def wrap(text: str, rng) -> str:
    """`text` with line breaks in place of some spaces, as if typed to a fixed width. The length does not change."""
    width = rng.choice((60, 66, 70, 72, 76, 80, 80, 90))
    out = []
    for line in text.split("\n"):
        start = 0
        while len(line) - start > width:
            cut = line.rfind(" ", start + 20, start + width)
            if cut < 0:
                break
            out.append(line[start:cut])
            start = cut + 1
        out.append(line[start:])
    return "\n".join(out)
