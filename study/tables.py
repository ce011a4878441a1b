"""The study's tables, from the predictions that run.py left: means over seeds, 95% intervals, paired differences.

A bootstrap round draws test cases and scores every row and seed on them; a row's value is the mean over its seeds. So
intervals are about cases and seeds average out; a star marks a row whose difference from SCL excludes 0.

Read next: figures.py.
"""

import dataclasses
from pathlib import Path

import numpy as np

from minscl.data.coded_records import read_documents, read_pairs
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument
from minscl.files import replace_file
from minscl.score.bootstrap import ROUNDS, bootstrap, bootstrap_rows
from minscl.score.code_groups import GroupName, code_groups
from minscl.score.systems import CODES, EVIDENCE, Metric, count_system
from study.costs import Cost, training_cost
from study.figures import draw_costs, draw_rows
from study.rows import Row
from study.steps import seconds_file, seconds_of

MICRO, MACRO = Metric(CODES, "micro"), Metric(CODES, "macro_gold")
SEEN, UNSEEN = Metric(GroupName("seen"), "micro"), Metric(GroupName("unseen"), "micro")
SPANS, OVERLAP, CODIESP = (
    Metric(EVIDENCE, name) for name in ("span_exact_match", "overlap_per_code_one_to_one", "codiesp_x")
)
COLUMNS = {  # title → (metric, 0 precision, 1 recall, 2 F1)
    "micro-F1": (MICRO, 2), "precision": (MICRO, 0), "recall": (MICRO, 1), "macro-F1": (MACRO, 2),
    "seen": (SEEN, 2), "unseen": (UNSEEN, 2), "unseen recall": (UNSEEN, 1),
    "evidence recall": (OVERLAP, 1), "evidence F1": (OVERLAP, 2), "exact": (SPANS, 2), "CodiEsp-X": (CODIESP, 2),
}  # fmt: skip
REFERENCE = "scl"


def measure(out: Path, data: Path, rows: list[Row], seeds: list[int]) -> dict[str, dict]:
    """{row: {"value", "samples": {metric: …}, "seeds"}}; values (3,), samples (rounds, 3), both means over seeds."""
    codebook = CodeBook.load()
    gold = sorted(read_jsonl(data / "test.jsonl", CodedDocument), key=lambda document: document.id)
    groups = code_groups(gold, read_documents(data / "evidence.jsonl", codebook), read_pairs_of(data, codebook))
    draws = bootstrap_rows(len(gold), ROUNDS, 0)
    results = {}
    for row in rows:
        files = [path for seed in seeds if (path := out / row.name / f"seed{seed}" / "test.jsonl").exists()]
        systems = [
            count_system(gold, read_jsonl(path, CodedDocument), groups, evidence=not row.given, codebook=codebook)
            for path in files
        ]
        if systems:
            values = [system.scores() for system in systems]
            samples = bootstrap(systems, draws)
            results[row.name] = {
                "value": {metric: np.mean([value[metric] for value in values], axis=0) for metric in values[0]},
                "samples": {metric: np.mean([s[metric] for s in samples], axis=0) for metric in samples[0]},
                "seeds": len(files),
                "seconds": [seconds_of(seconds_file(path)) for path in files],
            }
    return results


def read_pairs_of(data: Path, codebook: CodeBook) -> list:
    """The span pairs of SCL's row: gold, silver where it was mined, synthetic."""
    names = [name for name in ("gold", "silver", "synthetic") if (data / f"{name}.jsonl").exists()]
    return [pair for name in names for pair in read_pairs(str(data / f"{name}.jsonl"), codebook, listed=True)]


def cell(results: dict[str, dict], name: str, metric: Metric, column: int) -> str:
    """Value, interval and star, in %; "-" where the row has no such score."""
    result = results[name]
    if metric not in result["value"] or np.isnan(result["value"][metric][column]):
        return "-"
    samples = result["samples"][metric][:, column]
    low, high = np.nanpercentile(samples, (2.5, 97.5))
    star = ""
    if REFERENCE in results and name != REFERENCE and metric in results[REFERENCE]["samples"]:
        difference = np.nanpercentile(samples - results[REFERENCE]["samples"][metric][:, column], (2.5, 97.5))
        star = "\\*" if difference[0] > 0 or difference[1] < 0 else ""
    return f"{100 * result['value'][metric][column]:.1f}{star} [{100 * low:.1f}, {100 * high:.1f}]"


def table(results: dict[str, dict], rows: list[Row], titles: list[str]) -> str:
    """A Markdown table of the rows that have results."""
    lines = ["| system | " + " | ".join(titles) + " |", "|-" * (len(titles) + 1) + "|"]
    for row in rows:
        if row.name in results:
            cells = [cell(results, row.name, *COLUMNS[title]) for title in titles]
            lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_costs(out: Path, rows: list[Row], seeds: list[int]) -> dict[str, Cost]:
    """{row: its training's cost, the mean over seeds} of the rows with an adapter of their own."""
    costs = {}
    for row in rows:
        folders = [out / row.name / f"seed{seed}" for seed in seeds]
        of_seeds = [
            training_cost(out / f"base-{row.size}", folder)
            for folder in folders
            if row.adapter_row == row.name and (folder / "adapter_model.safetensors").exists()
        ]
        if of_seeds:
            numbers = np.mean([dataclasses.astuple(cost) for cost in of_seeds], axis=0)
            costs[row.name] = Cost(numbers[0], int(numbers[1]), numbers[2])
    return costs


def cost_table(results: dict[str, dict], rows: list[Row], costs: dict[str, Cost]) -> str:
    """Table 2: what training and coding the test cases cost."""
    lines = [
        "| system | seeds | s to train | tokens | TFLOPs | s to code the test cases | micro-F1 |",
        "|-|-|-|-|-|-|-|",
    ]
    for row in rows:
        if row.name in results:
            cost, result = costs.get(row.name), results[row.name]
            trained = f"{cost.seconds:,.0f} | {cost.tokens:,} | {cost.flops / 1e12:,.0f}" if cost else "- | - | -"
            f1 = 100 * result["value"][MICRO][2]
            coding = np.nanmean(result["seconds"])
            lines.append(f"| {row.title} | {result['seeds']} | {trained} | {coding:,.0f} | {f1:.1f} |")
    return "\n".join(lines)


def write_tables(out: Path, data: Path, rows: list[Row], seeds: list[int]) -> None:
    """Print the tables and write them to out/tables.md, the pictures beside it."""
    results, costs = measure(out, data, rows, seeds), mean_costs(out, rows, seeds)
    codes = table(results, rows, ["micro-F1", "precision", "recall", "macro-F1", "seen", "unseen", "unseen recall"])
    evidence = table(results, rows, ["evidence recall", "evidence F1", "exact", "CodiEsp-X"])
    text = f"## Codes\n\n{codes}\n\n## Evidence\n\n{evidence}\n\n## Cost\n\n{cost_table(results, rows, costs)}\n"
    with replace_file(out / "tables.md") as file:
        file.write(text)
    print(text)
    panels = {title: COLUMNS[title] for title in ("micro-F1", "unseen recall", "evidence F1")}
    draw_rows(out / "rows.svg", results, rows, panels)
    draw_costs(out / "costs.svg", results, rows, costs, MICRO)
