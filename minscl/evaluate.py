"""Command: gold + predictions → one table, a column a system, with 95% intervals and paired differences; or JSON; or a picture.

    python -m minscl.evaluate --gold gold.jsonl --pred a.jsonl [--pred b.jsonl] [--train train.jsonl] [--spans spans.jsonl] [--json] [--plot scores.png]

Gold and predictions are coded documents with the same ids, or MDACE's own JSON: a chart with its notes' text, or a folder of them. With `--train`, scores of seen and unseen codes (seen: in the gold of the documents that were
trained on); with `--spans` too, of unseen codes by where their spans came from (Figure 4).

Read next: metrics.py and evidence.py, where each score is defined.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minscl.config import require
from minscl.data.corpora import read_charts
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.parse import parse_document
from minscl.data.types import CodedDocument, Pair
from minscl.errors import InputError, run_command
from minscl.evidence import MDACE, OVERLAP, document_counts, evidence_ratios
from minscl.metrics import NAMES, bootstrap_rows, code_sets, mapped, per_chapter, read_code, restricted, score_names, scores_of, tally

ROUNDS = 1000
PERCENTILES = (2.5, 97.5)
HEADLINE = ("span_position_independent", "overlap_agnostic_one_to_one")  # evidence scores whose recall is in the table too
FIRST = ("gold", "silver", "synthetic", "synthetic-template")  # precedence of a code's source


@dataclass(frozen=True)
class System:
    """A prediction file against gold: `codes` by level, `evidence` counts (documents, 4) a metric, `rates` of what could not be scored as written."""

    name: str
    sets: list
    codes: dict[str, object]
    evidence: dict[str, np.ndarray]
    rates: dict[str, float]

    def values(self, weights=None) -> dict[str, np.ndarray]:
        """Every score as (precision, recall, F1), by name; `weights` (documents,): how often each document counts."""
        found = {}
        for level, table in self.codes.items():
            for name, row in zip(NAMES, scores_of(table.counts(weights)), strict=True):
                found[f"{level}{name}"] = row
        for name, counts in self.evidence.items():
            total = counts.sum(axis=0) if weights is None else weights @ counts
            found[name] = np.array(list(evidence_ratios(name, total).values()))
        return found


def read_documents(path: str, flag: str) -> list[CodedDocument]:
    """Coded documents of a JSONL file, or of MDACE's charts."""
    found = require(path, flag)
    return read_charts(found, CodeBook.load()) if found.is_dir() or found.suffix == ".json" else read_jsonl(found, CodedDocument)


def read_system(path: str, gold, groups: dict[str, frozenset]) -> System:
    predicted, dropped, texts = read_documents(path, "--pred"), Counter(), {one.id: one.text for one in gold}
    for one in predicted:
        if one.text != texts.get(one.id, one.text) and any(e.start is not None for code in one.codes for e in code.evidence):
            raise InputError(f"{path}: document {one.id!r} was coded from another text than gold's; code the notes of the gold file")
    try:
        sets = code_sets(gold, predicted, dropped)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    codes = {"": tally(sets)} | {f"{level} ": tally(mapped(sets, level)) for level in ("category", "chapter")}
    codes |= {f"{name} ": tally(restricted(sets, labels)) for name, labels in groups.items()}
    answers = {one.id: one for one in predicted}
    rows = [document_counts(one, answers.get(one.id)) for one in gold]
    evidence = {name: np.array([row[name] for row in rows], dtype=np.float64).reshape(len(rows), 4) for name in (*MDACE, *OVERLAP)}
    return System(Path(path).stem, sets, codes, evidence, {**rates(predicted), **{name: float(number) for name, number in dropped.items()}})


def rates(predicted) -> dict[str, float]:
    """Shares of documents whose answer was cut, had no headings, malformed lines or no codes, and of codes that are not billable or not listed."""
    book, counts, codes = CodeBook.load(), Counter(), [read_code(code.code)[1] for one in predicted for code in one.codes]
    for one in predicted:
        counts["empty"] += not one.codes
        if one.output is not None:
            parsed = parse_document(one.output)
            counts["sectionless"] += parsed.sectionless
            counts["with malformed lines"] += parsed.malformed > 0
        counts["truncated"] += any("length limit" in line for line in one.warnings or ())
    shares = {name: counts[name] / max(1, len(predicted)) for name in ("truncated", "sectionless", "with malformed lines", "empty")}
    return shares | {"unlisted codes": sum(book.description(code) is None for code in codes if code) / max(1, len(codes))}


def code_groups(gold, train: str, spans: str) -> tuple[dict[str, frozenset], dict[str, float]]:
    """({group: codes}, {group: share of the gold codes}) of seen and unseen codes, and of the unseen ones by the source of their spans."""
    if not train:
        if spans:
            raise InputError(f"--spans {spans}: needs --train, the documents that were trained on, to know which codes are unseen")
        return {}, {}
    codes = lambda documents: frozenset(read_code(code.code)[1] for one in documents for code in one.codes) - {""}  # noqa: E731
    actual = codes(gold)
    seen = actual & codes(read_jsonl(require(train, "--train"), CodedDocument))
    groups = {"seen": seen, "unseen": actual - seen}
    if spans:
        sources: dict[str, set] = {}
        for pair in read_jsonl(require(spans, "--spans"), Pair):
            sources.setdefault(read_code(pair.code)[1], set()).add(pair.source)
        first = {code: next((one for one in FIRST if one in sources.get(code, ())), "none") for code in groups["unseen"]}
        groups |= {f"unseen, any {source}": frozenset(code for code in first if source in sources.get(code, ())) for source in FIRST}
        groups |= {f"unseen, first {source}": frozenset(code for code in first if first[code] == source) for source in (*FIRST, "none")}
    groups = {name: labels for name, labels in groups.items() if labels}
    return groups, {name: len(labels) / len(actual) for name, labels in groups.items()}


def bootstrap(systems, draws: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Of each system {score: (rounds, 3)}; `draws` (rounds, documents) are numbers of gold documents by id, the same for all systems."""
    found = [{} for _ in systems]
    for rows in tqdm(draws, desc="bootstrap", unit="round", leave=False):
        weights = np.bincount(rows, minlength=draws.shape[1]).astype(np.float64)
        for system, kept in zip(systems, found, strict=True):
            for name, row in system.values(weights).items():
                kept.setdefault(name, []).append(row)
    return [{name: np.stack(rows) for name, rows in kept.items()} for kept in found]


def as_json(system: System, shares, samples, first) -> dict:
    """The contract's object: `codes` and `evidence`, then what else was counted; with intervals and differences from the first system where drawn."""
    values = system.values()
    plain = {name: dict(zip(("precision", "recall", "f1"), map(float, row), strict=True)) for name, row in values.items()}
    result = {"system": system.name, "codes": {name: plain[name] for name in NAMES}, "evidence": {name: plain[name] for name in (*MDACE, *OVERLAP)},
              "category": {name: plain[f"category {name}"] for name in NAMES}, "chapter": {name: plain[f"chapter {name}"] for name in NAMES},
              "per_chapter": per_chapter(system.sets), "rates": system.rates}
    if shares:
        result["groups"] = {group: {"share": share, **{name: plain[f"{group} {name}"] for name in NAMES}} for group, share in shares.items()}
    if samples is not None:
        named = [(name, name, 2) for name in samples] + [(f"{name} recall", name, 1) for name in (*MDACE, *OVERLAP)]  # F1, and evidence's recall
        result["intervals"] = {shown: np.percentile(samples[name][:, column], PERCENTILES).tolist() for shown, name, column in named}
        if first is not samples:
            result["difference"] = {shown: np.percentile(samples[name][:, column] - first[name][:, column], PERCENTILES).tolist() for shown, name, column in named}
    return result


def table(results, names) -> str:
    """F1 of each score (recall where a row says so), a column a system, with intervals; below, rates. A difference from the first system whose interval leaves out 0 has a star."""
    def cell(result, name) -> str:
        low_high = result.get("intervals", {}).get(name)
        change = result.get("difference", {}).get(name)
        star = "*" if change and (change[0] > 0 or change[1] < 0) else " "
        value = f"{100 * names[name](result):.1f}"
        return f"{value} [{100 * low_high[0]:.1f}, {100 * low_high[1]:.1f}]{star}" if low_high else value

    rows = [["F1, %", *(one["system"] for one in results)]]
    rows += [[name.strip(), *(cell(one, name) for one in results)] for name in names]
    rows += [[f"{name}, %" if name not in ("gold pcs", "gold malformed", "predicted pcs", "predicted malformed") else name,
              *(f"{one['rates'].get(name, 0) * (1 if ' ' in name and name.split()[0] in ('gold', 'predicted') else 100):.1f}" for one in results)]
             for name in dict.fromkeys(name for one in results for name in one["rates"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) if place == 0 else text.rjust(width) for place, (text, width) in enumerate(zip(row, widths, strict=True)))
                     for row in rows)


def f1_getters(result) -> dict:
    """{name of a score in the table: function from a result to its F1}, in the order of the table."""
    getters = {name: (lambda one, name=name: one["codes"][name]["f1"]) for name in NAMES}
    for level in ("category", "chapter"):
        getters[f"{level} micro"] = lambda one, level=level: one[level]["micro"]["f1"]
    for group in result.get("groups", ()):
        getters[f"{group} micro"] = lambda one, group=group: one["groups"][group]["micro"]["f1"]
    getters |= {name: (lambda one, name=name: one["evidence"][name]["f1"]) for name in (*MDACE, *OVERLAP)}
    return getters | {f"{name} recall": (lambda one, name=name: one["evidence"][name]["recall"]) for name in HEADLINE}


def plot(results, path: str) -> None:
    """Bars of the groups' micro-F1 with their shares (Figure 4), and of each chapter."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot: matplotlib is not installed; pip install 'minscl[plots]'") from error
    figure = Figure(figsize=(11, 8), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    groups, chapters = list(results[0].get("groups", {})), sorted({one for result in results for one in result["per_chapter"]}, key=lambda one: (len(one), one))
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        top.bar([place + number * width for place in range(len(groups))], [result["groups"][one]["micro"]["f1"] for one in groups], width, label=result["system"])
        bottom.bar([place + number * width for place in range(len(chapters))], [result["per_chapter"].get(one, {"f1": 0})["f1"] for one in chapters], width)
    top.set_xticks(range(len(groups)), [f"{one}\n{results[0]['groups'][one]['share']:.0%} of codes" for one in groups])
    bottom.set_xticks(range(len(chapters)), chapters)
    top.set(ylabel="micro-F1", title="seen and unseen codes" if groups else "seen and unseen codes: give --train")
    bottom.set(ylabel="micro-F1", xlabel="chapter")
    if groups:
        top.legend()
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m minscl.evaluate", description="Score predictions against gold.")
    parser.add_argument("--gold", required=True, metavar="FILE", help="coded documents, JSONL; or MDACE's JSON")
    parser.add_argument("--pred", required=True, action="append", metavar="FILE", help="predictions for the same documents; several are compared with the first")
    parser.add_argument("--train", default="", metavar="FILE", help="the coded documents that were trained on: which codes were seen")
    parser.add_argument("--spans", default="", metavar="FILE", help="the span pairs that were trained on: which unseen codes they cover")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="bootstrap rounds for 95%% intervals; 0: none (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON: an object, or a list of them for several predictions")
    parser.add_argument("--plot", default="", metavar="FILE", help="draw the groups and the chapters (png, pdf, svg)")
    args = parser.parse_args()
    gold = read_documents(args.gold, "--gold")
    if not gold:
        raise InputError(f"{args.gold}: no document in there; give coded documents, one a line")
    gold.sort(key=lambda one: one.id)
    groups, shares = code_groups(gold, args.train, args.spans)
    systems = [read_system(path, gold, groups) for path in args.pred]
    samples = bootstrap(systems, bootstrap_rows(len(gold), args.rounds, args.seed)) if args.rounds > 0 else [None] * len(systems)
    results = [as_json(system, shares, drawn, samples[0]) for system, drawn in zip(systems, samples, strict=True)]
    if args.plot:
        plot(results, args.plot)
    if args.json:
        print(json.dumps(results[0] if len(results) == 1 else results))
    else:
        print(table(results, f1_getters(results[0])))
        if len(results) > 1 and args.rounds > 0:
            print(f"* differs from {results[0]['system']}: the 95% interval of the paired difference leaves out 0", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
