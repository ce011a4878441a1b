"""The study's pictures: each row's micro-F1 with its interval, and what it cost against what it reached.

Figure 4, seen and unseen codes by the source of their spans, is `evaluate --plot` (score/plots.py).

Read next: tables.py, which computes the values.
"""

from pathlib import Path

import numpy as np

from minscl.figures import figure
from minscl.score.systems import Metric
from study.costs import Cost
from study.rows import Row


def draw_rows(path: Path, results: dict[str, dict], rows: list[Row], panels: dict[str, tuple[Metric, int]]) -> None:
    """A panel for each of `panels`, {title: (metric, 0 precision, 1 recall, 2 F1)}: a bar a row, 95% intervals.

    `results` as of tables.measure.
    """
    rows = [row for row in rows if row.name in results]
    with figure(str(path), figsize=(4.2 * len(panels) + 2, 0.45 * len(rows) + 1.2), layout="constrained") as picture:
        all_axes = picture.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, (metric, column)) in zip(all_axes, panels.items(), strict=True):
            for place, row in enumerate(rows):
                result = results[row.name]
                value = 100 * result["value"].get(metric, [np.nan] * 3)[column]
                if np.isnan(value):
                    continue
                low, high = 100 * np.nanpercentile(result["samples"][metric][:, column], (2.5, 97.5))
                interval = [[max(0, value - low)], [max(0, high - value)]]
                axes.barh(place, value, xerr=interval, color="C1" if row.name == "lookup" else "C0", height=0.7)
                axes.text(high + 1, place, f"{value:.1f}", va="center", fontsize=8)
            axes.set(title=title, xlim=(0, 100))
        all_axes[0].set_yticks(range(len(rows)), [row.title for row in rows], fontsize=8)
        all_axes[0].invert_yaxis()


def draw_costs(path: Path, results: dict[str, dict], rows: list[Row], costs: dict[str, Cost], metric: Metric) -> None:
    """F1 of `metric` against the seconds and the FLOPs of training, a point for each row that was trained."""
    rows = [row for row in rows if row.name in results and row.name in costs]
    with figure(str(path), figsize=(11, 4), layout="constrained") as picture:
        seconds_axes, flops_axes = picture.subplots(1, 2, sharey=True)
        for index, row in enumerate(rows):
            value, cost = 100 * results[row.name]["value"][metric][2], costs[row.name]
            for axes, amount in ((seconds_axes, cost.seconds), (flops_axes, cost.flops)):
                axes.plot(amount, value, "o", color=f"C{index % 10}", label=row.title)
        seconds_axes.set(xscale="log", xlabel="seconds of training", ylabel="micro-F1, %")
        flops_axes.set(xscale="log", xlabel="FLOPs of training")
        flops_axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
