"""`python -m minscl.evaluate` as a user runs it, and its bootstrap against the plainest resampling there is."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Pair
from minscl.evaluate import bootstrap, read_system
from minscl.evidence import evidence_scores
from minscl.metrics import bootstrap_rows, chapter_of, code_scores, read_code

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
    write_jsonl(folder / "spans.jsonl", [Pair("aki", "N17.9", "gold"), Pair("kidney injury", "N17.9", "silver"), Pair("lung", "J18.9", "synthetic")])
    return folder


def evaluate(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "minscl.evaluate", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120)


def read(path):
    return [CodedDocument.from_dict(json.loads(line)) for line in path.read_text().splitlines()]


def test_json_has_the_contracts_names(files):
    """Guards the shape that other programs read, and groups that are not those of the files."""
    done = evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--train", "train.jsonl", "--spans", "spans.jsonl", "--json", "--rounds", 20, cwd=files)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    gold, found = read(files / "gold.jsonl"), read(files / "a.jsonl")
    for name, one in code_scores(gold, found).items():
        assert result["codes"][name] == pytest.approx(one) and set(one) == {"precision", "recall", "f1"}
    for name, one in evidence_scores(gold, found).items():
        assert result["evidence"][name] == pytest.approx(one)
    groups = result["groups"]
    assert groups["seen"]["share"] + groups["unseen"]["share"] == pytest.approx(1) and groups["seen"]["share"] == 2 / len({c.code for d in gold for c in d.codes})
    assert groups["unseen, any gold"]["share"] == groups["unseen, any silver"]["share"] == groups["unseen, first gold"]["share"] and "unseen, first silver" not in groups
    low, high = result["intervals"]["micro"]
    assert low <= result["codes"]["micro"]["f1"] <= high
    assert result["rates"]["sectionless"] == 0 and result["rates"]["empty"] > 0


def test_table_of_two_systems(files):
    """Guards a column a system, and a document without prediction."""
    done = evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--pred", "b.jsonl", "--rounds", 50, "--plot", "scores.png", cwd=files)
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[-2:] == ["a", "b"] and any(row.startswith("macro_union") for row in rows) and any(row.startswith("overlap_agnostic_one_to_one") for row in rows)
    assert (files / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_the_bootstrap_is_resampling_documents(files):
    """Guards weights in place of drawn documents: here they are drawn, renamed and scored one round at a time. Tolerance 1e-9."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda one: one.id)
    systems = [read_system(str(files / name), gold, {}) for name in ("a.jsonl", "b.jsonl")]
    drawn = bootstrap(systems, len(gold), 8, seed=3)
    for system, name in zip(drawn, ("a.jsonl", "b.jsonl"), strict=True):
        answers = {one.id: one for one in read(files / name)}
        for number, rows in enumerate(bootstrap_rows(len(gold), 8, 3)):
            def renamed(one, place):
                return CodedDocument(str(place), one.text, one.codes)

            actual = [renamed(gold[row], place) for place, row in enumerate(rows)]
            answer = [renamed(answers[gold[row].id], place) for place, row in enumerate(rows) if gold[row].id in answers]
            for metric, one in {**code_scores(actual, answer), **evidence_scores(actual, answer)}.items():
                assert system[metric][number] == pytest.approx([one["precision"], one["recall"], one["f1"]], abs=1e-9), metric


def test_codes_are_normalised_and_others_left_out():
    """Guards: e1165 against E11.65 called wrong, a procedure code or a word counted as a false positive, a code of no list dropped."""
    assert read_code("e1165") == ("cm", "E11.65") and read_code(" i10 ") == ("cm", "I10") and read_code("Z99.99") == ("cm", "Z99.99")
    assert read_code("0BH17EZ")[0] == "pcs" and read_code("B2151ZZ")[0] == "pcs" and read_code("hypertension")[0] == read_code("250.00")[0] == "malformed"
    gold = [CodedDocument("1", "", (Assignment("E11.65", ""), Assignment("0BH17EZ", "")))]
    assert code_scores(gold, [CodedDocument("1", "", (Assignment("e1165", ""), Assignment("nonsense", "")))])["micro"]["f1"] == 1
    assert code_scores(gold, [CodedDocument("1", "", (Assignment("E11.65", ""), Assignment("E11.659", "")))])["micro"]["precision"] == 0.5


def test_chapters_are_the_official_ranges():
    """Guards: a chapter read off the first letter (D is two chapters, H is two)."""
    assert [chapter_of(code) for code in ("A00.0", "D49.9", "D50.0", "H59.0", "H60.0", "I10", "Z99.9", "U07.1", "E99.9")] == ["1", "2", "3", "7", "8", "9", "21", "22", "?"]


def test_intervals_are_percentiles_with_linear_interpolation(files):
    """Guards another definition of the percentile."""
    gold = sorted(read(files / "gold.jsonl"), key=lambda one: one.id)
    [drawn] = bootstrap([read_system(str(files / "a.jsonl"), gold, {})], len(gold), 40, seed=0)
    done = json.loads(evaluate("--gold", "gold.jsonl", "--pred", "a.jsonl", "--json", "--rounds", 40, cwd=files).stdout)
    ordered = np.sort(drawn["micro"][:, 2])
    place = 0.025 * 39
    assert done["intervals"]["micro"][0] == pytest.approx(ordered[0] + (ordered[1] - ordered[0]) * place)


@pytest.mark.parametrize("change, words", [
    (lambda record: record.update(extra=1), ["bad.jsonl:3", "unknown key 'extra'"]),
    (lambda record: record.update(id="1"), ["bad.jsonl:3", "id '1' is also line 2's"]),
    (lambda record: record.update(id="99"), ["bad.jsonl", "'99'", "gold does not have"]),
    (lambda record: record.update(codes=[{"code": "I10", "description": "", "evidence": [{"text": "HTN", "start": 0, "end": 3}]}]), ["bad.jsonl:3", "text[0:3]"]),
])
def test_bad_input_is_one_line_and_status_2(files, change, words):
    """Guards a score of the wrong thing."""
    records = [json.loads(line) for line in (files / "a.jsonl").read_text().splitlines()]
    change(records[2])
    (files / "bad.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    done = evaluate("--gold", "gold.jsonl", "--pred", "bad.jsonl", cwd=files)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and all(word in done.stderr for word in words), done.stderr
