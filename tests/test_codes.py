"""Code scores against scikit-learn on random documents, and edge cases by hand."""

import random

import pytest

from minscl.data.types import Assignment, CodedDocument
from minscl.errors import InputError
from minscl.score.codes import code_scores


def documents(sets):
    """One document per set of codes, with ids "0", "1", …"""
    return [
        CodedDocument(str(number), "", tuple(Assignment(code, "", ()) for code in codes))
        for number, codes in enumerate(sets)
    ]


@pytest.mark.slow
def test_scores_equal_scikit_learn():
    """Guards the label set of each metric. Tolerance 1e-12."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = random.Random(0)
    labels = [f"A{i:02d}" for i in range(12)]
    for _ in range(200):
        gold, predicted = ([set(rng.sample(labels, rng.randrange(0, 6))) for _ in range(8)] for _ in range(2))
        scores = code_scores(documents(gold), documents(predicted))
        for name, label_set, average in (
            ("micro", labels, "micro"),
            ("macro_union", sorted(set().union(*gold, *predicted)), "macro"),
            ("macro_gold", sorted(set().union(*gold)), "macro"),
            ("micro_gold_restricted", sorted(set().union(*gold)), "micro"),
        ):
            gold_matrix = [[int(code in codes) for code in label_set] for codes in gold]
            predicted_matrix = [[int(code in codes) for code in label_set] for codes in predicted]
            if not label_set:
                continue
            p, r, f, _ = metrics.precision_recall_fscore_support(
                gold_matrix, predicted_matrix, average=average, zero_division=0
            )
            assert abs(scores[name]["precision"] - p) < 1e-12 and abs(scores[name]["recall"] - r) < 1e-12
            assert abs(scores[name]["f1"] - f) < 1e-12


def test_scores_of_older_work_on_request():
    """Guards: labels that never occur left out of the fixed list; the average of F1 in place of the F1 of averages; an
    unlisted code dropped unasked. Against scikit-learn, 1e-12."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng, labels = random.Random(5), [f"A{i:02d}" for i in range(12)]
    fixed = [*labels[3:], "I10", "J18.9"]
    for _ in range(50):
        gold, predicted = ([set(rng.sample(labels, rng.randrange(1, 6))) for _ in range(6)] for _ in range(2))
        scores = code_scores(documents(gold), documents(predicted), fixed=fixed, f1_of_averages=True)
        actual, answers = ([[int(code in codes) for code in fixed] for codes in side] for side in (gold, predicted))
        expected = metrics.precision_recall_fscore_support(actual, answers, average="macro", zero_division=0)[:3]
        assert list(scores["macro_fixed"].values()) == pytest.approx(list(map(float, expected)), abs=1e-12)
        p, r = scores["macro_union"]["precision"], scores["macro_union"]["recall"]
        assert scores["macro_f1_of_averages"]["f1"] == pytest.approx(2 * p * r / (p + r) if p + r else 0)
    gold, predicted = documents([{"I10"}]), documents([{"I10", "A10"}])  # the Tabular List has no category A10
    assert code_scores(gold, predicted)["micro"]["precision"] == 0.5
    assert code_scores(gold, predicted, unlisted=False)["micro"]["precision"] == 1


def test_a_fixed_list_is_normalised():
    """Guards: e119 in the list as a label of its own, and a procedure code that makes the list longer."""
    gold = documents([{"E11.9"}])
    assert code_scores(gold, gold, fixed=["e119", "E11.9", "0BH17EZ"])["macro_fixed"]["f1"] == 1


def test_a_code_given_twice_counts_once():
    """Guards: a code predicted twice, in one spelling or two, scored as two TP or as a TP and an FP."""
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
    with pytest.raises(InputError, match="prediction for document 1,"):
        code_scores(documents([{"I10"}]), documents([{"I10"}, {"I10"}]))


def test_nothing_at_all_scores_zero():
    """Guards a division by zero."""
    assert code_scores(documents([set()]), documents([set()]))["micro"]["f1"] == 0.0
