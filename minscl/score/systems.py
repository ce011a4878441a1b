"""One system's predictions, counted against gold so that every score can be computed for any weighting of documents.

    gold + predictions → System (tallies of codes, counts of evidence, rates) → {Metric: (precision, recall, F1)}

Read next: bootstrap.py for intervals; report.py for the JSON; table.py and plots.py for what is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.score.answer_quality import rates
from minscl.score.calibration import Reliability, reliability, scored_codes
from minscl.score.code_groups import Group, GroupName
from minscl.score.codes import (
    Tally,
    code_sets,
    drop_unlisted,
    dropped_codes,
    per_chapter,
    scores_from_counts,
    tally,
    to_level,
)
from minscl.score.evidence import METRICS, document_counts, evidence_ratios
from minscl.score.rule_counts import rule_counts

CODES = "codes"  # the scopes of Metric, beside the groups
PER_CHAPTER = "per_chapter"
LEVELS = ("category", "chapter")
EVIDENCE = "evidence"


class Metric(NamedTuple):
    """One score. `scope`: CODES, a level of LEVELS, PER_CHAPTER, EVIDENCE, or the name of a group of codes.

    `name`: a metric of codes.py for codes, levels and groups; a chapter's number for PER_CHAPTER; a metric of
    evidence.py for EVIDENCE.
    """

    scope: str | GroupName
    name: str

    @property
    def label(self) -> str:
        """The name in tables and in JSON intervals: "micro", "category micro", "unseen, any gold micro"."""
        return self.name if self.scope in (CODES, EVIDENCE) else f"{self.scope} {self.name}"


@dataclass(frozen=True)
class System:
    """The counts of one prediction file.

    `tallies`: codes by scope, CODES or a level; `group_masks`: bool (labels of CODES,) of each group; `evidence`:
    float64 (documents, 4) of each metric, the fields of evidence.MatchCounts, empty where evidence is not scored;
    `rates`: answer_quality.rates; `dropped`: codes.dropped_codes; `rules`: rule_counts.rule_counts of gold and
    predictions, judged by the code set `edition`; `reliability`: of the scores, None where no code has one.
    """

    name: str
    edition: str
    tallies: dict[str, Tally]
    group_masks: dict[GroupName, np.ndarray]
    evidence: dict[str, np.ndarray]
    rates: dict[str, float]
    dropped: dict[str, int]
    rules: dict[str, dict[str, int]]
    reliability: Reliability | None = None
    fixed: frozenset[str] | None = None
    f1_of_averages: bool = False

    def scores(self, weights: np.ndarray | None = None) -> dict[Metric, np.ndarray]:
        """(precision, recall, F1) of every metric. `weights` (documents,): how often each document counts."""
        scores: dict[Metric, np.ndarray] = {}

        def add(scope: str | GroupName, rows: Mapping[str, np.ndarray]) -> None:
            scores.update({Metric(scope, name): row for name, row in rows.items()})

        table = self.tallies[CODES]
        counts = table.counts(weights)
        scores_of_codes = scores_from_counts(counts, table.labels, fixed=self.fixed, f1_of_averages=self.f1_of_averages)
        add(CODES, scores_of_codes)
        for group, mask in self.group_masks.items():
            add(group, scores_from_counts(counts[:, mask]))
        add(PER_CHAPTER, per_chapter(table, counts))
        for level in LEVELS:
            add(level, scores_from_counts(self.tallies[level].counts(weights)))
        for name, rows in self.evidence.items():
            total = rows.sum(axis=0) if weights is None else weights @ rows
            scores[Metric(EVIDENCE, name)] = np.array(list(evidence_ratios(name, total).values()))
        return scores


def count_system(
    gold: Sequence[CodedDocument],
    predicted: Sequence[CodedDocument],
    groups: Mapping[GroupName, Group],
    *,
    name: str = "",
    evidence: bool = True,
    merge: bool = False,
    trim: bool = False,
    unlisted: bool = True,
    fixed: frozenset[str] | None = None,
    f1_of_averages: bool = False,
    codebook: CodeBook | None = None,
    gold_rules: dict[str, int] | None = None,
) -> System:
    """Count `predicted` against `gold`; the order of `gold` is the order of the documents in the counts.

    `evidence=False`: the predictions were made from gold's evidence ("+ Evid."), so only codes are scored. `merge` and
    `trim` as for evidence.spans_of; `unlisted`, `fixed` (canonical codes) and `f1_of_averages` as for
    codes.code_scores; `codebook`: the code set, None: the default edition; `gold_rules`: rule_counts of gold, where
    they are known. Raises InputError for a prediction of a document that gold does not have, or with offsets into
    another text than gold's.
    """
    _check_texts(gold, predicted)
    sets = code_sets(gold, predicted)
    answer_rates = rates(gold, predicted, sets, codebook)
    if not unlisted:
        sets = drop_unlisted(sets, codebook)
    tallies = {CODES: tally(sets)} | {level: tally(to_level(sets, level)) for level in LEVELS}
    masks = {
        group_name: np.array([label in group for label in tallies[CODES].labels], dtype=bool)
        for group_name, group in groups.items()
    }
    book = codebook or CodeBook.load()
    rules = {"gold": gold_rules or rule_counts(gold, book), "predicted": rule_counts(predicted, book)}
    return System(
        name,
        book.edition.id,
        tallies,
        masks,
        evidence_counts(gold, predicted, merge, trim) if evidence else {},
        answer_rates,
        dropped_codes(gold, predicted),
        rules,
        reliability(*scored_codes(gold, predicted)),
        fixed,
        f1_of_averages,
    )


def evidence_counts(
    gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument], merge: bool, trim: bool
) -> dict[str, np.ndarray]:
    """System.evidence: each metric's counts, float64 (documents, 4); arguments as for count_system."""
    predictions = {document.id: document for document in predicted}
    counts = [document_counts(document, predictions.get(document.id), merge=merge, trim=trim) for document in gold]
    return {metric: np.array([row[metric] for row in counts], dtype=np.float64) for metric in METRICS}


def _check_texts(gold: Sequence[CodedDocument], predicted: Sequence[CodedDocument]) -> None:
    """Raise InputError for a prediction whose located evidence belongs to another text than gold's."""
    texts = {document.id: document.text for document in gold}
    for document in predicted:
        located = any(quotation.start is not None for code in document.codes for quotation in code.evidence)
        if located and document.text != texts.get(document.id, document.text):
            raise InputError(
                f"document {show_id(document.id)} was coded from another text than gold's; code gold's notes"
            )
