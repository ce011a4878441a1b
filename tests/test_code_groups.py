"""Groups of codes against set arithmetic written out, and rates of answers by hand."""

import random

import numpy as np
import pytest

from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Pair
from minscl.evaluate import read_system
from minscl.score.answer_quality import rates
from minscl.score.code_groups import chapter_of, cm_codes, code_groups, read_code
from minscl.score.codes import all_scores, code_sets, mapped, per_chapter, tally


def documents(sets):
    return [
        CodedDocument(str(number), "", tuple(Assignment(code, "") for code in codes))
        for number, codes in enumerate(sets)
    ]


def test_codes_are_normalised_and_others_left_out():
    """Guards: e1165 against E11.65 called wrong, a dotted text taken for a procedure, a code of no list dropped."""
    assert (
        read_code("e1165") == ("cm", "E11.65")
        and read_code(" i10 ") == ("cm", "I10")
        and read_code("Z99.99") == ("cm", "Z99.99")
    )
    assert read_code("0BH17EZ")[0] == read_code("b2151zz")[0] == "pcs"
    assert all(read_code(text)[0] == "malformed" for text in ("hypertension", "250.00", "0BH.17EZ", "0BH1.7EZ"))
    assert cm_codes(["i10", "I10", "0BH17EZ", "pain"]) == {"I10"}


def test_seen_and_unseen_hold_all_codes():
    """Guards: a made-up code that is nobody's false positive because gold never has it; it is the unseen codes', and not in the gold-restricted score."""
    gold, train = documents([{"I10", "J18.9"}, {"E11.9"}]), documents([{"i10", "N17.9"}])
    groups = code_groups(gold, train)
    assert groups["seen"].about == {"share": 1 / 3, "codes": 1} and groups["unseen"].about == {
        "share": 2 / 3,
        "codes": 2,
    }
    table = tally(code_sets(gold, documents([{"I10", "N17.9", "A00.1"}, {"E11.9", "A00.1"}])))

    def scores(group):
        return all_scores(table.counts()[:, [label in groups[group] for label in table.labels]], ())

    assert scores("seen")["micro"] == pytest.approx([1 / 2, 1, 2 / 3]) and scores("seen")[
        "micro_gold_restricted"
    ] == pytest.approx([1, 1, 1])
    assert scores("unseen")["micro"] == pytest.approx([1 / 3, 1 / 2, 0.4])
    assert scores("unseen")["micro_gold_restricted"] == pytest.approx([1, 1 / 2, 2 / 3])


def test_sources_of_unseen_codes():
    """Guards: shares over all of gold's codes, pairs of seen codes or of other codes counted, a code under two sources in the exclusive view."""
    gold, train = documents([{"I10", "J18.9"}, {"E11.9", "N17.9", "K21.9"}]), documents([{"I10"}])
    pairs = [
        Pair("htn", "I10", "gold"),
        Pair("flu", "J11.1", "gold"),
        Pair("a", "j189", "gold"),
        Pair("b", "J18.9", "silver", count=9),
        Pair("c", "J18.9", "silver"),
        Pair("d", "E11.9", "synthetic"),
    ]
    about = {name: group.about for name, group in code_groups(gold, train, pairs).items()}
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
    assert (
        "J11.1" in groups["unseen, covered"]
        and "J11.1" not in groups["unseen, any gold"]
        and "A00.1" in groups["unseen, uncovered"]
    )


def test_groups_levels_and_chapters_equal_scoring_their_codes_alone(tmp_path):
    """Guards masks in place of sets: on random documents each group, level and chapter is scored again from sets that hold its codes alone. 1e-12."""
    rng, codes = (
        random.Random(6),
        ["I10", "I50.23", "E11.9", "E11.65", "D49.9", "D50.0", "H59.88", "H60.00", "A99.9", "Z99.9", "E99.9"],
    )
    gold, found, train = ([rng.sample(codes, rng.randrange(6)) for _ in range(12)] for _ in range(3))
    pairs = [Pair("x", rng.choice(codes), rng.choice(["gold", "silver"])) for _ in range(4)]
    groups = code_groups(documents(gold), documents(train[:2]), pairs)
    write_jsonl(tmp_path / "a.jsonl", documents(found))
    values = read_system(str(tmp_path / "a.jsonl"), documents(gold), groups).values()

    def naive(keep=lambda code: True, up=lambda code: code):
        sides = [[{up(code) for code in one if keep(code)} for one in side] for side in (gold, found)]
        right = sum(len(a & b) for a, b in zip(*sides, strict=True))
        p, r = (right / total if (total := sum(map(len, side))) else 0.0 for side in reversed(sides))
        return [p, r, 2 * p * r / (p + r) if p + r else 0.0]

    for name, group in groups.items():
        assert values[f"{name} micro"] == pytest.approx(naive(group.__contains__), abs=1e-12), name
    chapters = dict(zip(codes, ("9", "9", "4", "4", "2", "3", "7", "8", "1", "21", "?"), strict=True))
    assert {code: chapter_of(code) for code in codes} == chapters
    assert values["category micro"] == pytest.approx(naive(up=lambda code: code[:3]), abs=1e-12)
    assert values["chapter micro"] == pytest.approx(naive(up=chapters.get), abs=1e-12)
    occur = {chapters[code] for side in (gold, found) for one in side for code in one}
    assert {name for name in values if name.startswith("per_chapter ")} == {f"per_chapter {one}" for one in occur}
    for chapter in occur:
        assert values[f"per_chapter {chapter}"] == pytest.approx(
            naive(lambda code, chapter=chapter: chapters[code] == chapter), abs=1e-12
        )


def test_a_category_counts_once_a_document():
    """Guards: two codes of one category counted as two hits, chapters out of order."""
    sets = [(frozenset({"E11.9", "E11.65", "I10"}), frozenset({"E11.22", "I10"}))]
    assert mapped(sets, "category") == [({"E11", "I10"}, {"E11", "I10"})] and mapped(sets, "chapter") == [
        ({"4", "9"}, {"4", "9"})
    ]
    table = tally(sets + [(frozenset({"Z99.9", "A99.9"}), frozenset({"E99.9"}))])
    found = per_chapter(table, table.counts())
    assert (
        list(found) == ["1", "4", "9", "21", "?"]
        and found["9"].tolist() == [1, 1, 1]
        and found["4"].tolist() == [0, 0, 0]
    )
    assert np.allclose(per_chapter(table, table.counts(np.array([0.0, 1.0])))["9"], 0)  # drawn without its document


def answer(id, output, codes=(), warnings=()):
    return CodedDocument(
        id, "", tuple(Assignment(code, "") for code in codes), output, None if warnings is None else tuple(warnings)
    )


def told(*answers, gold=None):
    gold = gold or documents([{"I10"}] * len(answers))
    return rates(gold, answers, code_sets(gold, answers))


def test_rates_are_shares_of_golds_documents():
    """Guards: lost documents left out of every rate, a heading called unlisted, a word counted among the codes."""
    found = told(
        answer("0", "Codes:\nI10 Hypertension", ["I10"]), answer("1", "Codes:\nnone"), gold=documents([{"I10"}] * 4)
    )
    assert found.pop("missing") == 0.5 and found.pop("empty") == 0.75
    assert found == dict.fromkeys(
        ("truncated", "sectionless", "with malformed lines", "unlisted codes", "codes not billable"), 0
    )
    found = told(answer("0", None, ["N18.3", "I10", "i10", "Z99.99", "pain"]))
    assert found["unlisted codes"] == pytest.approx(1 / 3) and found["codes not billable"] == pytest.approx(2 / 3)
    assert CodeBook.load().description("N18.3") and not CodeBook.load().is_billable("N18.3")


def test_rates_read_an_answer_as_generate_did():
    """Guards: every "+ Evid." answer called sectionless since its headings were given; a vitamin called a malformed or a good code."""
    given = answer("0", "I10 Essential (primary) hypertension [1]\nE11.9x what", ["I10"])
    bare = answer("0", "I10 Essential (primary) hypertension", ["I10"], ["the answer has no section headings"])
    foreign = answer("0", "I10 Essential (primary) hypertension", ["I10"], None)
    cut = answer(
        "0",
        "Evidence:\n1. HTN\nCodes:\nI10 x\nE11.",
        ["I10"],
        ["the answer stopped at its length limit; the last codes may be missing"],
    )
    assert [told(one)["sectionless"] for one in (given, bare, foreign, cut)] == [0, 1, 1, 0]
    assert [told(one)["truncated"] for one in (given, bare, foreign, cut)] == [0, 0, 0, 1]
    hurried = answer(
        "0",
        "Codes:\nI10",
        ["I10"],
        ["the answer was brought to its end by its length limit; evidence or codes may be missing"],
    )  # --grounded
    assert told(hurried)["truncated"] == 1
    malformed = answer("0", "Codes:\n250.00 Diabetes\nI10 Essential (primary) hypertension", ["I10"])
    assert told(malformed)["with malformed lines"] == 1 and told(cut)["with malformed lines"] == 0
    quoted = answer(
        "0",
        "Codes:\nI10",
        ["I10"],
        ["not found in note: the answer has no section headings, 1 of 2 chains stopped at their length limit"],
    )
    assert told(quoted)["sectionless"] == told(quoted)["truncated"] == 0


def test_chains_are_parts_of_their_document():
    """Guards: several chains read as one answer, whose first headings hide that a later chain has none."""
    chains = ["Because.\nCodes:\nI10 x", "I think I10.", "Codes:\n250.00 y", ""]
    output = "\n".join(f"--- chain {number} of 4\n{text}" for number, text in enumerate(chains, 1))
    found = told(answer("0", output, ["I10"], ["1 of 4 chains stopped at their length limit"]))
    assert found["sectionless"] == 0.5 and found["with malformed lines"] == 0.25 and found["truncated"] == 0.25
