"""The plot of `evaluate`: bars of each group of codes (Figure 4) and of each chapter, and the reliability of scores.

Needs matplotlib.

    reports (report.py) → a png, pdf or svg file

Read next: table.py, the same scores as text.
"""

import textwrap
from collections.abc import Mapping, Sequence

from minscl.figures import figure
from minscl.score.code_groups import Group, GroupName
from minscl.score.report import Report
from minscl.score.systems import PER_CHAPTER
from minscl.score.table import describe_shares

NO_GROUPS: dict[GroupName, Group] = {}
BAR_SPAN = 0.8  # of the distance between two ticks; the systems share it


def plot(reports: Sequence[Report], path: str, groups: Mapping[GroupName, Group] = NO_GROUPS) -> None:
    """Write `path`: gold-restricted micro-F1 of each group, with its shares, micro-F1 of each chapter, and where codes
    have scores the reliability diagram.

    Raises InputError where matplotlib is missing or the file cannot be written.
    """
    chapters = sorted(
        {chapter for report in reports for chapter in report[PER_CHAPTER]}, key=lambda chapter: (len(chapter), chapter)
    )
    reliable = {report["system"]: report["reliability"] for report in reports if "reliability" in report}
    rows = 1 + bool(groups) + bool(reliable)
    with figure(path, figsize=(max(11, 1.4 * len(groups)), 4 * rows), layout="constrained") as picture:
        panels = list(picture.subplots(rows, 1, squeeze=False)[:, 0])
        if reliable:
            _reliability(panels.pop(), reliable)
        *group_axes, chapter_axes = panels
        width = BAR_SPAN / len(reports)
        for index, report in enumerate(reports):
            heights = [report[PER_CHAPTER].get(chapter, {"f1": 0})["f1"] for chapter in chapters]
            _bars(chapter_axes, heights, index, width, report["system"])
            for axes in group_axes:
                heights = [report["groups"][str(name)]["micro_gold_restricted"]["f1"] for name in groups]
                _bars(axes, heights, index, width, report["system"])
        for axes in group_axes:
            labels = [
                "\n".join(textwrap.fill(line, 16) for line in (str(name), describe_shares(name, group)))
                for name, group in groups.items()
            ]
            axes.set_xticks([tick + (BAR_SPAN - width) / 2 for tick in range(len(groups))], labels, fontsize=8)
            axes.set(ylabel="micro-F1 over gold's codes", title="seen and unseen codes")
        chapter_axes.set_xticks([tick + (BAR_SPAN - width) / 2 for tick in range(len(chapters))], chapters)
        chapter_axes.set(ylabel="micro-F1", xlabel="chapter")
        chapter_axes.legend()


def plot_reliability(reliable: Mapping[str, dict], path: str) -> None:
    """Write `path`: the reliability diagram of {name: calibration.Reliability.to_dict()}. Raises as `plot` does."""
    with figure(path, figsize=(5, 5), layout="constrained") as picture:
        _reliability(picture.subplots(), reliable)


def _reliability(axes, reliable: Mapping[str, dict]) -> None:
    """Share of right codes against mean score, a point for each bin; calibrated scores lie on the diagonal."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="dashed")
    for name, item in reliable.items():
        points = [(part["score"], part["right"]) for part in item["bins"]]
        label = f"{name}: ECE {item['ece']:.3f}, Brier score {item['brier']:.3f}, {item['codes']:,} codes"
        axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="mean score", ylabel="share of codes that are right")
    axes.legend(loc="upper left", fontsize=8)


def _bars(axes, heights: list[float], index: int, width: float, label: str) -> None:
    """The bars of the system number `index`, beside those of the others."""
    axes.bar([tick + index * width for tick in range(len(heights))], heights, width, label=label)
