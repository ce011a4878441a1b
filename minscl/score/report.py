"""The report of a system, as `evaluate --json` prints it, and the names of metrics and systems in it.

    System, bootstrap samples → {"system", "codes", "evidence", "category", …, "intervals", "difference"}

Read next: table.py, which shows several reports side by side.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from minscl.errors import printable
from minscl.score.bootstrap import Samples, percentile_interval
from minscl.score.code_groups import Group, GroupName
from minscl.score.codes import COLUMNS, named_columns
from minscl.score.systems import CODES, EVIDENCE, LEVELS, PER_CHAPTER, Metric, System

Report = dict  # a JSON object; see system_report


def system_report(
    system: System,
    groups: Mapping[GroupName, Group],
    samples: Samples | None = None,
    first: Samples | None = None,
) -> Report:
    """The JSON object of a system.

    Keys: `system`; `edition` of the code set; the scopes `codes`, `evidence`, `category`, `chapter` and `per_chapter`,
    each {name: {precision, recall, f1}}; `rates`; `dropped`; `rules`; where codes have scores `reliability`, {codes,
    brier, ece, bins}; `groups` where there are any, {name: {share, codes, …, metric: …}}. With bootstrap `samples` also
    `intervals`, {interval_key: [low, high]}; with the `first` system's, `difference` from it likewise.
    """
    scopes: dict[str | GroupName, dict[str, dict[str, float]]] = {EVIDENCE: {}, PER_CHAPTER: {}}
    for metric, row in system.scores().items():
        scopes.setdefault(metric.scope, {})[metric.name] = named_columns(row)
    report: Report = {"system": system.name, "edition": system.edition}
    report |= {scope: scopes[scope] for scope in (CODES, EVIDENCE, *LEVELS, PER_CHAPTER)}
    report |= {"rates": system.rates, "dropped": system.dropped, "rules": system.rules}
    if system.reliability:
        report["reliability"] = system.reliability.to_dict()
    if groups:
        report["groups"] = {str(name): {**group.about, **scopes[name]} for name, group in groups.items()}
    if samples is not None:
        report["intervals"] = intervals(samples)
        if first is not None and first is not samples:
            report["difference"] = intervals(
                {metric: samples[metric] - first[metric] for metric in samples if metric in first}
            )
    return report


def intervals(samples: Samples) -> dict[str, list[float]]:
    """{interval_key: [low, high]} of every metric and column."""
    return {
        interval_key(metric, column): low_high
        for metric, rows in samples.items()
        for column, low_high in zip(COLUMNS, percentile_interval(rows), strict=True)
    }


def interval_key(metric: Metric, column: str) -> str:
    """The metric's label for F1, and "LABEL precision" and "LABEL recall" for these columns."""
    return metric.label if column == "f1" else f"{metric.label} {column}"


def reported_score(report: Report, metric: Metric, column: str) -> float | None:
    """The score in a report; None where the system has no such score."""
    scope = report["groups"][str(metric.scope)] if isinstance(metric.scope, GroupName) else report[metric.scope]
    return scope[metric.name][column] if metric.name in scope else None


def system_names(paths: Sequence[str]) -> list[str]:
    """A name for each prediction file: its stem, its path where stems repeat, numbered where paths repeat too."""
    paths = [printable(path) for path in paths]
    stems = Counter(Path(path).stem for path in paths)
    names = [
        Path(path).stem if stems[Path(path).stem] == 1 else Path(path).with_suffix("").as_posix() for path in paths
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[:index].count(name) + 1})"
        for index, name in enumerate(names)
    ]
