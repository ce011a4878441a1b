"""`python -m minscl.evaluate` as a user runs it, and its bootstrap against the plainest resampling there is."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Pair
from minscl.evaluate import bootstrap, column_names, read_system
from minscl.score.codes import bootstrap_rows, code_scores
from minscl.score.evidence import evidence_scores
from minscl.score.table import plot

CODES = ["I10", "E11.65", "E11.9", "N17.9", "J18.9", "I50.23", "Z99.9", "N18.3"]
WORDS = ["heart failure", "DM2", "HTN", "pneumonia", "AKI"]


def document(number, rng, output=None):
    text = "Pt with heart failure, DM2, HTN, pneumonia and AKI."
    codes = []
    for code in rng.sample(CODES, rng.randrange(5)):
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
    return subprocess.run(
        [sys.executable, "-m", "minscl.evaluate", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


def read(path):
    return [CodedDocument.from_dict(json.loads(line)) for line in path.read_text().splitlines()]


def test_json_has_the_contracts_names(files):
    """Guards the shape that other programs read, and groups that are not those of the files."""
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
    gold, found = read(files / "gold.jsonl"), read(files / "a.jsonl")
    for name, one in code_scores(gold, found).items():
        assert result["codes"][name] == pytest.approx(one) and set(one) == {"precision", "recall", "f1"}
    for name, one in evidence_scores(gold, found).items():
        assert result["evidence"][name] == pytest.approx(one)
    groups = result["groups"]
    assert groups["seen"]["share"] + groups["unseen"]["share"] == pytest.approx(1) and groups["seen"][
        "share"
    ] == 2 / len({c.code for d in gold for c in d.codes})
    assert (
        groups["unseen, any gold"]["share"]
        == groups["unseen, any silver"]["share"]
        == groups["unseen, first gold"]["share"]
        and "unseen, first silver" not in groups
    )
    for shown, value in (
        ("micro", result["codes"]["micro"]["f1"]),
        ("macro_gold precision", result["codes"]["macro_gold"]["precision"]),
        ("span_exact_match recall", result["evidence"]["span_exact_match"]["recall"]),
        ("per_chapter 4", result["per_chapter"]["4"]["f1"]),
        ("unseen micro recall", groups["unseen"]["micro"]["recall"]),
    ):
        low, high = result["intervals"][shown]
        assert low <= value <= high and low < high, shown
    assert result["rates"]["sectionless"] == 0 and result["rates"]["empty"] > 0


def test_table_of_two_systems(files):
    """Guards a column a system, and a document without prediction."""
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
    """Guards: a star for systems that are alike, none for one that is better on every document, intervals that are not the pairs' own."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda one: one.id)
    worse = [CodedDocument(one.id, one.text, one.codes[:-1] + (Assignment("A00.0", ""),)) for one in gold]
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
    one, same, other = json.loads(evaluate(*arguments, "--json", cwd=tmp_path).stdout)
    assert "difference" not in one and same["difference"]["micro"] == [0, 0] and other["difference"]["micro"][1] < 0
    drawn = bootstrap(
        [read_system(str(tmp_path / f"{name}.jsonl"), gold, {}) for name in ("gold", "worse")],
        bootstrap_rows(len(gold), 30, 0),
    )
    change = np.percentile(drawn[1]["micro"][:, 2] - drawn[0]["micro"][:, 2], (2.5, 97.5))
    assert other["difference"]["micro"] == pytest.approx(change)


def test_what_is_scored_otherwise_on_request(files, tmp_path):
    """Guards: a flag that does not reach its score. One call with all of them, against the functions."""
    text = "HTN, acute systolic heart failure."
    parts = (Evidence("acute systolic", 5, 19), Evidence("heart failure.", 20, 34))
    gold = [CodedDocument("1", text, (Assignment("I50.21", "", parts), Assignment("I10", "")))]
    found = [
        CodedDocument(
            "1",
            text,
            (Assignment("i5021", "", (Evidence("acute systolic heart failure", 5, 33),)), Assignment("E11.659", "")),
        )
    ]
    write_jsonl(tmp_path / "gold.jsonl", gold)
    write_jsonl(tmp_path / "a.jsonl", found)
    (tmp_path / "codes.txt").write_text("i5021\nJ18.9\n\n0BH17EZ\n")
    flags = ("--merge", "--trim", "--unlisted", "drop", "--fixed", "codes.txt", "--f1-of-averages")
    arguments = ("--gold", "gold.jsonl", "--pred", "a.jsonl", "--json", "--rounds", 2)
    result = json.loads(evaluate(*arguments, *flags, cwd=tmp_path).stdout)
    assert (
        result["evidence"]["span_exact_match"]["f1"] == pytest.approx(1, abs=1e-5)
        and result["codes"]["micro"]["precision"] == 1
    )
    assert result["codes"] == code_scores(gold, found, fixed=["I50.21", "J18.9"], unlisted=False, f1_of_averages=True)
    assert (
        result["codes"]["macro_fixed"]["f1"] == 0.5
        and "macro_f1_of_averages" in result["intervals"]
        and result["rates"]["unlisted codes"] == 0.5
    )
    plain = json.loads(evaluate(*arguments, cwd=tmp_path).stdout)
    assert (
        plain["evidence"]["span_exact_match"]["f1"] == 0
        and plain["codes"]["micro"]["precision"] == 0.5
        and "macro_fixed" not in plain["codes"]
    )


def test_columns_have_names_of_their_own():
    """Guards: two files of one stem as one column."""
    assert column_names(["a.jsonl", "x/b.jsonl", "y/b.jsonl"]) == ["a", "x/b", "y/b"]
    assert column_names(["b.jsonl", "b.jsonl", "b.json"]) == ["b (1)", "b (2)", "b (3)"]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--seed", "-1"], "--seed -1"),
        (["--rounds", "-1"], "--rounds -1"),
        (["--spans", "spans.jsonl"], "needs --train"),
        (["--pred", "empty.jsonl"], "--pred empty.jsonl: no document"),
        (["--fixed", "words.txt"], "'pain' is no code"),
        (["--codes-only", "b.jsonl"], "not one of the --pred files"),
        (["--plot", "nowhere/x.png"], "--plot nowhere/x.png"),
        (["--plot", "x.doc"], "--plot x.doc"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(files, flags, words):
    """Guards tracebacks, a lost table where only the picture fails, and a system without any answer scored as 0."""
    (files / "empty.jsonl").write_text("")
    (files / "words.txt").write_text("I10\npain\n")
    done = evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--rounds", 0, *flags, cwd=files)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert done.stdout.startswith("F1, %") == ("--plot" in flags)


def test_a_picture_names_its_systems(tmp_path):
    """Guards: bars of several systems without a legend where there are no groups. matplotlib writes an svg's words as comments too."""
    one = {"per_chapter": {"9": {"f1": 0.5}, "?": {"f1": 0}}}
    plot([{"system": "first", **one}, {"system": "second", "per_chapter": {"10": {"f1": 1}}}], str(tmp_path / "a.svg"))
    picture = (tmp_path / "a.svg").read_text()
    assert all(f"<!-- {word} -->" in picture for word in ("first", "second", "9", "10", "?"))


def test_the_bootstrap_is_resampling_documents(files):
    """Guards weights in place of drawn documents: here they are drawn, renamed and scored one round at a time. Tolerance 1e-9."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda one: one.id)
    systems = [read_system(str(files / name), gold, {}) for name in ("a.jsonl", "b.jsonl")]
    drawn = bootstrap(systems, bootstrap_rows(len(gold), 8, seed=3))
    for system, name in zip(drawn, ("a.jsonl", "b.jsonl"), strict=True):
        answers = {one.id: one for one in read(files / name)}
        for number, rows in enumerate(bootstrap_rows(len(gold), 8, 3)):

            def renamed(one, place):
                return CodedDocument(str(place), one.text, one.codes)

            actual = [renamed(gold[row], place) for place, row in enumerate(rows)]
            answer = [
                renamed(answers[gold[row].id], place) for place, row in enumerate(rows) if gold[row].id in answers
            ]
            for metric, one in {**code_scores(actual, answer), **evidence_scores(actual, answer)}.items():
                assert system[metric][number] == pytest.approx(
                    [one["precision"], one["recall"], one["f1"]], abs=1e-9
                ), metric


def test_intervals_are_percentiles_with_linear_interpolation(files):
    """Guards another definition of the percentile."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda one: one.id)
    [drawn] = bootstrap([read_system(str(files / "a.jsonl"), gold, {})], bootstrap_rows(len(gold), 40, seed=0))
    done = json.loads(evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--json", "--rounds", 40, cwd=files).stdout)
    ordered = np.sort(drawn["micro"][:, 2])
    place = 0.025 * 39
    assert done["intervals"]["micro"][0] == pytest.approx(ordered[0] + (ordered[1] - ordered[0]) * place)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda record: record.update(extra=1), ["bad.jsonl:3", "unknown key 'extra'"]),
        (lambda record: record.update(id="1"), ["bad.jsonl:3", "id '1' is also line 2's"]),
        (lambda record: record.update(id="99"), ["bad.jsonl", "'99'", "gold does not have"]),
        (
            lambda record: record.update(
                codes=[{"code": "I10", "description": "", "evidence": [{"text": "HTN", "start": 0, "end": 3}]}]
            ),
            ["bad.jsonl:3", "text[0:3]"],
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(files, change, words):
    """Guards a score of the wrong thing."""
    records = [json.loads(line) for line in (files / "a.jsonl").read_text().splitlines()]
    change(records[2])
    (files / "bad.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    done = evaluate("--gold", "gold.jsonl", "--pred", "bad.jsonl", cwd=files)
    assert (
        done.returncode == 2
        and len(done.stderr.strip().splitlines()) == 1
        and all(word in done.stderr for word in words)
    ), done.stderr


def chart(folder, *, spoil=None):
    """A chart in MDACE's layout, its texts put in as MDACE's script does, and the same as a coded document."""
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


def test_mdaces_own_json_is_gold_and_prediction(tmp_path):
    """Guards: offsets of the second note not moved, PCS counted as a miss, notes in the order of the file."""
    same = chart(tmp_path / "gold")
    write_jsonl(tmp_path / "pred.jsonl", [same])
    for gold, found in (("gold", "pred.jsonl"), ("pred.jsonl", "gold"), ("gold", "gold/77-ICD-10.json")):
        done = evaluate("--gold", gold, "--pred", found, "--json", "--rounds", 0, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["codes"]["micro"]["f1"] == 1 and result["evidence"]["span_exact_match"]["f1"] == pytest.approx(
            1, abs=1e-5
        )


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda notes: notes[0].pop("text"), "note 12 has no text"),
        (lambda notes: notes[1]["annotations"][0].update(end=99), "the text is not the annotated one"),
        (lambda notes: notes[1]["annotations"][0].update(covered_text="DM1"), "'DM2', not 'DM1'"),
        (lambda notes: notes[0].pop("annotations"), "not a chart of MDACE"),
    ],
)
def test_charts_that_do_not_fit_their_text_are_refused(tmp_path, spoil, words):
    """Guards: scores of evidence that points somewhere else."""
    write_jsonl(tmp_path / "pred.jsonl", [chart(tmp_path / "gold", spoil=spoil)])
    done = evaluate("--gold", "gold", "--pred", "pred.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_a_prediction_for_another_text_is_refused(files, tmp_path):
    """Guards: offsets into one version of a note scored against another's."""
    changed = [CodedDocument(one.id, one.text + " ", one.codes) for one in read(files / "a.jsonl")]
    write_jsonl(tmp_path / "moved.jsonl", changed)
    done = evaluate("--gold", files / "gold.jsonl", "--pred", "moved.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "another text than gold's" in done.stderr
