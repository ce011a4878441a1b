"""Coverage: which billable codes have span pairs, by source, chapter, and combination of sources (Figure 4c).

Read next: gold.py, the first source.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from minscl.data.icd import CodeBook
from minscl.data.types import SOURCES, Pair
from minscl.figures import figure

TITLE_WIDTH = 46  # characters of a chapter's title that are shown


@dataclass(frozen=True)
class Chapter:
    """Counts of a chapter: `billable` codes, those `covered` by any source; per source `pairs` and covered `codes`."""

    number: str
    title: str
    billable: int
    covered: int
    pairs: dict[str, int]
    codes: dict[str, int]

    def to_dict(self) -> dict:
        """All but the number, which is the key in Coverage.to_dict."""
        return {
            "title": self.title,
            "billable": self.billable,
            "covered": self.covered,
            "pairs": self.pairs,
            "codes": self.codes,
        }


@dataclass(frozen=True)
class Coverage:
    """`pairs` and covered billable `codes` per source.

    `exactly`: sources, as "gold + silver" → codes with these and no others; "none" too. `not_billable`: code → pairs,
    for pairs whose code is a heading or not in the Tabular List; they cover nothing.
    """

    billable: int
    covered: int
    pairs: dict[str, int]
    codes: dict[str, int]
    exactly: dict[str, int]
    chapters: tuple[Chapter, ...]
    not_billable: dict[str, int]

    def to_dict(self) -> dict:
        """As `expand coverage --json` prints it."""
        return {
            "billable": self.billable,
            "covered": self.covered,
            "share": self.covered / self.billable,
            "pairs": self.pairs,
            "codes": self.codes,
            "exactly": self.exactly,
            "not_billable": self.not_billable,
            "chapters": {chapter.number: chapter.to_dict() for chapter in self.chapters},
        }


def coverage(pairs: Iterable[Pair], codebook: CodeBook) -> Coverage:
    """Count pairs of any sources, in one pass."""
    pairs_per_source: Counter[str] = Counter()
    sources_of: dict[str, Counter[str]] = {}  # billable code → its pairs per source
    not_billable: Counter[str] = Counter()
    for pair in pairs:
        pairs_per_source[pair.source] += 1
        if codebook.is_billable(pair.code):
            sources_of.setdefault(pair.code, Counter())[pair.source] += 1
        else:
            not_billable[pair.code] += 1
    present = [source for source in SOURCES if pairs_per_source[source]]
    exactly = Counter(
        " + ".join(source for source in SOURCES if source in sources_of.get(code, ())) or "none"
        for code in codebook.billable
    )
    codes_of_chapter: dict[str, list[str]] = {}
    for code in codebook.billable:
        codes_of_chapter.setdefault(codebook.chapter(code) or "", []).append(code)
    chapters = tuple(
        Chapter(
            number,
            codebook.description(number) or "",
            len(codes),
            sum(code in sources_of for code in codes),
            {source: sum(sources_of[code][source] for code in codes if code in sources_of) for source in present},
            {source: sum(source in sources_of.get(code, ()) for code in codes) for source in present},
        )
        for number, codes in sorted(codes_of_chapter.items(), key=lambda item: int(item[0]))
    )
    return Coverage(
        len(codebook.billable),
        len(sources_of),
        {source: pairs_per_source[source] for source in present},
        {source: sum(chapter.codes[source] for chapter in chapters) for source in present},
        dict(exactly.most_common()),
        chapters,
        dict(not_billable),
    )


def coverage_table(counts: Coverage) -> str:
    """Text with a row for each source, each combination of sources and each chapter."""
    lines = [f"{'source':34} {'pairs':>9} {'codes':>7}  of {counts.billable:,} billable"]
    for source, pairs in counts.pairs.items():
        lines.append(f"{source:34} {pairs:>9,} {_with_share(counts.codes[source], counts.billable)}")
    lines += [
        f"{'any':34} {sum(counts.pairs.values()):>9,} {_with_share(counts.covered, counts.billable)}",
        "",
        f"{'codes covered by exactly':44} {'codes':>7}",
    ]
    lines += [f"{sources:44} {_with_share(number, counts.billable)}" for sources, number in counts.exactly.items()]
    if counts.not_billable:
        examples = ", ".join(sorted(counts.not_billable)[:5]) + (", ..." if len(counts.not_billable) > 5 else "")
        number = sum(counts.not_billable.values())
        lines += ["", f"{number:,} pairs have a code that is not billable and cover nothing: {examples}"]
    return "\n".join([*lines, "", chapter_table(counts)])


def chapter_table(counts: Coverage) -> str:
    """Text with a row for each chapter: its billable codes, those with a pair, then pairs and codes of each source."""
    widths = {source: max(18, len(source)) for source in counts.pairs}
    sources = "".join(f" {source:>{width}}" for source, width in widths.items())
    columns = "".join(f" {'pairs':>{width - 8}} {'codes':>7}" for width in widths.values())
    lines = [f"{'':75}{sources}", f"{'chapter':50} {'billable':>8} {'covered':>7} {'share':>7}{columns}"]
    total = {source: sum(chapter.pairs[source] for chapter in counts.chapters) for source in counts.pairs}
    everything = Chapter("", "all", counts.billable, counts.covered, total, counts.codes)
    for row in (*counts.chapters, everything):
        cells = "".join(
            f" {row.pairs[source]:>{width - 8},} {row.codes[source]:>7,}" for source, width in widths.items()
        )
        name = f"{row.number:>2} {row.title[:TITLE_WIDTH]}"
        lines.append(f"{name:50} {row.billable:>8,} {_with_share(row.covered, row.billable)}{cells}")
    return "\n".join(lines)


def _with_share(number: int, whole: int) -> str:
    """A count and its share; 100.0% only where nothing is missing."""
    share = number / whole if whole else 0.0
    return f"{number:>7,} {min(share, 0.999) if number < whole else share:>7.1%}"


def draw_coverage(counts: Coverage, path: str) -> None:
    """Writes a bar chart: of each chapter, the share of billable codes that each source covers.

    Raises InputError without matplotlib and where `path` cannot be written.
    """
    with figure(path, figsize=(10, 8), layout="constrained") as picture:
        axes, sources = picture.add_subplot(), list(counts.pairs)
        height = 0.8 / max(1, len(sources))
        for number, source in enumerate(sources):
            axes.barh(
                [row + number * height for row in range(len(counts.chapters))],
                [chapter.codes[source] / chapter.billable for chapter in counts.chapters],
                height,
                label=f"{source}: {counts.codes[source]:,} codes",
            )
        axes.set_yticks(
            [row + 0.4 - height / 2 for row in range(len(counts.chapters))],
            [f"{chapter.number} {chapter.title[:TITLE_WIDTH]}" for chapter in counts.chapters],
        )
        axes.invert_yaxis()
        axes.set(
            xlabel="share of the chapter's billable codes",
            xlim=(0, 1),
            title=f"{counts.covered:,} of {counts.billable:,} billable codes have a span pair",
        )
        if sources:
            axes.legend(loc="lower right")
