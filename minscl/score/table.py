"""The table of `evaluate`: one column per system, one row per score with its 95% interval; rates and dropped codes.

    reports (report.py) → text

Read next: report.py, the content of a report; plots.py.
"""

from collections.abc import Mapping, Sequence

from minscl.score.code_groups import Group, GroupName
from minscl.score.evidence import METRICS
from minscl.score.report import Report, interval_key, reported_score
from minscl.score.rule_counts import FREE_OF
from minscl.score.systems import CODES, EVIDENCE, LEVELS, Metric

RECALL_ROWS = ("span_position_independent", "overlap_agnostic_one_to_one")  # evidence whose recall has a row too
RELIABILITY_ROWS = {"brier": "Brier score", "ece": "expected calibration error"}
NO_SCORE = "-"  # a system without evidence of its own, or without scores of its codes


def table_rows(report: Report, groups: Mapping[GroupName, Group]) -> list[tuple[Metric, str]]:
    """(metric, column) of each row, in order: codes, levels, groups, evidence."""
    metrics = [Metric(CODES, name) for name in report[CODES]]
    metrics += [Metric(level, "micro") for level in LEVELS]
    for name in groups:
        # groups by source contain only gold's codes, so micro_gold_restricted equals micro there
        metrics += [Metric(name, metric) for metric in ("micro", "micro_gold_restricted")[: 1 if name.source else 2]]
    metrics += [Metric(EVIDENCE, name) for name in METRICS]
    return [(metric, "f1") for metric in metrics] + [(Metric(EVIDENCE, name), "recall") for name in RECALL_ROWS]


def table(reports: Sequence[Report], groups: Mapping[GroupName, Group]) -> str:
    """F1 of each score (recall where a row says so) in percent, with its interval; below, rates, dropped codes,
    documents free of what the Tabular List forbids, how reliable scores are, groups.

    A star marks a difference from the first system whose interval does not contain 0.
    """
    rows = [["F1, %", *(report["system"] for report in reports)]]
    for metric, column in table_rows(reports[0], groups):
        rows.append([interval_key(metric, column), *(_cell(report, metric, column) for report in reports)])
    for name in reports[0]["rates"]:
        rows.append([f"{name}, %", *(f"{100 * report['rates'][name]:.1f}" for report in reports)])
    for name in dict.fromkeys(name for report in reports for name in report["dropped"]):
        rows.append([f"{name}, left out", *(str(report["dropped"].get(name, 0)) for report in reports)])
    for name in FREE_OF:
        rows.append([f"{name}, documents", *(_share_of_documents(report["rules"], name) for report in reports)])
    if any("reliability" in report for report in reports):
        for key, label in RELIABILITY_ROWS.items():
            values = [report.get("reliability", {}).get(key) for report in reports]
            rows.append([label, *(NO_SCORE if value is None else f"{value:.3f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for label, *cells in rows:
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([label.ljust(widths[0]), *aligned]))
    lines.append(f"codes judged by ICD-10-CM edition {reports[0]['edition']}")
    return "\n".join(lines + [f"{name}: {describe_shares(name, group)}" for name, group in groups.items()])


def _cell(report: Report, metric: Metric, column: str) -> str:
    value, key = reported_score(report, metric, column), interval_key(metric, column)
    if value is None:
        return NO_SCORE
    interval, difference = report.get("intervals", {}).get(key), report.get("difference", {}).get(key)
    if not interval:
        return f"{100 * value:.1f}"
    star = "*" if difference and (difference[0] > 0 or difference[1] < 0) else " "
    return f"{100 * value:.1f} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]{star}"


def _share_of_documents(rules: Mapping[str, Mapping[str, int]], name: str) -> str:
    """How many predicted documents are `name`, and how many of gold: "57/61 (gold 60/61)"."""
    predicted, gold = (f"{rules[side][name]}/{rules[side]['documents']}" for side in ("predicted", "gold"))
    return f"{predicted} (gold {gold})"


def describe_shares(name: GroupName, group: Group) -> str:
    """The group's share of gold's codes, or of the unseen ones, and of their span pairs where it is a source's."""
    codes = f"{group.about['share']:.0%} of {'unseen' if name.view else 'gold'} codes"
    return f"{codes}, {group.about['span_share']:.0%} of their spans" if name.source else codes
