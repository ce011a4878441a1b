"""Samples: what is prompt and what is trained, token by token, on the embedded model's kind of tokenizer."""

import pytest

from minscl.data import Assignment, CodedDocument, Evidence, Pair, Sample, TextSample
from minscl.data.icd import CodeBook
from minscl.data.prompts import render_document_prompt, render_span_prompt
from minscl.data.samples import document_sample, encode_sample, encode_samples, show_sample, span_sample
from minscl.errors import InputError
from minscl.model import load_tokenizer
from study.tokenizer import train_tokenizer

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
        "⟦Evidence:\n1. HTN\nCodes:\nI10 Essential (primary) hypertension [1]<|end|>⟧"
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
