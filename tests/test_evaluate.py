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
    drawn = bootstrap(systems, bootstrap_rows(len(gold), 8, seed=3))
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
    [drawn] = bootstrap([read_system(str(files / "a.jsonl"), gold, {})], bootstrap_rows(len(gold), 40, seed=0))
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


def chart(folder, *, spoil=None):
    """A chart in MDACE's layout, its texts put in as MDACE's script does, and the same as a coded document."""
    notes = [{"note_id": 12, "category": "Radiology", "description": "x", "text": "CT: pneumonia.\r\n", "annotations": [(4, 13, "J18.9")]},
             {"note_id": 5, "category": "Discharge summary", "description": "y", "text": "DM2, HTN.", "annotations": [(0, 3, "E11.9"), (5, 8, "I10")]}]
    for note in notes:
        note["annotations"] = [{"begin": a, "end": b, "code": code, "code_system": "ICD-10-CM", "description": "", "type": "Human", "covered_text": note["text"][a:b]}
                               for a, b, code in note["annotations"]]
    notes[0]["annotations"].append({"begin": 0, "end": 2, "code": "0BJ08ZZ", "code_system": "ICD-10-PCS", "description": "", "type": "Human"})
    if spoil:
        spoil(notes)
    folder.mkdir(parents=True)
    (folder / "77-ICD-10.json").write_text(json.dumps({"hadm_id": 77, "comment": "", "notes": notes}))
    text = "DM2, HTN.\n\nCT: pneumonia.\r\n"
    places = {"E11.9": (0, 3), "I10": (5, 8), "J18.9": (15, 24)}
    return CodedDocument("77", text, tuple(Assignment(code, "", (Evidence(text[a:b], a, b),)) for code, (a, b) in places.items()))


def test_mdaces_own_json_is_gold_and_prediction(tmp_path):
    """Guards: offsets of the second note not moved, PCS counted as a miss, notes in the order of the file."""
    same = chart(tmp_path / "gold")
    write_jsonl(tmp_path / "pred.jsonl", [same])
    for gold, found in (("gold", "pred.jsonl"), ("pred.jsonl", "gold"), ("gold", "gold/77-ICD-10.json")):
        done = evaluate("--gold", gold, "--pred", found, "--json", "--rounds", 0, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["codes"]["micro"]["f1"] == 1 and result["evidence"]["span_exact_match"]["f1"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("spoil, words", [
    (lambda notes: notes[0].pop("text"), "note 12 has no text"), (lambda notes: notes[1]["annotations"][0].update(end=99), "the text is not the annotated one"),
    (lambda notes: notes[1]["annotations"][0].update(covered_text="DM1"), "'DM2', not 'DM1'"), (lambda notes: notes[0].pop("annotations"), "not a chart of MDACE"),
])
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
