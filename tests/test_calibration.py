"""Scores as frequencies: isotonic regression, the threshold, how reliability is measured, and calibration.json."""

import copy
import dataclasses
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minscl.evaluate
from minscl import export, generate
from minscl.config import DEMO, RunConfig
from minscl.data.calibration import (
    DECODINGS,
    FILE,
    Calibration,
    decoding_name,
    read_calibrations,
    write_calibration,
)
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.infer.answer import filter_by_score
from minscl.infer.coder import code_notes
from minscl.infer.linear import prepare_for_inference
from minscl.infer.report import about_document, text_table
from minscl.infer.systems import DIALOGUES, SYSTEMS
from minscl.pretrained import describe_weights, load_calibration
from minscl.score.calibration import best_min_score, fit, isotonic, reliability, scored_codes
from minscl.score.codes import code_scores
from minscl.score.plots import plot_reliability
from minscl.training.run_folder import check_out
from tests.conftest import call_command

CODES = ["I10", "E11.9", "J18.9", "N17.9", "I50.23", "Z99.9"]
HALF = Calibration(((0.0, 0.0), (1.0, 0.5)), 0.2, "dev.jsonl", 2, 9)
SHORT = "He presents with chest pain, fever and hypertension.\n"


def draw(number, seed=0):
    """(scores, right) of `number` codes: scores with ties, right more often where the score is high."""
    numbers = np.random.RandomState(seed)
    scores = (numbers.randint(0, 40, number) / 39).round(6)
    return scores, numbers.rand(number) < scores**2


def naive_isotonic(scores, right):
    """{score: value} by the min-max formula: at x, the highest over a <= x of the lowest over b >= x of the mean of
    `right` over the codes that score a to b (Barlow et al., 1972)."""
    values = sorted(set(scores))

    def mean(low, high):
        return right[(scores >= low) & (scores <= high)].mean()

    return {x: max(min(mean(a, b) for b in values if b >= x) for a in values if a <= x) for x in values}


@pytest.mark.parametrize("number", [1, 2, 7, 60, 400])
def test_isotonic_regression_is_the_min_max_formula(number):
    """Guards blocks pooled in the wrong order, ties that get two values, and a step at the wrong score."""
    for seed in range(3):
        scores, right = draw(number, seed)
        points = isotonic(scores, right)
        function = Calibration(tuple(points), 0.0, "", 1, 1)
        for score, value in naive_isotonic(scores, right).items():
            assert function(score) == pytest.approx(value, abs=1e-12)
        assert [score for score, _ in points] == sorted({score for score, _ in points})


@pytest.mark.long
def test_isotonic_regression_is_scikit_learns():
    """Guards another function between and outside the scores that it was fitted on."""
    library = pytest.importorskip("sklearn.isotonic", reason="the teacher extra is not installed")
    scores, right = draw(300)
    scores = (scores * 0.8 + 0.1).round(6)
    expected = library.IsotonicRegression(out_of_bounds="clip").fit(scores, right).predict(np.linspace(0, 1, 501))
    function = Calibration(tuple(isotonic(scores, right)), 0.0, "", 1, 1)
    assert [function(score) for score in np.linspace(0, 1, 501)] == pytest.approx(list(expected), abs=1e-9)


def documents(number=40, seed=1):
    """(gold, predictions with scores); some gold documents have no codes, some no prediction."""
    numbers = random.Random(seed)
    gold, predicted = [], []
    for index in range(number):
        codes = numbers.sample(CODES, numbers.randrange(5))
        gold.append(CodedDocument(str(index), "text", tuple(Assignment(code, "") for code in codes)))
        scores = {code: numbers.betavariate(3, 2) if code in codes else numbers.betavariate(2, 3) for code in CODES}
        items = tuple(Assignment(code.lower(), "", score=scores[code]) for code in numbers.sample(CODES, 4))
        if index % 9:
            predicted.append(CodedDocument(str(index), "text", items))
    return gold, predicted


def test_the_threshold_has_the_best_micro_f1():
    """Guards recall over the predicted documents only, a code at the threshold that is dropped, precision for F1: every
    threshold is tried as `generate` and `evaluate` would."""
    gold, predicted = documents()
    calibration = fit(gold, predicted, "dev")
    calibrated = [calibration.apply(document) for document in predicted]

    def micro_f1(threshold):
        return code_scores(gold, [filter_by_score(item, threshold) for item in calibrated])["micro"]["f1"]

    scores = {step / 100: micro_f1(step / 100) for step in range(101)}
    best = max(scores.values())
    assert calibration.min_score == min(threshold for threshold, f1 in scores.items() if f1 == pytest.approx(best))
    assert best > micro_f1(0) and (calibration.documents, calibration.codes) == (len(predicted), 4 * len(predicted))
    assert best_min_score(np.array([0.5]), np.array([False]), 0) == 0  # nothing to gain


def test_calibrated_scores_are_frequencies_where_they_were_fitted():
    """Guards a calibration that is not applied, or to other codes than it was fitted on."""
    gold, predicted = documents()
    calibration = fit(gold, predicted, "dev")
    before, after = (
        reliability(*scored_codes(gold, side))
        for side in (predicted, [calibration.apply(document) for document in predicted])
    )
    assert after.ece < 1e-4 < before.ece and after.brier < before.brier
    unscored = CodedDocument("0", "text", (Assignment("I10", ""),))
    assert calibration.apply(unscored) == unscored and reliability(*scored_codes(gold, [unscored])) is None


def test_reliability_by_hand():
    """Guards an unweighted mean over bins, bins of equal width, and an error that depends on the order of equal
    scores."""
    scores = np.array([0.1] * 10 + [0.9] * 10)
    right = np.array([True] * 3 + [False] * 7 + [True] * 8 + [False] * 2)
    item = reliability(scores, right)
    assert item.ece == pytest.approx((10 * 0.2 + 10 * 0.1) / 20)
    assert item.brier == pytest.approx((3 * 0.81 + 7 * 0.01 + 8 * 0.01 + 2 * 0.81) / 20)
    assert [part.codes for part in item.bins] == [2] * 10
    order = np.random.RandomState(0).permutation(20)
    assert reliability(scores[order], right[order]).ece == pytest.approx(item.ece)
    assert [part.codes for part in reliability(np.array([0.5, 0.2]), np.array([True, False])).bins] == [1, 1]


def test_a_code_predicted_twice_counts_once():
    """Guards one code as two: its other spelling, and procedures or words as false positives."""
    gold = [CodedDocument("1", "", (Assignment("E11.65", ""),))]
    codes = [Assignment("e1165", "", score=0.2), Assignment("E11.65", "", score=0.7), Assignment("I10", "", score=0.4)]
    codes += [Assignment("0BH17EZ", "", score=0.9), Assignment("kidney", "", score=0.9), Assignment("N17.9", "")]
    scores, right = scored_codes(gold, [CodedDocument("1", "", tuple(codes))])
    assert scores.tolist() == [0.7, 0.4] and right.tolist() == [True, False]


def test_the_file_is_read_as_written(tmp_path):
    """Guards an entry lost when the other is written, rounded points, and a damaged file written over."""
    free = dataclasses.replace(HALF, min_score=0.11)
    write_calibration(tmp_path, "grounded", HALF)
    write_calibration(tmp_path, "free", HALF)
    path = write_calibration(tmp_path, "free", free)
    assert read_calibrations(tmp_path) == {"grounded": HALF, "free": free} and str(HALF) != str(free)
    assert path.read_text().splitlines()[1] == ' "format": 1,' and read_calibrations(tmp_path / "none") == {}
    path.write_text("{}")
    with pytest.raises(InputError, match="format is missing"):
        write_calibration(tmp_path, "grounded", HALF)
    assert path.read_text() == "{}"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"points": [[0.1, 0.2], [0.1, 0.3]]}, "points is a list of 2"),
        ({"points": [[0.1, 0.2], [0.2, 0.1]]}, "both ascending"),
        ({"points": [[0.1, 1.2]]}, "points"),
        ({"points": [[0.1, True]]}, "points"),
        ({"points": [[0.1, 0.2, 0.3, 0.4]]}, "points"),
        ({"points": []}, "points"),
        ({"points": 3}, "points is 3"),
        ({"min_score": 1.5}, "min_score is 1.5"),
        ({"min_score": "0.2"}, 'min_score is "0.2"'),
        ({"documents": 0}, "documents is 0"),
        ({"fitted_on": None}, "fitted_on is null"),
    ],
)
def test_a_damaged_entry_is_one_line(change, words, tmp_path):
    """Guards a traceback, or scores out of an entry that makes no sense."""
    entry = dataclasses.asdict(HALF) | change
    (tmp_path / FILE).write_text(json.dumps({"format": 1, "free": entry}))
    with pytest.raises(
        InputError, match="^[^\n]*calibration.json: free: [^\n]*; write it again with evaluate"
    ) as error:
        read_calibrations(tmp_path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    "content, words",
    [
        ({"grouned": {}}, "unknown key grouned; the keys are format, grounded, free, "),
        ({"free": dataclasses.asdict(HALF) | {"pasage": 64}}, "free: unknown key pasage; the keys are points, "),
    ],
)
def test_a_misspelt_key_is_one_line(content, words, tmp_path):
    """Guards scores that stay uncalibrated, or passages of another length, because a name is not recognised."""
    (tmp_path / FILE).write_text(json.dumps({"format": 1} | content))
    with pytest.raises(InputError, match="^[^\n]*calibration.json: [^\n]*; write it again with evaluate") as error:
        read_calibrations(tmp_path)
    assert words in str(error.value)


def test_every_system_with_scores_has_a_key():
    """Guards a system whose calibration is written and then refused."""
    names = [decoding_name(system, grounded) for system in (*SYSTEMS, *DIALOGUES) for grounded in (True, False)]
    assert set(names) == set(DECODINGS)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    """The embedded model's adapter with a calibration that halves the scores of grounded decoding."""
    folder = tmp_path_factory.mktemp("calibrated") / "adapter"
    shutil.copytree(DEMO / "adapter", folder)
    (folder / FILE).unlink(missing_ok=True)
    write_calibration(folder, "grounded", HALF)
    return folder


@pytest.fixture(scope="module")
def note(tmp_path_factory):
    """A file with a short note."""
    path = tmp_path_factory.mktemp("notes") / "short.txt"
    path.write_text(SHORT)
    return path


def scores_of(run):
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    return {code["code"]: code["score"] for code in document["codes"]}, document


def test_generate_calibrates_and_leaves_out(adapter, note, generate, embedded):
    """Guards a threshold on raw scores, flags without effect, scores of --free by grounded decoding's calibration, and
    documents that do not say what their scores are."""

    def run(*flags):
        return scores_of(generate(note, "--json", "--adapter", adapter, *flags))

    raw, plain = run("--no-calibration")
    assert plain["coded_with"]["calibration"] == "none" and plain["coded_with"]["min_score"] == "0.0"
    everything, document = run("--min-score", 0)
    assert everything == pytest.approx({code: score / 2 for code, score in raw.items()}, abs=1e-6)
    assert document["output"] == plain["output"] and document["coded_with"]["calibration"] == str(HALF)
    default, document = run()
    assert default == {code: score for code, score in everything.items() if score >= 0.2}
    assert document["coded_with"]["min_score"] == "0.2" and document["coded_with"]["grounded"] == "True"
    threshold = (min(raw.values()) + max(raw.values())) / 4
    some, document = run("--min-score", threshold)
    assert 0 < len(some) < len(raw) and f"left out, score below {threshold:g}" in document["warnings"][0]
    assert run("--grounded") == run()
    free, document = run("--free")
    assert document["coded_with"]["calibration"] == "none" and document["coded_with"]["grounded"] == "False"
    settings = {"grounded": True, "calibration": load_calibration(DEMO, str(adapter))}
    model, tokenizer = copy.deepcopy(embedded[0]), embedded[1]
    prepare_for_inference(model)  # as the command does; otherwise products are rounded in another order
    [in_python] = code_notes(model, tokenizer, [Note("note", SHORT)], **settings)
    assert {code.code: code.score for code in in_python.codes} == pytest.approx(default, abs=1e-6)
    assert load_calibration(DEMO, str(adapter), grounded=False) is load_calibration(DEMO, "none", system="sft") is None


def test_human_evidence_is_not_calibrated(adapter, note, tmp_path, generate):
    """Guards codes of a human's evidence dropped by a threshold that was chosen for the model's own."""
    (tmp_path / "evidence.txt").write_text("pneumonia\n")
    run = generate(note, "--json", "--adapter", adapter, "--evidence", tmp_path / "evidence.txt")
    assert scores_of(run)[1]["coded_with"]["calibration"] == "none"


def test_a_run_with_another_calibration_is_not_resumed(adapter, note, tmp_path, generate):
    """Guards a file whose scores mean two things."""
    out = tmp_path / "out.jsonl"
    assert generate(note, "--adapter", adapter, "--out", out).returncode == 0
    again = generate(note, "--adapter", adapter, "--out", out, "--no-calibration", "--min-score", 0.2)
    assert again.returncode == 2 and f"was coded with calibration {HALF}, now none" in again.stderr


def test_the_table_and_the_page_say_what_a_score_is():
    """Guards (0.82) without a legend, and raw scores shown as calibrated ones."""
    document = CodedDocument("n", "HTN", (Assignment("I10", "", (Evidence("HTN", 0, 3, True),), 0.82),))
    for calibration, words in (("none", "the model's own, not calibrated"), (str(HALF), "right on dev.jsonl (2 docu")):
        made = dataclasses.replace(document, coded_with={"calibration": calibration})
        assert words in text_table(made) and words in about_document(made)
        assert calibration == "none" or calibration.split()[-1] not in text_table(made)  # the digest is no reader's
    for silent in (document, CodedDocument("n", "HTN", (), coded_with={"calibration": "none"})):
        assert "score" not in text_table(silent) and "score" not in about_document(silent)


def test_a_damaged_file_stops_generate_and_export(tmp_path, note, generate):
    """Guards raw scores in place of calibrated ones, silently, and a damaged file that is copied."""
    shutil.copytree(DEMO / "adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / FILE).write_text('{"format": 2}')
    runs = [generate(note, "--adapter", tmp_path / "adapter")]
    runs.append(call_command(export.main, "--adapter", tmp_path / "adapter", "--out", tmp_path / "out"))
    for run in runs:
        [line] = run.stderr.splitlines()
        assert run.returncode == 2 and "calibration.json: format is 2, but must be 1; write it again" in line
    assert not (tmp_path / "out").exists()


def test_export_copies_it(adapter, tmp_path):
    """Guards a merged model without the threshold of its adapter."""
    run = call_command(export.main, "--adapter", adapter, "--out", tmp_path / "merged")
    assert run.returncode == 0 and load_calibration(tmp_path / "merged") == HALF


def test_training_starts_in_a_folder_without_one(adapter, tmp_path):
    """Guards an earlier adapter's calibration beside new weights."""
    shutil.copy(adapter / FILE, tmp_path)
    with pytest.raises(InputError, match="already has calibration.json; name another folder"):
        check_out(RunConfig(out=str(tmp_path)))


@pytest.fixture
def coded(tmp_path):
    """(gold.jsonl, a function that writes predictions with changed settings and calls `evaluate --calibrate`)."""
    gold, predicted = documents()
    weights = describe_weights(str(DEMO))
    made = weights | {"system": "scl", "grounded": "True", "min_score": "0.0", "calibration": "none"}
    write_jsonl(tmp_path / "gold.jsonl", gold)
    shutil.copytree(DEMO / "adapter", tmp_path / "adapter")
    (tmp_path / "adapter" / FILE).unlink(missing_ok=True)

    def calibrate(changes=None, *arguments, folder="adapter"):
        settings = {name: value for name, value in (made | (changes or {})).items() if value is not None}
        write_jsonl(tmp_path / "a.jsonl", [dataclasses.replace(item, coded_with=settings) for item in predicted])
        flags = ["--gold", "gold.jsonl", "--pred", "a.jsonl", "--rounds", 0, "--calibrate", folder, *arguments]
        return call_command(minscl.evaluate.main, *flags, cwd=tmp_path)

    return gold, predicted, calibrate, tmp_path / "adapter"


def test_evaluate_fits_and_writes_it(coded):
    """Guards an entry under another decoding's name, and scores of evaluate that are not those of the file."""
    gold, predicted, calibrate, folder = coded
    for changes, decoding in (({}, "grounded"), ({"grounded": "False"}, "free"), ({"system": "cot-sc"}, "cot-sc")):
        run = calibrate(changes, "--json")
        assert run.returncode == 0 and f"adapter/calibration.json: {decoding}, fitted on 140 codes of 35" in run.stderr
    assert read_calibrations(folder) == dict.fromkeys(
        ("grounded", "free", "cot-sc"), fit(gold, predicted, "gold.jsonl")
    )
    expected = reliability(*scored_codes(gold, predicted)).to_dict()
    assert json.loads(run.stdout)["reliability"] == expected
    table = calibrate().stdout
    assert f"{expected['ece']:.3f}" in table.partition("expected calibration error")[2].splitlines()[0]


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"calibration": str(HALF)},
            "has scores that are calibrated already; code the notes again with generate",
        ),
        ({"min_score": "0.25"}, "was coded with --min-score"),
        ({"evidence": "1234"}, "was coded from human evidence"),
        ({"system": None}, "does not say what it was coded with"),
        ({"adapter": "adapter 0123456789abcdef"}, "was made by adapter adapter 0123456789abcdef; name its folder"),
        ({"adapter": "none"}, "--calibrate adapter: a.jsonl was made by model demo "),
    ],
)
def test_predictions_that_cannot_be_calibrated_are_refused(changes, words, coded):
    """Guards scores calibrated twice, a threshold fitted on what a threshold left, a calibration beside other
    weights."""
    _, _, calibrate, folder = coded
    run = calibrate(changes)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1 and not run.stdout
    assert not (folder / FILE).exists()


def test_what_calibrate_refuses_else(coded):
    """Guards a traceback or a file's name for a folder of no model, two prediction files that share one calibration."""
    _, _, calibrate, folder = coded
    for run, words in (
        (calibrate({}, folder="."), "a.jsonl was made by adapter adapter "),
        (
            calibrate({}, folder="nowhere"),
            "--calibrate nowhere: no such folder; name that of the adapter",
        ),
        (calibrate({}, "--pred", "gold.jsonl"), "leave out the others"),
    ):
        assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1, run.stderr


@pytest.mark.long
@pytest.mark.slow
def test_the_whole_way_as_a_user_goes_it(tmp_path):
    """Guards predictions that the next command refuses."""
    shutil.copytree(DEMO / "adapter", tmp_path / "adapter")
    gold = [CodedDocument("a", SHORT, (Assignment("J18.9", ""),)), CodedDocument("b", "HTN, DM2.", ())]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    write_jsonl(tmp_path / "notes.jsonl", [Note(document.id, document.text) for document in gold])
    flags = ["--adapter", tmp_path / "adapter", "--no-calibration", "--out", tmp_path / "pred.jsonl"]
    made = call_command(generate.main, tmp_path / "notes.jsonl", *flags)
    assert made.returncode == 0, made.stderr
    command = [sys.executable, "-m", "minscl.evaluate", "--gold", "gold.jsonl", "--pred", "pred.jsonl", "--rounds", "0"]
    run = subprocess.run([*command, "--calibrate", "adapter"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0 and "written to adapter/calibration.json: grounded" in run.stderr, run.stderr
    assert read_calibrations(tmp_path / "adapter")["grounded"].documents == 2


def test_the_reliability_diagram(tmp_path):
    """Guards a picture without its systems. matplotlib writes the words of an svg as comments too."""
    pytest.importorskip("matplotlib")
    raw = reliability(*draw(200)).to_dict()
    plot_reliability({"raw": raw}, str(tmp_path / "a.svg"))
    picture = Path(tmp_path / "a.svg").read_text()
    label = f"raw: ECE {raw['ece']:.3f}, Brier score {raw['brier']:.3f}, 200 codes"
    assert all(f"<!-- {words} -->" in picture for words in (label, "mean score", "share of codes that are right"))
