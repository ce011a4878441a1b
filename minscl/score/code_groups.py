"""Groups of codes that are scored separately: seen and unseen in training, and unseen by the source of their spans.

    gold, training documents, span pairs → {GroupName: Group}   (Figure 4)

A code is *seen* if it occurs in the training documents, else *unseen*. An unseen code is *covered* if a span pair has
it. A group's scores leave the codes outside it out of gold and predictions alike, so a hallucinated code is a false
positive of the unseen codes. The groups by span source hold unseen codes of the evaluated gold only, in two views:
`any`, where a code counts under every source that it has, and `first`, where it counts under the first of SOURCES.

Read next: codes.py for the metrics; systems.py, which applies them to each group.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from minscl.data.types import SOURCES, CodedDocument, Pair
from minscl.score.codes import cm_codes, read_code


class GroupName(NamedTuple):
    """Which group: `part` is "seen" or "unseen"; unseen codes by `view`: "covered", "uncovered", or "any" or "first"
    of a span `source`."""

    part: str
    view: str = ""
    source: str = ""

    def __str__(self) -> str:
        """The name in tables and JSON: "seen", "unseen, covered", "unseen, first gold"."""
        return self.part + (f", {self.view}" if self.view else "") + (f" {self.source}" if self.source else "")


@dataclass(frozen=True)
class Group:
    """The codes in `codes`, or with `complement` all codes but these.

    `about`: `share` and number (`codes`) of the evaluated gold's codes, as a share of all of them for seen and unseen,
    of the unseen ones for their subgroups; for a source also `span_share` and number (`spans`) of the pairs.
    """

    codes: frozenset[str]
    about: dict[str, float] = field(default_factory=dict)
    complement: bool = False

    def __contains__(self, code: str) -> bool:
        return (code in self.codes) != self.complement


def code_groups(
    gold: Sequence[CodedDocument], train: Sequence[CodedDocument], pairs: Sequence[Pair] | None = None
) -> dict[GroupName, Group]:
    """The groups of `gold`'s codes. `train`: the documents, `pairs`: the span pairs that the systems were trained on.

    Without `pairs`, seen and unseen only. A source that covers no unseen gold code has no group.
    """
    gold_codes, seen = _codes_of(gold), _codes_of(train)
    unseen = gold_codes - seen

    def about(codes: frozenset[str], among: frozenset[str]) -> dict[str, float]:
        return {"share": len(codes) / max(1, len(among)), "codes": len(codes)}

    groups = {
        GroupName("seen"): Group(seen, about(gold_codes & seen, gold_codes)),
        GroupName("unseen"): Group(seen, about(unseen, gold_codes), complement=True),
    }
    if pairs is None:
        return groups
    covered = cm_codes(pair.code for pair in pairs) - seen
    groups[GroupName("unseen", "covered")] = Group(covered, about(unseen & covered, unseen))
    groups[GroupName("unseen", "uncovered")] = Group(seen | covered, about(unseen - covered, unseen), complement=True)
    pair_counts = Counter((code, pair.source) for pair in pairs if (code := read_code(pair.code)[1]) in unseen)
    for name, codes, spans in _by_source(unseen, pair_counts):
        if codes:
            span_share = spans / max(1, pair_counts.total())
            groups[name] = Group(codes, about(codes, unseen) | {"span_share": span_share, "spans": spans})
    return groups


def _codes_of(documents: Iterable[CodedDocument]) -> frozenset[str]:
    return cm_codes(assignment.code for document in documents for assignment in document.codes)


def _by_source(
    unseen: frozenset[str], pair_counts: Counter[tuple[str, str]]
) -> Iterator[tuple[GroupName, frozenset[str], int]]:
    """(name, codes, number of span pairs) of each source in both views; `pair_counts`: (code, source) → span pairs.

    In the view `any` a source has its own pairs; in `first` its codes have the pairs of all sources.
    """
    for source in SOURCES:
        codes = frozenset(code for code in unseen if pair_counts[code, source])
        yield GroupName("unseen", "any", source), codes, sum(pair_counts[code, source] for code in codes)
    first = {code: next((source for source in SOURCES if pair_counts[code, source]), "none") for code in unseen}
    for source in (*SOURCES, "none"):
        codes = frozenset(code for code in unseen if first[code] == source)
        spans = sum(pair_counts[code, other] for code in codes for other in SOURCES)
        yield GroupName("unseen", "first", source), codes, spans
