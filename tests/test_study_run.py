"""The study end to end on three invented cases: data files, bases, adapters, answers, tables."""

import random
import sys

import pytest

from minscl.config import DEMO
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument, Pair
from minscl.model import load_tokenizer
from study import base, data_files, run
from study.corpus import written

SIZES = {"gold": 20, "synthetic": 20, "dev": 2, "test": 1}


@pytest.fixture
def cases(monkeypatch):
    """Three written cases in place of each of CodiEsp's splits, two of which have evidence; few texts and spans."""
    documents = written("cases", CodeBook.load())
    pairs = read_jsonl(DEMO / "spans.jsonl", Pair)
    splits = {"train": documents[:3], "dev": documents[3:6], "test": documents[6:9]}
    for module in (base, data_files):
        monkeypatch.setattr(module, "codiesp", lambda split, codebook: splits[split])
        monkeypatch.setattr(module, "gold_pairs", lambda codebook: pairs)
    monkeypatch.setattr(base, "background", lambda: documents[9:20])
    monkeypatch.setattr(data_files, "EVIDENCE_CASES", 2)
    return splits


def test_data_files(cases, tmp_path):
    """Guards: evidence where there is to be none, a case in two roles, a miner taught to miss codes."""
    data_files.write_data_files(tmp_path, load_tokenizer(DEMO), SIZES)
    documents = {
        name: read_jsonl(tmp_path / f"{name}.jsonl", CodedDocument)
        for name in ("evidence", "labels", "all-codes", "dev", "test")
    }
    ids = {name: [document.id for document in records] for name, records in documents.items()}
    train = [document.id for document in cases["train"]]
    assert len(ids["evidence"]) == 2 and sorted(ids["evidence"] + ids["labels"]) == sorted(ids["all-codes"]) == train
    assert ids["dev"] == [document.id for document in cases["dev"][:2]] and len(ids["test"]) == 1
    assert all(code.evidence for document in documents["evidence"] for code in document.codes)
    assert not any(code.evidence for name in ("labels", "all-codes") for doc in documents[name] for code in doc.codes)
    [label] = documents["labels"]
    annotators = read_jsonl(tmp_path / "annotators.jsonl", Pair)
    assert {pair.code for pair in annotators} == {code.code for code in label.codes}
    assert len(read_jsonl(tmp_path / "gold.jsonl", Pair)) == 20
    codebook = CodeBook.load()
    samples = data_files.miner_samples(documents["evidence"], codebook, random.Random(0))
    answers = [(sample.prompt, sample.target) for sample in samples if sample.kind == "document"]
    assert sum(target == "none" for _, target in answers) == 2  # a code of the other case each
    for document in documents["evidence"]:
        own = {code.code for code in document.codes}
        for prompt, target in answers:
            if f"Clinical note:\n\n{document.text}\n" in prompt:
                asked = next(word for word in prompt.rsplit("ICD-10-CM code ", 1)[1].split())
                assert (target == "none") == (asked not in own)
    before = (tmp_path / "miner.jsonl").read_bytes()
    (tmp_path / "miner.jsonl").unlink()
    data_files.write_data_files(tmp_path, load_tokenizer(DEMO), SIZES)
    assert (tmp_path / "miner.jsonl").read_bytes() == before  # whether or not the other files are there


@pytest.mark.long
@pytest.mark.slow
def test_the_study_runs_on_three_cases(cases, tmp_path, monkeypatch):
    """Guards: a step that has never run before it is needed hours into a study; a row without a line in the tables."""
    scale = run.Scale(
        "small", 2, gold_spans=20, synthetic_spans=20, document_passes=2, span_passes=1, miner_epochs=1, dev=2, test=2
    )
    monkeypatch.setattr(run, "REDUCED", scale)
    rows = ["lookup", "zero-shot", "codes", "scl", "scl-evidence"]
    flags = ["--fast", "--out", str(tmp_path), "--tokenizer", str(DEMO), "--rows", ",".join(rows)]
    monkeypatch.setattr(sys, "argv", ["study.run", *flags])
    assert run.main() == 0
    assert (tmp_path / "data" / "silver.jsonl").read_bytes() == b""  # a miner of one step mines nothing: a result
    text = (tmp_path / "tables.md").read_text()
    titles = [row.title for row in run.ROWS if row.name in rows]
    assert all(f"| {title} |" in text for title in titles) and "## Evidence" in text
    answers = {row: read_jsonl(tmp_path / row / "seed0" / "test.jsonl", CodedDocument) for row in rows}
    assert all(len(documents) == 2 for documents in answers.values())
    # run again, no command is called
    monkeypatch.setattr(run, "run_step", lambda done, *command, **_: done.exists() or pytest.fail(" ".join(command)))
    assert run.main() == 0 and (tmp_path / "tables.md").read_text() == text
