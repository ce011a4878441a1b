"""The shipped file of CodiEsp in English, its judgements and its card."""

import re
from collections import Counter

import pytest

from minscl.data.types import CodedDocument
from minscl.errors import InputError
from study.codiesp_en import judge


@pytest.fixture(scope="module")
def shipped():
    """The records of study/resources/codiesp_en.jsonl.gz."""
    return judge.read_records()


def test_shipped_evidence_is_the_text_at_its_offsets(shipped):
    """Guards: offsets of another version of the texts; CodedDocument.from_dict compares each."""
    for record in shipped:
        document = {key: value for key, value in record.items() if key not in ("split", "annotations")}
        assert CodedDocument.from_dict(document).to_dict() == document


def test_shipped_codes_are_those_of_the_annotations(shipped):
    """Guards: a code that was lost because no annotation of it could be carried, and evidence of another code."""
    for record in shipped:
        spans = {row["code"]: set() for row in record["annotations"]}
        for row in record["annotations"]:
            assert re.fullmatch(r"[A-Z]\d[\dA-Z](\.[\dA-Z]{1,4})?", row["code"])
            assert len(row["spans"]) in (0, 1) or 1 < len(row["spans"]) <= len(row["parts"])
            spans[row["code"]].update((start, end) for start, end in row["spans"])
        evidence = {code["code"]: {(e["start"], e["end"]) for e in code["evidence"]} for code in record["codes"]}
        assert evidence == spans and len(record["codes"]) == len(spans)


def test_shipped_numbers_are_those_of_the_card(shipped):
    """Guards: a card that describes another build."""
    splits = Counter(record["split"] for record in shipped)
    annotations = Counter(record["split"] for record in shipped for _ in record["annotations"])
    assert splits == {"train": 500, "dev": 250, "test": 250}
    assert annotations == {"train": 7209, "dev": 3431, "test": 3665}
    assert Counter(record["split"] for record in shipped for _ in record["codes"]) == {
        "train": 5639,
        "dev": 2677,
        "test": 2842,
    }
    card = (judge.OUT.parents[2] / "docs" / "codiesp_en.md").read_text(encoding="utf-8")
    first, second = judge.read_judgements(), judge.read_judgements(judge.SECOND)
    assert f"{judge.coverage(shipped)}\n{judge.summarise(first)}\n{judge.compare(first, second)}" in card
    assert judge.OUT.read_bytes()[4:8] == bytes(4)  # gzip without a time: builds are byte-identical


def test_judgements_are_the_drawn_sample(shipped):
    """Guards: verdicts on another version of the file, or on phrases that were chosen rather than drawn."""
    drawn = [
        (record["id"], row["code"], " ... ".join(record["text"][a:b].replace("\n", " ") for a, b in row["spans"]))
        for record, row in judge.draw(shipped, 31415, 200)
    ]
    assert drawn == [(row["id"], row["code"], row["english"]) for row in judge.read_judgements()]


def test_both_readers_judged_the_same_rows():
    """Guards: an agreement counted over rows that are not each other's."""
    first, second = (
        [[row[key] for key in judge.COLUMNS[:5]] for row in judge.read_judgements(path)]
        for path in (judge.JUDGEMENTS, judge.SECOND)
    )
    assert first == second


def test_cohen_kappa():
    """Guards: a mistaken formula; 50 rows of which 20 are right to both, 15 wrong to both, 5 and 10 split."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert judge.cohen_kappa(pairs) == pytest.approx(0.4)


def test_a_bad_judgement_names_its_line(tmp_path):
    """Guards: a typing error in a verdict counted as wrong."""
    path = tmp_path / "judgements.tsv"
    path.write_text("\t".join(judge.COLUMNS) + "\nid\ttrain\tfiebre\tR50.9\tfever\trihgt\t\n")
    with pytest.raises(InputError, match="judgements.tsv:2"):
        judge.read_judgements(path)


def test_wilson_interval():
    """Guards: a mistaken formula; 191 of 200 by statsmodels' proportion_confint(method="wilson")."""
    assert judge.wilson_interval(191, 200) == pytest.approx((0.91666, 0.97617), abs=2e-4)
    low, high = judge.wilson_interval(5, 10)
    assert low + high == pytest.approx(1.0)
