"""Error injection (study/error_injection.py): errors are model input, never labels, and no code refers to them."""

import itertools
import random

import pytest
import torch

from minscl.config import DEMO
from minscl.data.loss import IGNORE
from minscl.data.packing import pack
from minscl.data.prompts import parse_document, render_document_target
from minscl.data.sample_types import Sample
from minscl.data.samples import document_sample, encode_sample
from minscl.model import load_tokenizer
from study import error_injection
from study.notes import coded_phrases, random_documents

pytestmark = pytest.mark.usefixtures("study_phrases")


@pytest.fixture(scope="module")
def notes():
    return list(itertools.islice(random_documents(random.Random(4)), 25))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(DEMO)


def support(parsed):
    """[(code, its quotations)] of a parsed answer."""
    return [(code.code, [parsed.evidence[number - 1] for number in code.references]) for code in parsed.codes]


def without(text, offsets):
    for start, end in reversed(offsets):
        text = text[:start] + text[end:]
    return text


def test_codes_keep_their_evidence(notes, monkeypatch):
    """Guards: references with old numbers, a code that refers to a wrong line, offsets off by a line break."""
    monkeypatch.setattr(error_injection, "LINE_ERROR_RATES", (0.4,))
    wrong = 0
    for note, reference_first in itertools.product(notes, (True, False)):
        before = render_document_target(note, reference_first=reference_first)
        after, offsets = error_injection.inject_line_errors(before, note.text, coded_phrases(), random.Random(note.id))
        assert support(parse_document(after)) == support(parse_document(before))
        for start, end in offsets:
            assert after[start - 1] == after[end - 1] == "\n"
            assert after[start].isdigit() and "\n" not in after[start : end - 1]
        evidence_before = before.partition("Codes:\n")[0].split("\n")
        evidence_after = without(after.partition("Codes:\n")[0], offsets).split("\n")
        assert [line.split(" ", 1)[-1] for line in evidence_after] == [
            line.split(" ", 1)[-1] for line in evidence_before
        ]
        wrong += len(offsets)
    assert wrong > 100


def test_wrong_lines_are_input_without_labels(notes, tokenizer, monkeypatch):
    """Guards: labels in a wrong line, a correct line without labels, a negative id, unlabelled tokens counted."""
    monkeypatch.setattr(error_injection, "LINE_ERROR_RATES", (0.4,))
    monkeypatch.setattr(error_injection, "TOKEN_ERROR_RATE", 0.0)
    pieces = tokenizer.pieces()
    for note in notes[:8]:
        text = document_sample(note)
        target, offsets = error_injection.inject_line_errors(
            text.target, note.text, coded_phrases(), random.Random(note.id)
        )
        plain = encode_sample(tokenizer, type(text)(text.prompt, target, text.kind))
        sample = error_injection.mark_unlabelled(plain, pieces, target, offsets)
        step = error_injection.prepare_step(pack([sample], pack_length=8192)[0], random.Random(0))
        [prepared] = step.packs
        assert prepared.input_ids.tolist() == [*plain.prompt_ids, *plain.target_ids[:-1]]
        labels = [token for token in prepared.labels.tolist() if token != IGNORE]
        assert tokenizer.decode(labels) == without(target, offsets)
        assert step.target_tokens == len(labels) < len(plain.target_ids) + (not offsets)


def test_token_errors_change_only_input_ids(notes, tokenizer):
    """Guards: changed labels, a changed prompt or first answer token, no token error at all."""
    samples = [encode_sample(tokenizer, document_sample(note)) for note in notes]
    before = pack(samples, pack_length=8192, batch_size=len(samples))[0]
    after = error_injection.prepare_step(before, random.Random(1))
    changed = 0
    for pack_before, pack_after in zip(before.packs, after.packs, strict=True):
        labels = pack_before.labels
        assert torch.equal(labels, pack_after.labels)
        indices = torch.nonzero(pack_before.input_ids != pack_after.input_ids).flatten()
        assert bool((labels[indices - 1] != IGNORE).all()) and bool((labels[indices] != IGNORE).all())
        changed += len(indices)
    assert 0.005 < changed / before.target_tokens < 0.1


def test_token_errors_stay_within_an_answer(monkeypatch):
    """Guards: a run of errors into the next sample, whose segment begins with a labelled prompt token where all but the
    last token of the prompt are shared."""
    monkeypatch.setattr(error_injection, "TOKEN_ERROR_RATE", 1.0)
    [step] = pack([Sample(tuple(range(1, 21)), (30 + n, 40 + n, 50 + n)) for n in range(5)], pack_length=128)
    [before], [after] = step.packs, error_injection.prepare_step(step, random.Random(0)).packs
    firsts = torch.tensor(before.lengths).cumsum(0)[:-1]  # of each sample's own segment: the last token of the prompt
    assert before.parents == (-1, 0, 0, 0, 0, 0) and set(before.input_ids[firsts].tolist()) == {20}
    assert torch.equal(before.input_ids[firsts], after.input_ids[firsts]) and not torch.equal(
        before.input_ids, after.input_ids
    )
