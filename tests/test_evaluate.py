"""`python -m minscl.evaluate` as a user runs it, and its bootstrap against resampled documents scored from scratch."""

import dataclasses
import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest

import minscl.evaluate
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Pair
from minscl.score.bootstrap import bootstrap, bootstrap_rows
from minscl.score.codes import code_scores
from minscl.score.evidence import evidence_scores
from minscl.score.plots import plot
from minscl.score.report import system_names
from minscl.score.systems import CODES, EVIDENCE, Metric, count_system
from tests.conftest import call_command

ICD_CODES = ["I10", "E11.65", "E11.9", "N17.9", "J18.9", "I50.23", "Z99.9", "N18.3"]
MICRO = Metric(CODES, "micro")
WORDS = ["heart failure", "DM2", "HTN", "pneumonia", "AKI"]


def document(number, rng, output=None):
    text = "Pt with heart failure, DM2, HTN, pneumonia and AKI."
    codes = []
    for code in rng.sample(ICD_CODES, rng.randrange(5)):
        word = rng.choice(WORDS)
        codes.append(Assignment(code, "", (Evidence(word, text.index(word), text.index(word) + len(word)),)))
    return CodedDocument(str(number), text, tuple(codes), output=output)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("scores"), random.Random(2)
    write_jsonl(folder / "gold.jsonl", [document(number, rng) for number in range(30)])
    write_jsonl(folder / "a.jsonl", [document(number, rng, "Evidence:\nnone\nCodes:\nnone") for number in range(30)])
    write_jsonl(folder / "b.jsonl", [document(number, rng) for number in range(29)])
    write_jsonl(folder / "train.jsonl", [CodedDocument("t", "", (Assignment("I10", ""), Assignment("E11.65", "")))])
    write_jsonl(
        folder / "spans.jsonl",
        [Pair("aki", "N17.9", "gold"), Pair("kidney injury", "N17.9", "silver"), Pair("lung", "J18.9", "synthetic")],
    )
    return folder


def evaluate(*arguments, cwd):
    """The command, called in this process."""
    return call_command(minscl.evaluate.main, *arguments, cwd=cwd)


def read(path):
    return [CodedDocument.from_dict(json.loads(line)) for line in path.read_text().splitlines()]


def test_json_has_the_documented_names(files):
    """Guards the JSON that other programs read, and groups that are not those of the files."""
    done = evaluate(
        "--gold",
        "gold.jsonl",
        "--pred",
        "a.jsonl",
        "--train",
        "train.jsonl",
        "--spans",
        "spans.jsonl",
        "--json",
        "--rounds",
        20,
        cwd=files,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    gold, predicted = read(files / "gold.jsonl"), read(files / "a.jsonl")
    for name, columns in code_scores(gold, predicted).items():
        assert result["codes"][name] == pytest.approx(columns) and set(columns) == {"precision", "recall", "f1"}
    for name, columns in evidence_scores(gold, predicted).items():
        assert result["evidence"][name] == pytest.approx(columns)
    groups = result["groups"]
    assert groups["seen"]["share"] + groups["unseen"]["share"] == pytest.approx(1)
    assert groups["seen"]["share"] == 2 / len({c.code for d in gold for c in d.codes})
    shares = [groups[f"unseen, {view}"]["share"] for view in ("any gold", "any silver", "first gold")]
    assert len(set(shares)) == 1 and "unseen, first silver" not in groups
    for key, value in (
        ("micro", result["codes"]["micro"]["f1"]),
        ("macro_gold precision", result["codes"]["macro_gold"]["precision"]),
        ("span_exact_match recall", result["evidence"]["span_exact_match"]["recall"]),
        ("per_chapter 4", result["per_chapter"]["4"]["f1"]),
        ("unseen micro recall", groups["unseen"]["micro"]["recall"]),
    ):
        low, high = result["intervals"][key]
        assert low <= value <= high and low < high, key
    assert result["rates"]["sectionless"] == 0 and result["rates"]["empty"] > 0


def test_table_of_two_systems(files):
    """Guards one column per system, and a document without prediction."""
    done = evaluate(
        "--gold",
        "gold.jsonl",
        "--pred",
        "a.jsonl",
        "--pred",
        "b.jsonl",
        "--rounds",
        50,
        "--plot",
        "scores.png",
        cwd=files,
    )
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert (
        head.split()[-2:] == ["a", "b"]
        and any(row.startswith("macro_union") for row in rows)
        and any(row.startswith("overlap_agnostic_one_to_one") for row in rows)
    )
    assert (files / "scores.png").read_bytes().startswith(b"\x89PNG")
    [missing] = [row for row in rows if row.startswith("missing, %")]
    assert missing.split()[-2:] == ["0.0", "3.3"]


def test_a_star_is_a_paired_difference(files, tmp_path):
    """Guards: a star for equal systems, none for one that is worse on every document, an unpaired interval."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda document: document.id)
    worse = [
        CodedDocument(document.id, document.text, document.codes[:-1] + (Assignment("A00.0", ""),)) for document in gold
    ]
    for name, documents in (("gold", gold), ("same", gold), ("worse", worse)):
        write_jsonl(tmp_path / f"{name}.jsonl", documents)
    arguments = [part for name in ("gold", "same", "worse") for part in ("--pred", f"{name}.jsonl")] + [
        "--gold",
        "gold.jsonl",
        "--rounds",
        30,
    ]
    done = evaluate(*arguments, "--codes-only", "same.jsonl", cwd=tmp_path)
    [row] = [line for line in done.stdout.splitlines() if line.startswith("micro ")]
    assert row.count("*") == 1 and row.endswith("*") and "* differs from gold" in done.stderr
    [row] = [line for line in done.stdout.splitlines() if line.startswith("span_exact_match ")]
    assert row.split("]")[1].split()[0] == "-"  # made from gold's evidence
    first, same, last = json.loads(evaluate(*arguments, "--json", cwd=tmp_path).stdout)
    assert "difference" not in first and same["difference"]["micro"] == [0, 0] and last["difference"]["micro"][1] < 0
    systems = [count_system(gold, predicted, {}) for predicted in (gold, worse)]
    samples = bootstrap(systems, bootstrap_rows(len(gold), 30, 0))
    difference = np.percentile(samples[1][MICRO][:, 2] - samples[0][MICRO][:, 2], (2.5, 97.5))
    assert last["difference"]["micro"] == pytest.approx(difference)


def test_flags_that_change_a_score(tmp_path):
    """Guards: a flag that does not reach its score. One call with all of them, against the functions."""
    text = "HTN, acute systolic heart failure."
    parts = (Evidence("acute systolic", 5, 19), Evidence("heart failure.", 20, 34))
    gold = [CodedDocument("1", text, (Assignment("I50.21", "", parts), Assignment("I10", "")))]
    predicted = [
        CodedDocument(
            "1",
            text,
            (Assignment("i5021", "", (Evidence("acute systolic heart failure", 5, 33),)), Assignment("E11.659", "")),
        )
    ]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    write_jsonl(tmp_path / "a.jsonl", predicted)
    (tmp_path / "codes.txt").write_text("i5021\nJ18.9\n\n0BH17EZ\n")
    flags = ("--merge", "--trim", "--unlisted", "drop", "--fixed", "codes.txt", "--f1-of-averages")
    arguments = ("--gold", "gold.jsonl", "--pred", "a.jsonl", "--json", "--rounds", 2)
    result = json.loads(evaluate(*arguments, *flags, cwd=tmp_path).stdout)
    assert result["evidence"]["span_exact_match"]["f1"] == pytest.approx(1, abs=1e-5)
    assert result["codes"]["micro"]["precision"] == 1
    assert result["codes"] == code_scores(
        gold, predicted, fixed=["I50.21", "J18.9"], unlisted=False, f1_of_averages=True
    )
    assert result["codes"]["macro_fixed"]["f1"] == 0.5
    assert "macro_f1_of_averages" in result["intervals"] and result["rates"]["unlisted codes"] == 0.5
    plain = json.loads(evaluate(*arguments, cwd=tmp_path).stdout)
    assert plain["evidence"]["span_exact_match"]["f1"] == 0 and plain["codes"]["micro"]["precision"] == 0.5
    assert not {"macro_fixed", "macro_f1_of_averages"} & plain["codes"].keys()


@pytest.mark.long
def test_the_module_prints_what_main_prints(files):
    """Guards the command itself, since the other tests call its main."""
    arguments = ("--gold", "gold.jsonl", "--pred", "a.jsonl", "--json", "--rounds", "2")
    command = [sys.executable, "-m", "minscl.evaluate", *arguments]
    run = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=120)
    done = evaluate(*arguments, cwd=files)
    assert run.returncode == done.returncode == 0 and run.stdout == done.stdout, run.stderr


def test_system_names_are_distinct():
    """Guards: two files with the same stem as one column."""
    assert system_names(["a.jsonl", "x/b.jsonl", "y/b.jsonl"]) == ["a", "x/b", "y/b"]
    assert system_names(["b.jsonl", "b.jsonl", "b.json"]) == ["b (1)", "b (2)", "b (3)"]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--seed", "-1"], "--seed -1"),
        (["--rounds", "-1"], "--rounds -1"),
        (["--spans", "spans.jsonl"], "needs --train"),
        (["--train", "empty.jsonl"], "--train empty.jsonl: contains no document"),
        (["--train", "train.jsonl", "--spans", "empty.jsonl"], "--spans empty.jsonl: contains no span pair"),
        (["--pred", "empty.jsonl"], "--pred empty.jsonl: contains no document"),
        (["--fixed", "words.txt"], "minscl: --fixed words.txt: line 2 is no code"),
        (["--codes-only", "b.jsonl"], "not one of the --pred files"),
        (["--plot", "x.doc"], "--plot x.doc: name a .png, .svg or .pdf file"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(files, flags, words):
    """Guards tracebacks, a picture refused after the bootstrap, an empty prediction file scored as 0."""
    (files / "empty.jsonl").write_text("")
    (files / "words.txt").write_text("I10\npain\n")
    done = evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--rounds", 0, *flags, cwd=files)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""


def test_a_plot_names_its_systems(tmp_path):
    """Guards a missing legend where there are no groups. matplotlib writes the words of an svg as comments too."""
    first = {"system": "first", "per_chapter": {"9": {"f1": 0.5}, "?": {"f1": 0}}}
    plot([first, {"system": "second", "per_chapter": {"10": {"f1": 1}}}], str(tmp_path / "a.svg"))
    picture = (tmp_path / "a.svg").read_text()
    assert all(f"<!-- {word} -->" in picture for word in ("first", "second", "9", "10", "?"))


def test_the_bootstrap_is_resampling_documents(files):
    """Guards the weights: documents are drawn, given new ids and scored from scratch, round by round. 1e-9."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda document: document.id)
    predictions = [read(files / name) for name in ("a.jsonl", "b.jsonl")]
    systems = [count_system(gold, predicted, {}) for predicted in predictions]
    samples_by_system = bootstrap(systems, bootstrap_rows(len(gold), 8, seed=3))
    for samples, predicted in zip(samples_by_system, predictions, strict=True):
        prediction_of = {document.id: document for document in predicted}
        for number, rows in enumerate(bootstrap_rows(len(gold), 8, 3)):

            def with_id(document, id):
                return CodedDocument(str(id), document.text, document.codes)

            drawn_gold = [with_id(gold[row], id) for id, row in enumerate(rows)]
            drawn_predicted = [
                with_id(prediction_of[gold[row].id], id) for id, row in enumerate(rows) if gold[row].id in prediction_of
            ]
            for scope, scores in (
                (CODES, code_scores(drawn_gold, drawn_predicted)),
                (EVIDENCE, evidence_scores(drawn_gold, drawn_predicted)),
            ):
                for name, columns in scores.items():
                    expected = [columns["precision"], columns["recall"], columns["f1"]]
                    assert samples[Metric(scope, name)][number] == pytest.approx(expected, abs=1e-9), name


def test_intervals_are_percentiles_with_linear_interpolation(files):
    """Guards another definition of the percentile."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda document: document.id)
    [samples] = bootstrap([count_system(gold, read(files / "a.jsonl"), {})], bootstrap_rows(len(gold), 40, seed=0))
    done = json.loads(evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--json", "--rounds", 40, cwd=files).stdout)
    ordered = np.sort(samples[MICRO][:, 2])
    rank = 0.025 * 39
    assert done["intervals"]["micro"][0] == pytest.approx(ordered[0] + (ordered[1] - ordered[0]) * rank)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda record: record.update(extra=1), ["bad.jsonl:3", "unknown key 'extra'"]),
        (lambda record: record.update(id="1"), ["bad.jsonl:3", "the id is also line 2's"]),
        (lambda record: record.update(id="99"), ["bad.jsonl", "document 99", "gold does not have"]),
        (
            lambda record: record.update(
                codes=[{"code": "I10", "description": "", "evidence": [{"text": "HTN", "start": 0, "end": 3}]}]
            ),
            ["bad.jsonl:3", "text at 0:3"],
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(files, change, words):
    """Guards scores of a file that is not what it should be."""
    records = [json.loads(line) for line in (files / "a.jsonl").read_text().splitlines()]
    change(records[2])
    (files / "bad.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    done = evaluate("--gold", "gold.jsonl", "--pred", "bad.jsonl", cwd=files)
    assert (
        done.returncode == 2
        and len(done.stderr.strip().splitlines()) == 1
        and all(word in done.stderr for word in words)
    ), done.stderr


def test_a_batch_of_which_some_notes_are_gold_is_scored_on_those(files):
    """Guards: the predictions for a batch could not be scored against the part of it that was reviewed."""
    lines = (files / "gold.jsonl").read_text().splitlines(keepends=True)
    machine = (files / "a.jsonl").read_text().splitlines(keepends=True)
    (files / "some.jsonl").write_text("".join(lines[:20]))
    (files / "machine.jsonl").write_text("".join(machine[:20]))
    of_batch, of_part = (
        evaluate("--gold", "some.jsonl", "--pred", path, "--rounds", 0, "--json", "--gold-notes-only", cwd=files)
        for path in ("a.jsonl", "machine.jsonl")
    )
    assert of_batch.returncode == 0 and "10 of 30 predictions are left out" in of_batch.stderr, of_batch.stderr
    batch, part = (json.loads(done.stdout) | {"system": ""} for done in (of_batch, of_part))
    assert batch == part and "left out" not in of_part.stderr
    refused = evaluate("--gold", "some.jsonl", "--pred", "a.jsonl", cwd=files)
    assert refused.returncode == 2 and "--gold-notes-only" in refused.stderr
    (files / "other.jsonl").write_text("".join(machine[20:]))
    none_left = evaluate("--gold", "some.jsonl", "--pred", "other.jsonl", "--gold-notes-only", cwd=files)
    assert none_left.returncode == 2 and "no prediction for a note of gold" in none_left.stderr


def chart(folder, *, spoil=None):
    """Write a chart in MDACE's layout, with the text of its notes; gives the same as a coded document."""
    notes = [
        {
            "note_id": 12,
            "category": "Radiology",
            "description": "x",
            "text": "CT: pneumonia.\r\n",
            "annotations": [(4, 13, "J18.9")],
        },
        {
            "note_id": 5,
            "category": "Discharge summary",
            "description": "y",
            "text": "DM2, HTN.",
            "annotations": [(0, 3, "E11.9"), (5, 8, "I10")],
        },
    ]
    for note in notes:
        note["annotations"] = [
            {
                "begin": a,
                "end": b,
                "code": code,
                "code_system": "ICD-10-CM",
                "description": "",
                "type": "Human",
                "covered_text": note["text"][a:b],
            }
            for a, b, code in note["annotations"]
        ]
    notes[0]["annotations"].append(
        {"begin": 0, "end": 2, "code": "0BJ08ZZ", "code_system": "ICD-10-PCS", "description": "", "type": "Human"}
    )
    if spoil:
        spoil(notes)
    folder.mkdir(parents=True)
    (folder / "77-ICD-10.json").write_text(json.dumps({"hadm_id": 77, "comment": "", "notes": notes}))
    text = "DM2, HTN.\n\nCT: pneumonia.\r\n"
    places = {"E11.9": (0, 3), "I10": (5, 8), "J18.9": (15, 24)}
    return CodedDocument(
        "77", text, tuple(Assignment(code, "", (Evidence(text[a:b], a, b),)) for code, (a, b) in places.items())
    )


def test_mdaces_json_is_gold_and_prediction(tmp_path):
    """Guards: offsets of the second note not shifted, a PCS code counted as an FN, notes in the order of the file."""
    same = chart(tmp_path / "gold")
    write_jsonl(tmp_path / "pred.jsonl", [same])
    for gold, predicted in (("gold", "pred.jsonl"), ("pred.jsonl", "gold"), ("gold", "gold/77-ICD-10.json")):
        done = evaluate("--gold", gold, "--pred", predicted, "--json", "--rounds", 0, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["codes"]["micro"]["f1"] == 1
        assert result["evidence"]["span_exact_match"]["f1"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda notes: notes[0].pop("text"), "note 12 has no text"),
        (lambda notes: notes[1]["annotations"][0].update(end=99), "the text is not the annotated one"),
        (
            lambda notes: notes[1]["annotations"][0].update(covered_text="DM1"),
            "note 5, code E11.9: begin, end and covered_text do",
        ),
        (lambda notes: notes[0].pop("annotations"), "note 12: annotations is missing, not a list of objects"),
    ],
)
def test_charts_that_do_not_fit_their_text_are_refused(tmp_path, spoil, words):
    """Guards: scores of evidence with offsets into another text."""
    write_jsonl(tmp_path / "pred.jsonl", [chart(tmp_path / "gold", spoil=spoil)])
    done = evaluate("--gold", "gold", "--pred", "pred.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_prediction_for_another_text_is_refused(files, tmp_path):
    """Guards: offsets into one version of a note scored against offsets into another."""
    changed = [CodedDocument(document.id, document.text + " ", document.codes) for document in read(files / "a.jsonl")]
    write_jsonl(tmp_path / "moved.jsonl", changed)
    done = evaluate("--gold", files / "gold.jsonl", "--pred", "moved.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "another text than gold's" in done.stderr


def test_documents_free_of_what_the_list_forbids(tmp_path):
    """Guards: counts of one side shown for the other; codes judged by another edition than the one asked for."""
    codes = {
        "gold": [["I10"], ["E11.9"], ["G20.A1", "F02.80"], ["I42.0"]],
        "pred": [["E10.9", "E11.9"], ["F02.80"], ["D69.1"], ["0SR9019", "I42.00"]],
    }
    for name, documents in codes.items():
        records = [
            CodedDocument(str(number), "", tuple(Assignment(code, "") for code in document))
            for number, document in enumerate(documents)
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", records)
    arguments = ["--gold", "gold.jsonl", "--pred", "pred.jsonl", "--rounds", 0]
    rules = json.loads(evaluate(*arguments, "--json", cwd=tmp_path).stdout)["rules"]
    assert list(rules["gold"].values()) == [4, 4, 4, 3] and list(rules["predicted"].values()) == [4, 3, 3, 3]
    before = json.loads(evaluate(*arguments, "--json", "--date", "2026-09-30", cwd=tmp_path).stdout)["rules"]
    assert before["gold"]["free of invalid codes"] == 4 and before["predicted"]["free of invalid codes"] == 3
    assert "judged by ICD-10-CM edition 2026" in evaluate(*arguments, "--date", "2026-09-30", cwd=tmp_path).stdout
    table = evaluate(*arguments, cwd=tmp_path).stdout
    assert re.search(r"free of Excludes1 conflicts, documents +3/4 \(gold 4/4\)", table)


def test_predictions_of_another_edition_are_named(tmp_path):
    """Guards: codes that were valid on their day counted as invalid, without a word."""
    gold = [CodedDocument(str(number), "", ()) for number in range(3)]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    editions = zip(gold, ("2026", "2027", None), strict=True)
    write_jsonl(tmp_path / "pred.jsonl", [dataclasses.replace(item, edition=edition) for item, edition in editions])
    done = evaluate("--gold", "gold.jsonl", "--pred", "pred.jsonl", "--rounds", 0, "--json", cwd=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["edition"] == "2027"
    assert "pred.jsonl: 1 of 3 documents were coded with edition 2026 and are judged by edition 2027" in done.stderr


def test_a_calibration_is_written_last(files, monkeypatch):
    """Guards: an adapter's calibration replaced by a command that then fails."""
    order = []
    monkeypatch.setattr(minscl.evaluate, "calibrate", lambda config: order.append("calibrated") or "written")
    arguments = ["--gold", "gold.jsonl", "--pred", "a.jsonl", "--calibrate", "adapter"]
    (files / "adapter").mkdir(exist_ok=True)
    assert evaluate(*arguments, "--train", "absent.jsonl", cwd=files).returncode == 2 and not order
    assert evaluate(*arguments, cwd=files).returncode == 0 and order == ["calibrated"]
