"""Groups of codes against plain set arithmetic, and rates of defective answers by hand."""

import random

import numpy as np
import pytest

from minscl.data.chains import CHAIN, join_answers, split_answers
from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Pair
from minscl.score.answer_quality import rates
from minscl.score.code_groups import GroupName, code_groups
from minscl.score.codes import (
    chapter_of,
    cm_codes,
    code_sets,
    per_chapter,
    read_code,
    scores_from_counts,
    tally,
    to_level,
)
from minscl.score.systems import PER_CHAPTER, Metric, count_system

SEEN, UNSEEN = GroupName("seen"), GroupName("unseen")
COVERED, UNCOVERED = GroupName("unseen", "covered"), GroupName("unseen", "uncovered")
ANY_GOLD = GroupName("unseen", "any", "gold")


def documents(sets):
    return [
        CodedDocument(str(number), "", tuple(Assignment(code, "") for code in codes))
        for number, codes in enumerate(sets)
    ]


def test_codes_are_normalised_and_others_left_out():
    """Guards: e1165 and E11.65 as two codes, a dotted text taken for a procedure code, an unlisted code dropped."""
    assert (
        read_code("e1165") == ("cm", "E11.65")
        and read_code(" i10 ") == ("cm", "I10")
        and read_code("Z99.99") == ("cm", "Z99.99")
    )
    assert read_code("0BH17EZ")[0] == read_code("b2151zz")[0] == "pcs"
    assert all(read_code(text)[0] == "malformed" for text in ("hypertension", "250.00", "0BH.17EZ", "0BH1.7EZ"))
    assert cm_codes(["i10", "I10", "0BH17EZ", "pain"]) == {"I10"}


def test_seen_and_unseen_hold_all_codes():
    """Guards: a hallucinated code that no group charges. It is an FP of the unseen codes, except gold-restricted."""
    gold, train = documents([{"I10", "J18.9"}, {"E11.9"}]), documents([{"i10", "N17.9"}])
    groups = code_groups(gold, train)
    assert groups[SEEN].about == {"share": 1 / 3, "codes": 1}
    assert groups[UNSEEN].about == {"share": 2 / 3, "codes": 2}
    table = tally(code_sets(gold, documents([{"I10", "N17.9", "A00.1"}, {"E11.9", "A00.1"}])))

    def scores(group):
        return scores_from_counts(table.counts()[:, [label in groups[group] for label in table.labels]])

    assert scores(SEEN)["micro"] == pytest.approx([1 / 2, 1, 2 / 3])
    assert scores(SEEN)["micro_gold_restricted"] == pytest.approx([1, 1, 1])
    assert scores(UNSEEN)["micro"] == pytest.approx([1 / 3, 1 / 2, 0.4])
    assert scores(UNSEEN)["micro_gold_restricted"] == pytest.approx([1, 1 / 2, 2 / 3])


def test_sources_of_unseen_codes():
    """Guards: shares over the wrong codes, pairs of codes that are not unseen gold codes counted, a code under two
    sources in the view `first`."""
    gold, train = documents([{"I10", "J18.9"}, {"E11.9", "N17.9", "K21.9"}]), documents([{"I10"}])
    pairs = [
        Pair("htn", "I10", "gold"),
        Pair("flu", "J11.1", "gold"),
        Pair("a", "j189", "gold"),
        Pair("b", "J18.9", "silver", count=9),
        Pair("c", "J18.9", "silver"),
        Pair("d", "E11.9", "synthetic"),
    ]
    about = {str(name): group.about for name, group in code_groups(gold, train, pairs).items()}
    assert about["unseen"] == {"share": 4 / 5, "codes": 4}
    assert about["unseen, covered"] == {"share": 2 / 4, "codes": 2} == about["unseen, uncovered"]
    assert about["unseen, any gold"] == {"share": 1 / 4, "codes": 1, "span_share": 1 / 4, "spans": 1}
    assert about["unseen, any silver"] == {"share": 1 / 4, "codes": 1, "span_share": 2 / 4, "spans": 2}
    assert (
        about["unseen, first gold"] == {"share": 1 / 4, "codes": 1, "span_share": 3 / 4, "spans": 3}
        and "unseen, first silver" not in about
    )
    assert about["unseen, first none"] == {"share": 2 / 4, "codes": 2, "span_share": 0, "spans": 0}
    groups = code_groups(gold, train, pairs)
    assert "J11.1" in groups[COVERED] and "J11.1" not in groups[ANY_GOLD] and "A00.1" in groups[UNCOVERED]


def test_groups_levels_and_chapters_equal_scoring_their_codes_alone():
    """Guards masks and mapped labels: random documents are scored again as sets of the codes in question. 1e-12."""
    rng = random.Random(6)
    codes = ["I10", "I50.23", "E11.9", "E11.65", "D49.9", "D50.0", "H59.88", "H60.00", "A99.9", "Z99.9", "E99.9"]
    gold, predicted, train = ([rng.sample(codes, rng.randrange(6)) for _ in range(12)] for _ in range(3))
    pairs = [Pair("x", rng.choice(codes), rng.choice(["gold", "silver"])) for _ in range(4)]
    groups = code_groups(documents(gold), documents(train[:2]), pairs)
    scores = count_system(documents(gold), documents(predicted), groups).scores()

    def naive(keep=lambda code: True, ancestor=lambda code: code):
        sides = [
            [{ancestor(code) for code in document if keep(code)} for document in side] for side in (gold, predicted)
        ]
        tp = sum(len(a & b) for a, b in zip(*sides, strict=True))
        p, r = (tp / total if (total := sum(map(len, side))) else 0.0 for side in reversed(sides))
        return [p, r, 2 * p * r / (p + r) if p + r else 0.0]

    for name, group in groups.items():
        assert scores[Metric(name, "micro")] == pytest.approx(naive(group.__contains__), abs=1e-12), name
    chapters = dict(zip(codes, ("9", "9", "4", "4", "2", "3", "7", "8", "1", "21", "?"), strict=True))
    assert {code: chapter_of(code) for code in codes} == chapters
    assert scores[Metric("category", "micro")] == pytest.approx(naive(ancestor=lambda code: code[:3]), abs=1e-12)
    assert scores[Metric("chapter", "micro")] == pytest.approx(naive(ancestor=chapters.get), abs=1e-12)
    occurring = {chapters[code] for side in (gold, predicted) for document in side for code in document}
    assert {metric.name for metric in scores if metric.scope == PER_CHAPTER} == occurring
    for chapter in occurring:
        assert scores[Metric(PER_CHAPTER, chapter)] == pytest.approx(
            naive(lambda code, chapter=chapter: chapters[code] == chapter), abs=1e-12
        )


def test_a_category_counts_once_a_document():
    """Guards: two codes of one category counted as two TP, chapters out of order."""
    sets = [(frozenset({"E11.9", "E11.65", "I10"}), frozenset({"E11.22", "I10"}))]
    assert to_level(sets, "category") == [({"E11", "I10"}, {"E11", "I10"})]
    assert to_level(sets, "chapter") == [({"4", "9"}, {"4", "9"})]
    table = tally(sets + [(frozenset({"Z99.9", "A99.9"}), frozenset({"E99.9"}))])
    scores = per_chapter(table, table.counts())
    assert list(scores) == ["1", "4", "9", "21", "?"]
    assert scores["9"].tolist() == [1, 1, 1] and scores["4"].tolist() == [0, 0, 0]
    assert np.allclose(per_chapter(table, table.counts(np.array([0.0, 1.0])))["9"], 0)  # its document has weight 0


def answer(output, codes=(), *, id="0", warnings=(), truncated=None, continued=None):
    assignments = tuple(Assignment(code, "") for code in codes)
    return CodedDocument(id, "", assignments, output, warnings, truncated, continued)


def rates_of(*answers, gold=None):
    gold = gold or documents([{"I10"}] * len(answers))
    return rates(gold, answers, code_sets(gold, answers))


def test_rates_are_shares_of_gold_documents():
    """Guards: missing predictions left out of a rate, a heading counted as unlisted, a word counted among the codes."""
    rates_by_name = rates_of(
        answer("Codes:\nI10 Hypertension", ["I10"]), answer("Codes:\nnone", id="1"), gold=documents([{"I10"}] * 4)
    )
    assert rates_by_name.pop("missing") == 0.5 and rates_by_name.pop("empty") == 0.75
    assert rates_by_name == dict.fromkeys(
        ("truncated", "sectionless", "with malformed lines", "unlisted codes", "codes not billable"), 0
    )
    of_codes = rates_of(answer(None, ["N18.3", "I10", "i10", "Z99.99", "pain"]))
    assert of_codes["unlisted codes"] == pytest.approx(1 / 3)
    assert of_codes["codes not billable"] == pytest.approx(2 / 3)
    assert CodeBook.load().description("N18.3") and not CodeBook.load().is_billable("N18.3")


def test_rates_parse_an_answer_as_generate_did():
    """Guards: a "+ Evid." answer counted as sectionless though its headings were given; a half-written code counted as
    malformed; a state read out of a warning, whose text a note may quote."""
    after_evidence = answer("I10 Essential (primary) hypertension [1]\nE11.9x what", ["I10"], continued=True)
    bare = answer("I10 Essential (primary) hypertension", ["I10"], continued=False)
    foreign = answer("I10 Essential (primary) hypertension", ["I10"], warnings=None)
    truncated = answer("Evidence:\n1. HTN\nCodes:\nI10 x\nE11.", ["I10"], truncated=1)
    answers = (after_evidence, bare, foreign, truncated)
    assert [rates_of(document)["sectionless"] for document in answers] == [0, 1, 1, 0]
    assert [rates_of(document)["truncated"] for document in answers] == [0, 0, 0, 1]
    assert rates_of(answer("Codes:\nI10", ["I10"], truncated=1))["truncated"] == 1  # --grounded: closed by its limit
    assert rates_of(answer(None, ["I10"], truncated=1))["truncated"] == 1
    malformed = answer("Codes:\n250.00 Diabetes\nI10 Essential (primary) hypertension", ["I10"])
    assert rates_of(malformed)["with malformed lines"] == 1 and rates_of(truncated)["with malformed lines"] == 0
    quoted = answer(
        "Codes:\nI10",
        ["I10"],
        warnings=(
            "not found in note: the answer has no section headings, 1 of 2 chains stopped at their length limit",
        ),
        truncated=0,
    )
    assert rates_of(quoted)["sectionless"] == rates_of(quoted)["truncated"] == 0


def test_chains_are_equal_parts_of_their_document():
    """Guards: several chains parsed as one answer, whose first heading hides that a later chain has none."""
    chains = ["Because.\nCodes:\nI10 x", "I think I10.", "Codes:\n250.00 y", ""]
    assert join_answers(chains[:2], CHAIN) == (
        "--- chain 1 of 2\nBecause.\nCodes:\nI10 x\n--- chain 2 of 2\nI think I10."
    )
    assert split_answers(join_answers(chains, CHAIN)) == chains and split_answers("Codes:\nI10") == ["Codes:\nI10"]
    rates_by_name = rates_of(answer(join_answers(chains, CHAIN), ["I10"], truncated=1))
    assert rates_by_name["sectionless"] == 0.5 and rates_by_name["with malformed lines"] == 0.25
    assert rates_by_name["truncated"] == 0.25
