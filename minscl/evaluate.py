"""Command: gold + predictions → one table, a column a system, with 95% intervals and paired differences; or JSON; or a picture.

    python -m minscl.evaluate --gold gold.jsonl --pred a.jsonl [--pred b.jsonl] [--train train.jsonl] [--spans spans.jsonl] [--json] [--plot scores.png]

Gold and predictions are coded documents with the same ids, or MDACE's own JSON: a chart with its notes' text, or a folder of them. With `--train`,
scores of seen and unseen codes (seen: in the gold of the documents that were trained on); with `--spans` too, of unseen codes by where their
spans came from (Figure 4).

Read next: groups.py, metrics.py, evidence.py and rates.py, where each score is defined; scoreboard.py, the table.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from minscl.cli import require, run_command
from minscl.data.corpora.mdace_charts import read_charts
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Pair
from minscl.errors import InputError
from minscl.score.answer_quality import rates
from minscl.score.code_groups import code_groups, read_code
from minscl.score.codes import (
    NAMES,
    Tally,
    all_scores,
    bootstrap_rows,
    code_sets,
    listed,
    mapped,
    per_chapter,
    scores_of,
    tally,
)
from minscl.score.evidence import MDACE, OVERLAP, document_counts, evidence_ratios
from minscl.score.table import plot, table

ROUNDS = 1000
PERCENTILES = (2.5, 97.5)
COLUMNS = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Choices:
    """What is scored otherwise on request: flags of the command, and `fixed`, the codes of --fixed."""

    merge: bool = False
    trim: bool = False
    unlisted: str = "keep"
    fixed: frozenset[str] | None = None
    f1_of_averages: bool = False


@dataclass(frozen=True)
class System:
    """A prediction file against gold: tallies by level, a mask of the codes of each group, `evidence` counts (documents, 4) a metric; `rates` of
    what could not be scored as written, `dropped` codes by kind."""

    name: str
    tables: dict[str, Tally]
    groups: dict[str, np.ndarray]
    evidence: dict[str, np.ndarray]
    rates: dict[str, float]
    dropped: dict[str, int]
    choices: Choices = field(default_factory=Choices)

    def values(self, weights=None) -> dict[str, np.ndarray]:
        """Every score as (precision, recall, F1), by name; `weights` (documents,): how often each document counts."""
        found = {}
        for level, one in self.tables.items():
            counts = one.counts(weights)
            if level:
                found |= {f"{level} {name}": row for name, row in zip(NAMES, scores_of(counts), strict=True)}
                continue
            found |= all_scores(counts, one.labels, self.choices.fixed, self.choices.f1_of_averages)
            for group, inside in self.groups.items():
                found |= {f"{group} {name}": row for name, row in zip(NAMES, scores_of(counts[:, inside]), strict=True)}
            found |= {f"per_chapter {chapter}": row for chapter, row in per_chapter(one, counts).items()}
        for name, counts in self.evidence.items():
            total = counts.sum(axis=0) if weights is None else weights @ counts
            found[name] = np.array(list(evidence_ratios(name, total).values()))
        return found


def read_documents(path: str, flag: str) -> list[CodedDocument]:
    """Coded documents of a JSONL file, or of MDACE's charts."""
    found = require(path, flag)
    documents = (
        read_charts(found, CodeBook.load())
        if found.is_dir() or found.suffix == ".json"
        else read_jsonl(found, CodedDocument)
    )
    if not documents:
        raise InputError(f"{flag} {path}: no document in there; give coded documents, one a line")
    return documents


def read_system(path: str, gold, groups, choices: Choices = Choices(), name: str = "", evidence: bool = True) -> System:
    """The predictions of one file, counted; `evidence=False`: they are made from gold's evidence ("+ Evid."), so only codes are scored."""
    predicted, dropped, texts = read_documents(path, "--pred"), Counter(), {one.id: one.text for one in gold}
    for one in predicted:
        if one.text != texts.get(one.id, one.text) and any(
            e.start is not None for code in one.codes for e in code.evidence
        ):
            raise InputError(
                f"{path}: document {one.id!r} was coded from another text than gold's; code the notes of the gold file"
            )
    try:
        sets = code_sets(gold, predicted, dropped)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    told, answers = rates(gold, predicted, sets), {one.id: one for one in predicted}
    sets = listed(sets) if choices.unlisted == "drop" else sets
    tables = {"": tally(sets)} | {level: tally(mapped(sets, level)) for level in ("category", "chapter")}
    masks = {
        group: np.array([label in codes for label in tables[""].labels], dtype=bool) for group, codes in groups.items()
    }
    rows = (
        [document_counts(one, answers.get(one.id), merge=choices.merge, trim=choices.trim) for one in gold]
        if evidence
        else []
    )
    counts = {
        metric: np.array([row[metric] for row in rows], dtype=np.float64) for metric in (*MDACE, *OVERLAP) if rows
    }
    return System(name or Path(path).stem, tables, masks, counts, told, dict(dropped), choices)


def read_fixed(path: str) -> frozenset[str]:
    """The codes of a text file, one a line; PCS is left out, as everywhere."""
    try:
        lines = require(path, "--fixed").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--fixed {path}: cannot be read ({error}); give a text file with a code a line") from error
    read = {line: read_code(line) for line in lines if line.strip()}
    wrong = [line for line, (kind, _) in read.items() if kind == "malformed"]
    if wrong or not read:
        raise InputError(
            f"--fixed {path}: {repr(wrong[0]) + ' is no code' if wrong else 'no code in there'}; write a code a line"
        )
    return frozenset(code for kind, code in read.values() if kind == "cm")


def column_names(paths) -> list[str]:
    """Stems of the files; the whole path where several have one stem, numbered where that is the same too."""
    stems = Counter(Path(path).stem for path in paths)
    names = [
        Path(path).stem if stems[Path(path).stem] == 1 else Path(path).with_suffix("").as_posix() for path in paths
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[:place].count(name) + 1})"
        for place, name in enumerate(names)
    ]


def bootstrap(systems, draws: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Of each system {score: (rounds, 3)}; `draws` (rounds, documents) are numbers of gold documents by id, the same for all systems."""
    found = [{} for _ in systems]
    for rows in tqdm(draws, desc="bootstrap", unit="round", leave=False):
        weights = np.bincount(rows, minlength=draws.shape[1]).astype(np.float64)
        for system, kept in zip(systems, found, strict=True):
            for name, row in system.values(weights).items():
                kept.setdefault(name, []).append(row)
    return [{name: np.stack(rows) for name, rows in kept.items()} for kept in found]


def as_json(system: System, groups, samples, first) -> dict:
    """The contract's object: `codes` and `evidence`, then what else was counted; with intervals and differences from the first system where drawn.

    An interval is named after its score for F1, "NAME precision" and "NAME recall" for these.
    """
    plain = {name: dict(zip(COLUMNS, map(float, row), strict=True)) for name, row in system.values().items()}
    by_level = {level: {name: plain[f"{level} {name}"] for name in NAMES} for level in ("category", "chapter", *groups)}
    result = {
        "system": system.name,
        "codes": {name: one for name, one in plain.items() if " " not in name and name not in system.evidence},
        "evidence": {name: plain[name] for name in system.evidence},
        "category": by_level["category"],
        "chapter": by_level["chapter"],
        "per_chapter": {
            name.removeprefix("per_chapter "): one for name, one in plain.items() if name.startswith("per_chapter ")
        },
        "rates": system.rates,
        "dropped": system.dropped,
    }
    if groups:
        result["groups"] = {name: {**one.about, **by_level[name]} for name, one in groups.items()}
    if samples is not None:
        result["intervals"] = intervals(samples)
        if first is not samples:
            result["difference"] = intervals({name: samples[name] - first[name] for name in samples if name in first})
    return result


def intervals(samples: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """[low, high] of every column of {score: (rounds, 3)}."""
    found = {}
    for name, rows in samples.items():
        for column, low_high in zip(COLUMNS, np.percentile(rows, PERCENTILES, axis=0).T.tolist(), strict=True):
            found[name if column == "f1" else f"{name} {column}"] = low_high
    return found


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m minscl.evaluate", description="Score predictions against gold.")
    parser.add_argument("--gold", required=True, metavar="FILE", help="coded documents, JSONL; or MDACE's JSON")
    parser.add_argument(
        "--pred",
        required=True,
        action="append",
        metavar="FILE",
        help="predictions for them; others are compared with the first",
    )
    parser.add_argument(
        "--codes-only",
        action="append",
        default=[],
        metavar="FILE",
        help="a --pred file made from gold's evidence: no scores of evidence",
    )
    parser.add_argument(
        "--train", default="", metavar="FILE", help="the coded documents that were trained on: which codes were seen"
    )
    parser.add_argument(
        "--spans", default="", metavar="FILE", help="the span pairs that were trained on: which unseen codes they cover"
    )
    parser.add_argument(
        "--merge", action="store_true", help="evidence: spans of a code with only punctuation between them are one"
    )
    parser.add_argument("--trim", action="store_true", help="evidence: leave punctuation off both ends of spans")
    parser.add_argument(
        "--unlisted",
        choices=("keep", "drop"),
        default="keep",
        help="predicted codes that the Tabular List lacks (default: %(default)s)",
    )
    parser.add_argument(
        "--fixed",
        default="",
        metavar="FILE",
        help="a code a line: adds macro_fixed, the macro over these, as in older work",
    )
    parser.add_argument(
        "--f1-of-averages",
        action="store_true",
        help="adds macro_f1_of_averages, of macro_union's precision and recall, as in older work",
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="bootstrap rounds for 95%% intervals; 0: none (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument(
        "--json", action="store_true", help="print JSON: an object, or a list of them for several predictions"
    )
    parser.add_argument("--plot", default="", metavar="FILE", help="draw the groups and the chapters (png, pdf, svg)")
    return parser


def main() -> int:
    args = flags().parse_args()
    check(args)
    gold = sorted(read_documents(args.gold, "--gold"), key=lambda one: one.id)
    train = read_jsonl(require(args.train, "--train"), CodedDocument) if args.train else None
    pairs = read_jsonl(require(args.spans, "--spans"), Pair) if args.spans else None
    groups = {} if train is None else code_groups(gold, train, pairs)
    choices = Choices(
        args.merge, args.trim, args.unlisted, read_fixed(args.fixed) if args.fixed else None, args.f1_of_averages
    )
    systems = [
        read_system(path, gold, groups, choices, name, evidence=path not in args.codes_only)
        for path, name in zip(args.pred, column_names(args.pred), strict=True)
    ]
    samples = (
        bootstrap(systems, bootstrap_rows(len(gold), args.rounds, args.seed)) if args.rounds else [None] * len(systems)
    )
    results = [as_json(system, groups, drawn, samples[0]) for system, drawn in zip(systems, samples, strict=True)]
    print(json.dumps(results[0] if len(results) == 1 else results) if args.json else table(results), flush=True)
    if len(results) > 1 and args.rounds and not args.json:
        print(
            f"* differs from {results[0]['system']}: the 95% interval of the paired difference leaves out 0",
            file=sys.stderr,
        )
    if args.plot:
        plot(results, args.plot)
    return 0


def check(args) -> None:
    """Flags that contradict one another, before anything is read."""
    if not 0 <= args.seed < 2**32 or args.rounds < 0:
        raise InputError(f"--seed {args.seed}, --rounds {args.rounds}: a seed from 0 to {2**32 - 1}, rounds from 0")
    if args.spans and not args.train:
        raise InputError(
            f"--spans {args.spans}: needs --train, the documents that were trained on, to know which codes are unseen"
        )
    for path in args.codes_only:
        if path not in args.pred:
            raise InputError(f"--codes-only {path}: not one of the --pred files; name it there too")


if __name__ == "__main__":
    run_command(main)
