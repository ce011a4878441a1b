"""The comparison in the form of the paper's Table 1: micro- and macro-F1 on two kinds of notes, a row a system.

A row's 95% intervals are over the notes that it coded, and its difference from SCL is paired: each bootstrap round
scores both on the same of these notes. Macro-F1 is over gold's codes. Then what each row costs.

Read next: compare_docs.py, which puts these tables into docs/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.notes import read_evidence
from minscl.data.types import CodedDocument, Note
from minscl.model import Tokenizer
from minscl.score.bootstrap import PERCENTILES, Samples, bootstrap, bootstrap_rows
from minscl.score.systems import Metric, count_system
from study.compare_rows import GOLD, OWN, SCL, Row, gold_path, predictions_path
from study.compare_runs import Record, read_record
from study.compare_tokens import count_tokens
from study.tables import MACRO, MICRO, OVERLAP, cell

F1 = 2  # its column in a metric's (precision, recall, F1)


@dataclass(frozen=True)
class Scores:
    """`value` {metric: (3,)} and bootstrap `samples` {metric: (rounds, 3)} of a row on some notes."""

    value: Mapping[Metric, np.ndarray]
    samples: Samples


@dataclass(frozen=True)
class Result:
    """A row on a test: its scores, SCL's on the same notes (None where SCL has not coded them), what a note cost.

    `skipped` of the `notes` were too long and count as notes without codes.
    """

    scores: Scores
    reference: Scores | None
    notes: int
    skipped: int
    seconds: float
    tokens_read: float
    tokens_written: float


@dataclass(frozen=True)
class Coded:
    """A row's file and its record."""

    documents: Mapping[str, CodedDocument]
    record: Record


def measure(folder: Path, rows: Sequence[Row], rounds: int, tokenizer: Tokenizer) -> dict[Row, Result]:
    """The results of those of `rows` that have coded notes of the test in `folder`."""
    coded = {}
    for row in rows:
        predicted = predictions_path(folder, row)
        if (record := read_record(predicted)) and record.notes:
            coded[row] = Coded({item.id: item for item in read_jsonl(predicted, CodedDocument)}, record)
    gold = sorted(read_jsonl(gold_path(folder), CodedDocument), key=lambda document: document.id)
    quotations = read_evidence(str(gold_path(folder)), [Note(item.id, item.text) for item in gold]) or {}
    results = {}
    for ids in {frozenset(item.record.notes) for item in coded.values()}:
        documents = [document for document in gold if document.id in ids]
        members = [row for row, item in coded.items() if item.record.notes.keys() == ids]
        able = [row for row, item in coded.items() if row.name == SCL and item.record.notes.keys() >= ids]
        scores = score(documents, {row: coded[row] for row in [*members, *able]}, rounds)
        for row in members:
            found = [coded[row].documents[note_id] for note_id in ids if note_id in coded[row].documents]
            tokens = [
                count_tokens(item, tokenizer, quotations[item.id] if row.evidence == GOLD else None) for item in found
            ]
            read, written = np.sum(tokens, axis=0) / max(len(found), 1) if tokens else (0.0, 0.0)
            reference = scores[able[0]] if able else None
            seconds = coded[row].record.seconds_per_note
            results[row] = Result(scores[row], reference, len(ids), len(ids) - len(found), seconds, read, written)
    return results


def score(gold: Sequence[CodedDocument], coded: Mapping[Row, Coded], rounds: int) -> dict[Row, Scores]:
    """The scores of each row on `gold`, whose order is that of the bootstrap."""
    codebook = CodeBook.load()
    systems = [
        count_system(
            gold,
            [item.documents[document.id] for document in gold if document.id in item.documents],
            {},
            evidence=row.evidence == OWN,
            codebook=codebook,
        )
        for row, item in coded.items()
    ]
    samples = bootstrap(systems, bootstrap_rows(len(gold), rounds, 0))
    return {row: Scores(system.scores(), drawn) for row, system, drawn in zip(coded, systems, samples, strict=True)}


def score_cell(result: Result | None, metric: Metric) -> str:
    """F1 in %, a star where it differs from SCL's, and the interval; "-" without such a score."""
    if result is None:
        return "-"
    pair = {"row": vars(result.scores)} | ({SCL: vars(result.reference)} if result.reference else {})
    return cell(pair, "row", metric, F1)


def difference_cell(result: Result, metric: Metric) -> str:
    """F1 minus SCL's in %, with the interval of the paired difference; "-" where there is none."""
    own, other = result.scores, result.reference
    if other is None or other is own or metric not in own.value or metric not in other.value:
        return "-"
    low, high = np.nanpercentile(own.samples[metric][:, F1] - other.samples[metric][:, F1], PERCENTILES)
    return f"{100 * (own.value[metric] - other.value[metric])[F1]:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def main_table(results: Mapping[str, Mapping[Row, Result]], rows: Sequence[Row]) -> str:
    """Table 1: the rows that have results, micro- and macro-F1 on each test. `results`: by the test's title."""
    columns = [(test, name, metric) for test in results for name, metric in (("micro-F1", MICRO), ("macro-F1", MACRO))]
    lines = ["| system | " + " | ".join(f"{test}: {name}" for test, name, _ in columns) + " |"]
    lines.append("|-" * (len(columns) + 1) + "|")
    for row in rows:
        if any(row in of_test for of_test in results.values()):
            cells = [score_cell(results[test].get(row), metric) for test, _, metric in columns]
            lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def detail_table(results: Mapping[Row, Result], rows: Sequence[Row]) -> str:
    """A test's differences from SCL, evidence and costs."""
    columns = ("notes", "micro-F1 − SCL", "macro-F1 − SCL", "evidence F1", "s", "tokens read", "tokens written")
    lines = ["| system | " + " | ".join(columns) + " |", "|-" * (len(columns) + 1) + "|"]
    for row in rows:
        if result := results.get(row):
            notes = f"{result.notes}" + (f" ({result.skipped} too long)" if result.skipped else "")
            scores = [difference_cell(result, MICRO), difference_cell(result, MACRO), score_cell(result, OVERLAP)]
            costs = [f"{result.seconds:.2f}", f"{result.tokens_read:,.0f}", f"{result.tokens_written:,.0f}"]
            lines.append(f"| {row.title} | " + " | ".join([notes, *scores, *costs]) + " |")
    return "\n".join(lines)
