"""Coverage: which billable codes have span pairs, by source and by chapter, and which codes by exactly which sources (Figure 4c).

Read next: gold.py, the first source.
"""

from collections import Counter
from dataclasses import dataclass

from minscl.data.icd import CodeBook
from minscl.data.types import SOURCES
from minscl.errors import InputError


@dataclass(frozen=True)
class Chapter:
    """`billable` codes of a chapter; `pairs` of them and how many of them are covered (`codes`), per source; `covered`: by at least one source."""

    number: str
    title: str
    billable: int
    covered: int
    pairs: dict[str, int]
    codes: dict[str, int]


@dataclass(frozen=True)
class Coverage:
    """`pairs` and billable `codes` per source; `exactly`: sources, as "gold + silver" → codes that have these and no others; "none" too.

    `not_billable`: code → pairs, for pairs whose code is a heading or not in the Tabular List; they cover nothing.
    """

    billable: int
    covered: int
    pairs: dict[str, int]
    codes: dict[str, int]
    exactly: dict[str, int]
    chapters: tuple[Chapter, ...]
    not_billable: dict[str, int]

    def to_dict(self) -> dict:
        return {
            "billable": self.billable,
            "covered": self.covered,
            "share": self.covered / self.billable,
            "pairs": self.pairs,
            "codes": self.codes,
            "exactly": self.exactly,
            "not_billable": self.not_billable,
            "chapters": {
                one.number: {
                    "title": one.title,
                    "billable": one.billable,
                    "covered": one.covered,
                    "pairs": one.pairs,
                    "codes": one.codes,
                }
                for one in self.chapters
            },
        }


def coverage(pairs, codebook: CodeBook) -> Coverage:
    """Counts over Pairs of any sources, in one pass."""
    numbers, sources, strange = Counter(), {}, Counter()  # sources: billable code → pairs of it per source
    for pair in pairs:
        numbers[pair.source] += 1
        if codebook.is_billable(pair.code):
            sources.setdefault(pair.code, Counter())[pair.source] += 1
        else:
            strange[pair.code] += 1
    present = [one for one in SOURCES if numbers[one]]
    exactly = Counter(
        " + ".join(one for one in SOURCES if one in sources.get(code, ())) or "none" for code in codebook.billable
    )
    below: dict[str, list[str]] = {}
    for code in codebook.billable:
        below.setdefault(codebook.chapter(code), []).append(code)
    chapters = tuple(
        Chapter(
            number,
            codebook.description(number),
            len(codes),
            sum(code in sources for code in codes),
            {one: sum(sources[code][one] for code in codes if code in sources) for one in present},
            {one: sum(one in sources.get(code, ()) for code in codes) for one in present},
        )
        for number, codes in sorted(below.items(), key=lambda item: int(item[0]))
    )
    return Coverage(
        len(codebook.billable),
        len(sources),
        {one: numbers[one] for one in present},
        {one: sum(chapter.codes[one] for chapter in chapters) for one in present},
        dict(exactly.most_common()),
        chapters,
        dict(strange),
    )


def coverage_table(found: Coverage) -> str:
    """What a person reads: sources, combinations of sources, chapters."""
    lines = [f"{'source':34} {'pairs':>9} {'codes':>7}  of {found.billable:,} billable"]
    lines += [f"{one:34} {found.pairs[one]:>9,} {_of(found.codes[one], found.billable)}" for one in found.pairs]
    lines += [
        f"{'any':34} {sum(found.pairs.values()):>9,} {_of(found.covered, found.billable)}",
        "",
        f"{'codes covered by exactly':44} {'codes':>7}",
    ]
    lines += [f"{names:44} {_of(number, found.billable)}" for names, number in found.exactly.items()]
    if found.not_billable:
        shown = ", ".join(sorted(found.not_billable)[:5]) + (", ..." if len(found.not_billable) > 5 else "")
        lines += [
            "",
            f"{sum(found.not_billable.values()):,} pairs have a code that is not billable and cover nothing: {shown}",
        ]
    return "\n".join([*lines, "", chapter_table(found)])


def chapter_table(found: Coverage) -> str:
    """A row a chapter: billable codes, those with a pair; then pairs and codes of each source."""
    widths = {one: max(18, len(one)) for one in found.pairs}
    rows = [
        (f"{one.number:>2} {one.title[:46]}", one.billable, one.covered, one.pairs, one.codes) for one in found.chapters
    ]
    total = {source: sum(one.pairs[source] for one in found.chapters) for source in found.pairs}
    lines = [
        "".join([f"{'':75}", *(f" {one:>{width}}" for one, width in widths.items())]),
        "".join(
            [
                f"{'chapter':50} {'billable':>8} {'covered':>7} {'share':>7}",
                *(f" {'pairs':>{width - 8}} {'codes':>7}" for width in widths.values()),
            ]
        ),
    ]
    for name, billable, covered, pairs, codes in [*rows, ("   all", found.billable, found.covered, total, found.codes)]:
        lines.append(
            "".join(
                [
                    f"{name:50} {billable:>8,} {_of(covered, billable)}",
                    *(f" {pairs[one]:>{width - 8},} {codes[one]:>7,}" for one, width in widths.items()),
                ]
            )
        )
    return "\n".join(lines)


def _of(number: int, whole: int) -> str:
    """A count and its share; 100.0% only for all of them."""
    share = number / whole if whole else 0.0
    return f"{number:>7,} {min(share, 0.999) if number < whole else share:>7.1%}"


def draw_coverage(found: Coverage, path: str) -> None:
    """A bar a chapter, the share of its billable codes that each source covers."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            f"--plot {path}: matplotlib is not installed; pip install 'minscl[plots]', or leave --plot out"
        ) from error
    figure = Figure(figsize=(10, 8), layout="constrained")
    axes, sources = figure.add_subplot(), list(found.pairs)
    height = 0.8 / max(1, len(sources))
    for number, source in enumerate(sources):
        places = [row + number * height for row in range(len(found.chapters))]
        axes.barh(
            places,
            [one.codes[source] / one.billable for one in found.chapters],
            height,
            label=f"{source}: {found.codes[source]:,} codes",
        )
    axes.set_yticks(
        [row + 0.4 - height / 2 for row in range(len(found.chapters))],
        [f"{one.number} {one.title[:46]}" for one in found.chapters],
    )
    axes.invert_yaxis()
    axes.set(
        xlabel="share of the chapter's billable codes",
        xlim=(0, 1),
        title=f"{found.covered:,} of {found.billable:,} billable codes have a span pair",
    )
    if sources:
        axes.legend(loc="lower right")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--plot {path}: cannot be written ({error}); name a .png, .svg or .pdf file in a folder that exists"
        ) from error
