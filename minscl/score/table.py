"""What evaluate shows: a table, a column a system, and a picture (Figure 4's bars, and a bar a chapter).

    results, as evaluate --json prints them → text; → a png, pdf or svg file

Read next: evaluate.py, where the results are made.
"""

import textwrap

from minscl.errors import InputError
from minscl.score.evidence import MDACE, OVERLAP

RECALL = (
    "span_position_independent",
    "overlap_agnostic_one_to_one",
)  # evidence scores whose recall is in the table too
NO_SCORE = "-"  # a system without evidence of its own


def score(result: dict, name: str) -> float | None:
    """What a row is named after: "micro", "category micro", "unseen micro", "span_exact_match recall". None where the system has no such score."""
    metric, column = (name.removesuffix(" recall"), "recall") if name.endswith(" recall") else (name, "f1")
    level, _, last = metric.rpartition(" ")
    tables = {
        "": result["codes"] | result["evidence"],
        "category": result["category"],
        "chapter": result["chapter"],
        **result.get("groups", {}),
    }
    return tables[level][last][column] if last in tables[level] else None


def row_names(result: dict) -> list[str]:
    """The scores of the table, in order: codes, groups of codes, evidence."""
    groups = result.get("groups", {})
    names = [*result["codes"], "category micro", "chapter micro"]
    for group in groups:  # those by source hold gold's codes alone, so that both scores are the same
        names += [
            f"{group} {metric}"
            for metric in (("micro",) if "span_share" in groups[group] else ("micro", "micro_gold_restricted"))
        ]
    return names + [*MDACE, *OVERLAP] + [f"{name} recall" for name in RECALL]


def table(results: list[dict]) -> str:
    """F1 of each score (recall where a row says so) with its interval; below, rates, what was left out, and what the groups are.

    A difference from the first system whose interval leaves out 0 has a star.
    """

    def cell(result, name) -> str:
        value, low_high, change = (
            score(result, name),
            result.get("intervals", {}).get(name),
            result.get("difference", {}).get(name),
        )
        if value is None:
            return NO_SCORE
        star = "*" if change and (change[0] > 0 or change[1] < 0) else " "
        return (
            f"{100 * value:.1f} [{100 * low_high[0]:.1f}, {100 * low_high[1]:.1f}]{star}"
            if low_high
            else f"{100 * value:.1f}"
        )

    rows = [["F1, %", *(one["system"] for one in results)]]
    rows += [[name, *(cell(one, name) for one in results)] for name in row_names(results[0])]
    rows += [[f"{name}, %", *(f"{100 * one['rates'][name]:.1f}" for one in results)] for name in results[0]["rates"]]
    rows += [
        [f"{name}, left out", *(str(one["dropped"].get(name, 0)) for one in results)]
        for name in dict.fromkeys(name for one in results for name in one["dropped"])
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join(lines + [f"{name}: {shares(name, about)}" for name, about in results[0].get("groups", {}).items()])


def shares(name: str, about: dict) -> str:
    """What part of gold's codes a group is, and of their span pairs where it is a source's."""
    codes = f"{about['share']:.0%} of {'unseen' if ',' in name else 'gold'} codes"
    return f"{codes}, {about['span_share']:.0%} of their spans" if "span_share" in about else codes


def plot(results: list[dict], path: str) -> None:
    """Bars of each group's micro-F1 over gold's codes with its shares (Figure 4), where there are groups, and of each chapter's micro-F1."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(
            f"--plot {path}: matplotlib is not installed; pip install 'minscl[plots]', or leave --plot out"
        ) from error
    groups = results[0].get("groups", {})
    chapters = sorted({one for result in results for one in result["per_chapter"]}, key=lambda one: (len(one), one))
    figure = Figure(figsize=(max(11, 1.4 * len(groups)), 8 if groups else 4), layout="constrained")
    *top, bottom = figure.subplots(2 if groups else 1, 1, squeeze=False)[:, 0]
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        heights = [result["per_chapter"].get(one, {"f1": 0})["f1"] for one in chapters]
        bottom.bar([place + number * width for place in range(len(chapters))], heights, width, label=result["system"])
        for axes in top:
            heights = [result["groups"][one]["micro_gold_restricted"]["f1"] for one in groups]
            axes.bar([place + number * width for place in range(len(groups))], heights, width, label=result["system"])
    for axes in top:
        names = [
            "\n".join(textwrap.fill(line, 16) for line in (one, shares(one, about))) for one, about in groups.items()
        ]
        axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], names, fontsize=8)
        axes.set(ylabel="micro-F1 over gold's codes", title="seen and unseen codes")
    bottom.set_xticks([place + 0.4 - width / 2 for place in range(len(chapters))], chapters)
    bottom.set(ylabel="micro-F1", xlabel="chapter")
    bottom.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--plot {path}: cannot be written ({error}); name a .png, .svg or .pdf file in a folder that exists"
        ) from error
