"""Code scores against scikit-learn on random documents, and the edge cases by hand."""

import random

import pytest

from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError
from minscl.score.codes import code_scores


def documents(sets):
    return [
        CodedDocument(str(i), "", tuple(Assignment(code, "", ()) for code in codes)) for i, codes in enumerate(sets)
    ]


def test_scores_equal_scikit_learn():
    """Guards the label sets: micro over all codes, macro over the union and over gold's codes. Tolerance 1e-12."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(0)
    labels = [f"A{i:02d}" for i in range(12)]
    for _ in range(200):
        gold, found = ([set(rng.sample(labels, rng.randrange(0, 6))) for _ in range(8)] for _ in range(2))
        scores = code_scores(documents(gold), documents(found))
        for name, kept, average in (
            ("micro", labels, "micro"),
            ("macro_union", sorted(set().union(*gold, *found)), "macro"),
            ("macro_gold", sorted(set().union(*gold)), "macro"),
            ("micro_gold_restricted", sorted(set().union(*gold)), "micro"),
        ):
            actual = [[int(code in one) for code in kept] for one in gold]
            answer = [[int(code in one) for code in kept] for one in found]
            if not kept:
                continue
            p, r, f, _ = metrics.precision_recall_fscore_support(actual, answer, average=average, zero_division=0)
            assert abs(scores[name]["precision"] - p) < 1e-12 and abs(scores[name]["recall"] - r) < 1e-12
            assert abs(scores[name]["f1"] - f) < 1e-12


def test_scores_of_older_work_on_request():
    """Guards: labels that never occur left out of the fixed list, an F1 averaged where the averages' F1 was asked for. Against scikit-learn, 1e-12."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng, labels = random.Random(5), [f"A{i:02d}" for i in range(12)]
    fixed = labels[3:] + ["I10", "J18.9"]
    for _ in range(50):
        gold, found = ([set(rng.sample(labels, rng.randrange(1, 6))) for _ in range(6)] for _ in range(2))
        scores = code_scores(documents(gold), documents(found), fixed=fixed, f1_of_averages=True)
        actual, answer = ([[int(code in one) for code in fixed] for one in side] for side in (gold, found))
        expected = metrics.precision_recall_fscore_support(actual, answer, average="macro", zero_division=0)[:3]
        assert list(scores["macro_fixed"].values()) == pytest.approx(list(map(float, expected)), abs=1e-12)
        p, r = scores["macro_union"]["precision"], scores["macro_union"]["recall"]
        assert scores["macro_f1_of_averages"]["f1"] == pytest.approx(2 * p * r / (p + r) if p + r else 0)
    kept = code_scores(documents([{"I10"}]), documents([{"I10", "A10"}]))  # A10 is no category
    assert (
        kept["micro"]["precision"] == 0.5
        and code_scores(documents([{"I10"}]), documents([{"I10", "A10"}]), unlisted=False)["micro"]["precision"] == 1
    )


def test_a_fixed_list_is_normalised():
    """Guards: e119 in the list as a label of its own, and a procedure code that makes the list longer."""
    gold = documents([{"E11.9"}])
    assert code_scores(gold, gold, fixed=["e119", "E11.9", "0BH17EZ"])["macro_fixed"]["f1"] == 1


def test_a_code_given_twice_counts_once():
    """Guards: a prediction that repeats a code, in one spelling or two, as two hits or as a hit and a mistake."""
    twice = [
        CodedDocument(
            "0",
            "",
            tuple(Assignment(code, "", ()) for code in ("I10", "i10", "I10", "J18.9", "J189", "0BH17EZ", "pain")),
        )
    ]
    assert code_scores(documents([{"I10"}]), twice)["micro"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
    }


def test_missing_prediction_counts_as_empty():
    """Guards a lost document raising the score."""
    gold = documents([{"I10"}, {"E11.9"}])
    assert code_scores(gold, gold[:1])["micro"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3}


def test_prediction_of_an_unknown_document_is_an_error():
    """Guards scoring against the wrong gold file."""
    with pytest.raises(InputError, match="'1'"):
        code_scores(documents([{"I10"}]), documents([{"I10"}, {"I10"}]))


def test_nothing_at_all_scores_zero():
    """Guards a division by zero."""
    assert code_scores(documents([set()]), documents([set()]))["micro"]["f1"] == 0.0
