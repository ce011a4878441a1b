"""Prose, lists and problem lists: the text of a section from its mentions, fillers and denied diseases.

Read next: render.py.
"""

from study.draft import Draft, fits, remaining
from study.grammar import Shape


def choose(draft: Draft, table: str, pools, tries: int = 8) -> Shape:
    """A random shape of `table` that the pools can fill, or a shape of "state" with one slot, which every class has."""
    rng = draft.rng
    kind = rng.choice([kind for kind, mentions in pools.items() for _ in mentions])
    options = draft.templates.serving(table, kind)
    for _ in range(tries if options else 0):
        shape = rng.choice(options)
        if fits(shape.needs, pools):
            return shape
    options = [
        shape
        for shape in draft.templates.serving("state", kind)
        if len(shape.needs) == 1 and len(shape.needs[0].replace("aR", "R")) == 1
    ]
    return rng.choice(options)


def sentence(draft: Draft, shape: Shape, pools=None) -> None:
    """Write a sentence. In a varied note, a foreign sentence may replace a filler, and foreign words open a denial."""
    draft.capital = True
    foreign = draft.variety.filler() if draft.variety and not shape.needs and not shape.denies else None
    if draft.variety and shape.denies:
        draft.write(draft.variety.opening())
    if foreign:
        draft.write(foreign)
    else:
        draft.shape(shape, pools)
    draft.capital = False


def prose(draft: Draft, pools, table: str, fillers=(), opener: str | None = None, gap: str = " ") -> None:
    """Write sentences that use up the pools, interspersed with sentences of the tables named in `fillers`."""
    rng, first = draft.rng, True
    fillers = list(fillers)
    rng.shuffle(fillers)
    while remaining(pools) or fillers:
        if not first:
            draft.write(gap)
        if (
            first
            and opener
            and remaining(pools)
            and any(fits(shape.needs, pools) for shape in draft.templates.shapes[opener])
        ):
            options = [shape for shape in draft.templates.shapes[opener] if fits(shape.needs, pools)]
            sentence(draft, rng.choice(options), pools)
        elif remaining(pools) and (
            not fillers or rng.random() < remaining(pools) / (remaining(pools) + len(fillers) + 1)
        ):
            sentence(draft, choose(draft, table, pools), pools)
        elif fillers:
            sentence(draft, rng.choice(draft.templates.shapes[fillers.pop()]))
        first = False


BULLETS = ("- ", "* ", "• ", "-", "+ ", "  - ", "-- ", "")


def items(draft: Draft, pools, table: str, fillers=(), title: float = 0.15) -> None:
    """Write a list: numbered, bulleted, or separated by commas."""
    rng = draft.rng
    style = rng.random()
    todo = [kind for kind, mentions in pools.items() for _ in mentions] + [("filler", name) for name in fillers]
    rng.shuffle(todo)
    bullet, numbered, titled = (
        rng.choice(BULLETS),
        rng.choice(("{}. ", "{}) ", "#{} ", "{}.", "({}) ")),
        rng.random() < title,
    )
    upper_first, comma = rng.random() < 0.6, style < 0.25
    separator = ", " if rng.random() < 0.8 else "; "
    number = 0
    while todo:
        entry = todo.pop()
        if isinstance(entry, str) and not pools[entry]:
            continue  # a status that was written after its disease
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
    """Write a problem list: each disease with what was done about it (shapes of table `plans`)."""
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
        kind = rng.choice([kind for kind, mentions in pools.items() for _ in mentions])
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
    """Write fillers (vitals, examination, laboratory), one per line, with mentions as sentences among them."""
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
