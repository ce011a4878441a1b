"""Samples: what is prompt and what is trained, token by token, on the embedded model's kind of tokenizer."""

import functools
import json

import pytest

from minscl.data import Assignment, CodedDocument, Evidence, Pair, Sample, TextSample
from minscl.data.coded_records import read_documents, read_pairs
from minscl.data.icd import CodeBook
from minscl.data.prompts import render_document_prompt, render_span_prompt
from minscl.data.samples import (
    WITHOUT_EVIDENCE,
    document_sample,
    encode_sample,
    encode_samples,
    read_training_data,
    show_sample,
    span_sample,
)
from minscl.errors import InputError
from minscl.model import load_tokenizer
from study.tokenizer import train_tokenizer
from tests.conftest import call_command

NOTE = CodedDocument(
    "a", "Pt with HTN.", (Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),)),)
)
BOOK = CodeBook.load()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(
        [render_document_prompt(NOTE.text), render_span_prompt("HTN"), "I10 Essential (primary) hypertension"] * 3,
        folder,
        vocab_size=400,
    )
    return load_tokenizer(folder)


def test_only_the_answer_and_its_end_are_trained(tokenizer):
    """Guards: loss on the prompt, no loss on the end token, so that the model never stops."""
    sample = encode_sample(tokenizer, document_sample(NOTE))
    assert show_sample(tokenizer, sample).replace("⟧⟦", "") == (
        f"<|bos|><|user|>{render_document_prompt(NOTE.text)}<|end|><|assistant|>"
        "⟦Evidence:\n1. HTN\nCodes:\n[1] I10 Essential (primary) hypertension<|end|>⟧"
    )
    assert sample.target_ids[-1] in tokenizer.stop_ids and sample.kind == "document"
    chat = [
        {"role": "user", "content": render_document_prompt(NOTE.text)},
        {"role": "assistant", "content": document_sample(NOTE).target},
    ]
    assert list(sample.prompt_ids + sample.target_ids) == tokenizer.encode_chat(chat, add_generation_prompt=False)


def test_spans_and_code_only_samples():
    """Guards: a span with evidence sections; Eq. 2's baseline that still sees evidence."""
    span = span_sample(Pair("high blood pressure", "I10", "gold"), BOOK)
    assert (span.prompt, span.target, span.kind) == (
        render_span_prompt("high blood pressure"),
        "I10 Essential (primary) hypertension",
        "span",
    )
    plain = document_sample(NOTE, evidence_first=False)
    assert plain.target == "Codes:\nI10 Essential (primary) hypertension" and "evidence" not in plain.prompt.casefold()
    with pytest.raises(InputError, match="I10.9 is not in the Tabular List"):
        span_sample(Pair("x", "I10.9", "gold"), BOOK)


def test_too_long_is_skipped_aloud_or_refused_never_cut(tokenizer):
    """Guards: a note cut at the end, so that its last codes have no evidence left to learn from."""
    long = CodedDocument("b", "Pt with HTN. " * 50, NOTE.codes)
    samples, skipped = encode_samples(tokenizer, [document_sample(NOTE), document_sample(long)], 200)
    assert [sample.name for sample in samples] == [NOTE.id] and len(skipped) == 1
    assert skipped[0].startswith("document b has") and skipped[0].endswith("more than --max-length 200")
    with pytest.raises(InputError, match="more than --max-length 200"):
        encode_samples(tokenizer, [TextSample("x" * 3000, "y", "span")], 200)
    ready = Sample((1, 2), (3,))
    assert encode_samples(tokenizer, [ready], 3)[0] == [ready]


def write_lines(path, records):
    path.write_text("".join(json.dumps(record) + "\n" if record else "\n" for record in records))
    return path


def coded(id, *codes):
    """A document as a user writes it, without evidence."""
    return {
        "id": id,
        "text": "Pt with HTN.",
        "codes": [{"code": code, "description": "", "evidence": []} for code in codes],
    }


def span(code):
    return {"evidence": "fatigue and cold hands", "code": code, "source": "gold"}


def test_codes_are_read_as_evaluate_reads_them(tmp_path):
    """Guards: E1165 and i10 trained as they are spelt; a retired code of older gold refused or dropped."""
    documents = read_documents(write_lines(tmp_path / "d", [coded("a", "E1165", "i10", " z99.99 ")]), BOOK)
    assert [assignment.code for assignment in documents[0].codes] == ["E11.65", "I10", "Z99.99"]
    pairs = read_pairs(write_lines(tmp_path / "s", [span("e1165"), span("E11"), span("Z9999")]), BOOK)
    assert [pair.code for pair in pairs] == ["E11.65", "E11", "Z99.99"]


@pytest.mark.parametrize(
    "read, records, message",
    [
        (
            read_documents,
            [coded("a", "I10"), None, coded("b", "E11.9", "585.3", "kidney"), coded("c", "I10-", "0SR9019")],
            "r:3: codes[1] is 585.3, not an ICD-10-CM code; 4 codes of the file are not; "
            "give codes such as E11.65 and leave out those of other systems",
        ),
        (
            read_pairs,
            [span("I10"), span("failing kidneys")],
            "r:2: code is a string of 15 characters, not an ICD-10-CM code; "
            "give codes such as E11.65 and leave out those of other systems",
        ),
        (
            functools.partial(read_pairs, listed=True),
            [span("Z99.2"), span("Z99.99"), span("e11.655")],
            "r:2: code is Z99.99, not in ICD-10-CM edition 2027; 2 codes of the file are not; "
            "correct the code, drop the pair or set MINSCL_EDITION to the edition that has it",
        ),
    ],
)
def test_what_is_no_code_is_refused_with_count_and_line(tmp_path, monkeypatch, read, records, message):
    """Guards: ICD-9, PCS and words as training targets; only the first of many named; text of a note in a message."""
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "r", records)
    with pytest.raises(InputError) as error:
        read("r", BOOK)
    assert str(error.value) == message


def test_documents_without_evidence_are_counted(tmp_path, tokenizer):
    """Guards: "Evidence: none" before codes trained without a word."""
    documents = write_lines(tmp_path / "d", [coded("a", "I10"), coded("b"), NOTE.to_dict() | {"id": "c"}])
    spans = write_lines(tmp_path / "s", [span("i10")])
    samples, counts, _ = read_training_data(str(documents), str(spans), "", tokenizer, 400)
    assert counts == {"documents": 3, WITHOUT_EVIDENCE: 1, "gold spans": 1} and len(samples) == 4
    _, counts, _ = read_training_data(str(documents), "", "", tokenizer, 400, evidence_first=False)
    assert counts == {"documents": 3}


def test_every_expansion_reads_codes_alike(tmp_path):
    """Guards `expand`: "e1165" counted as another code than "E11.65", and "kidney" or an ICD-9 code used as one."""
    from minscl import expand

    def run(*words):
        return call_command(expand.main, *words, cwd=tmp_path)

    def pairs(*codes):
        lines = [{"evidence": f"phrase {code}", "code": code, "source": "gold"} for code in codes]
        (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    pairs("e1165", "E11.65", "i10")
    assert json.loads(run("coverage", "pairs.jsonl", "--json").stdout)["codes"] == {"gold": 2}
    for code in ("kidney", "585.3", "0SR9019"):
        pairs("I10", code)
        document = {"id": "1", "text": "x", "codes": [{"code": code, "description": "", "evidence": []}]}
        (tmp_path / "notes.jsonl").write_text(json.dumps(document) + "\n")
        for words in (
            ["coverage", "pairs.jsonl"],
            ["synthetic", "--template", "--pairs", "pairs.jsonl", "--out", "o.jsonl"],
            ["silver", "--notes", "notes.jsonl", "--out", "o.jsonl"],
        ):
            done = run(*words)
            assert done.returncode == 2 and "not an ICD-10-CM code" in done.stderr, (words, done.stderr)
    assert not (tmp_path / "o.jsonl").exists()


def test_a_text_that_cannot_fit_is_not_tokenised():
    """Guards gigabytes of memory to learn how many tokens 20 MB have."""
    texts = [TextSample("x" * 3000, "y", "document", "long"), TextSample("x", "y", "span", "short")]
    asked = []

    class Counting:
        def encode_chat(self, messages, add_generation_prompt=True):
            asked.append(len(messages[0]["content"]))
            return [1]

        def encode_answer(self, text):
            return [2]

    samples, skipped = encode_samples(Counting(), texts, 10)
    assert asked == [1] and len(samples) == 1
    assert skipped == ["document long has 3,001 characters, more than --max-length 10"]
