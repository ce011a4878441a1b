"""A whole note: a layout, its headings, and the mentions distributed over its sections.

Line breaks replace spaces at the end, so offsets do not change.

Read next: notes.py.
"""

from study.draft import Draft, remaining
from study.paragraphs import items, lines, problems, prose

# {section: {class of phrase: weight with which its mentions go there}}; write_section says how a section is written
ACCEPTS = {
    "cc": {"c": 2, "n": 0.4, "e": 1},
    "hpi": {"n": 3, "c": 4, "h": 2, "a": 4, "s": 2, "r": 1, "v": 3, "m": 1, "p": 1, "e": 6, "o": 1, "l": 2},
    "pmh": {"n": 8, "h": 7, "s": 4, "p": 1},
    "psh": {"p": 6, "s": 2},
    "meds": {"m": 8},
    "meds_out": {"m": 5},
    "social": {"r": 9, "v": 3},
    "labs": {"l": 5},
    "micro": {"o": 9},
    "imaging": {"c": 1},
    "exam": {"a": 0.5},
    "course": {"n": 2, "c": 5, "a": 4, "o": 1, "l": 1, "s": 0.7, "e": 1},
    "problems": {"n": 3, "c": 6, "h": 0.3},
    "ap": {"n": 4, "c": 5, "a": 1, "h": 0.6, "s": 0.4},
    "dx": {"n": 3, "c": 5, "h": 1.5, "s": 0.7},
    "status": {"s": 0.2},
}


def write_section(draft: Draft, name: str, pools) -> None:
    """Write the body of a section."""
    rng = draft.rng

    def some(table, low, high):
        """`table` repeated low to high times: the fillers of the section."""
        return [table] * rng.randint(low, high)

    if name == "cc":
        prose(draft, pools, "cc", some("cc_fill", 0 if remaining(pools) else 1, 1))
    elif name == "hpi":
        prose(draft, pools, "state", some("hpi_fill", 1, 4) + some("neg", 1, 3), "open")
    elif name in ("pmh", "psh"):
        if name == "pmh" and rng.random() < 0.2:
            prose(draft, pools, "pmh")
        else:
            items(
                draft,
                pools,
                f"{name}_item",
                some(f"{name}_fill", 0, 2) if rng.random() < 0.3 or not remaining(pools) else (),
            )
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
    elif name == "ap" and rng.random() < 0.35:
        prose(draft, pools, "assess", some("plan", 1, 4) + some("neg", 0, 1), "ap_open")
    elif name in ("problems", "ap"):
        problems(draft, pools, "problem_item", "plan") if remaining(pools) else prose(
            draft, pools, "state", some("plan", 1, 3)
        )
    elif name == "dx":
        diagnoses(draft, pools)
    elif name == "status":
        prose(draft, pools, "status", () if remaining(pools) else ["status_fill"])
    else:
        _write_plain_section(draft, name)


def _write_plain_section(draft: Draft, name: str) -> None:
    """Write a section without mentions: header, allergies, instructions, followup, condition, procedures, risk."""
    low, high = {
        "header": (2, 4),
        "allergies": (1, 1),
        "condition": (1, 3),
        "procedures": (1, 2),
        "risk": (1, 3),
    }.get(name, (1, 4))
    names = [name] * draft.rng.randint(low, high)
    if name == "instructions":
        names += ["risk"] * draft.rng.randint(0, 2)
    if name == "header":
        lines(draft, names)
    else:
        prose(draft, {}, "state", names)


def diagnoses(draft: Draft, pools) -> None:
    """Write the diagnoses as one list, or as primary and secondary diagnoses with subheadings."""
    rng = draft.rng
    if not remaining(pools):
        prose(draft, pools, "state", ["dx_fill"])
        return
    if remaining(pools) == 1 or rng.random() >= 0.35:
        items(draft, pools, "dx_item", title=0.35)
        return
    first, second = rng.choice(draft.templates.headings["primary"]), rng.choice(draft.templates.headings["secondary"])
    kind = rng.choice([kind for kind in "cnhs" if pools.get(kind)])
    draft.write(first + rng.choice(("\n", " ")))
    items(draft, {kind: [pools[kind].pop()]}, "dx_item", title=0.3)
    draft.write("\n" + second + "\n")
    items(draft, pools, "dx_item", title=0.3)


def distribute(mentions, layout, rng) -> dict:
    """Distribute the mentions over the sections of a layout: {section: pools}."""
    pools = {name: {} for name in layout}
    anywhere = [name for name in layout if name in ("hpi", "course", "ap", "problems")]
    for mention in mentions:
        names = [name for name in layout if mention.kind in ACCEPTS.get(name, ())]
        weights = [ACCEPTS[name][mention.kind] for name in names]
        if mention.kind == "s" and mention.codes[0] == "Z66" and "status" in layout:
            names, weights = ["status"], [1]
        name = rng.choices(names, weights)[0] if names else rng.choice(anywhere)
        if name == "cc" and pools["cc"]:
            name = rng.choice(anywhere)
        pools[name].setdefault(mention.kind, []).append(mention)
    return pools


def write_note(draft: Draft, mentions) -> None:
    """Write a whole note: layout, headings, sections."""
    rng, templates = draft.rng, draft.templates
    layout = [name for name in rng.choice(templates.layouts) if not name.endswith("?") or rng.random() < 0.5]
    layout = [name.rstrip("?") for name in layout]
    if draft.variety and draft.variety.shuffled:
        rng.shuffle(layout)
    pools_of = distribute(mentions, layout, rng)
    style = rng.choice(("caps", "asis", "asis", "title", "caps"))
    after = (
        rng.choice((":\n", ":\n", ": ", ": ", "\n", ":\n\n", "\n\n"))
        if style != "asis"
        else rng.choice((":\n", ": ", ": ", "\n"))
    )
    between = rng.choice(("\n\n", "\n\n", "\n\n", "\n", "\n\n\n"))
    first = True
    for name in layout:
        pools = pools_of[name]
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
            if style == "caps":
                heading = heading.upper()
            elif style == "title" and not heading.isupper():
                heading = heading.title()
            short = name in ("cc", "allergies", "status", "condition") or rng.random() < 0.03
            draft.write(heading + (rng.choice((": ", ":\n")) if short and ":" in after else after))
        write_section(draft, name, pools)


def wrap(text: str, rng) -> str:
    """`text` with line breaks in place of some spaces, at most a random width apart. The length does not change."""
    width = rng.choice((60, 66, 70, 72, 76, 80, 80, 90))
    wrapped = []
    for line in text.split("\n"):
        start = 0
        while len(line) - start > width:
            cut = line.rfind(" ", start + 20, start + width)
            if cut < 0:
                break
            wrapped.append(line[start:cut])
            start = cut + 1
        wrapped.append(line[start:])
    return "\n".join(wrapped)
