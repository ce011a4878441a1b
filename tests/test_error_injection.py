"""Mistakes shown in pretraining (study/mistakes.py): read by the model, never learned, and never referred to by a code."""

import itertools
import random

import pytest
import torch

from minscl.config import DEMO
from minscl.data.loss import IGNORE
from minscl.data.packing import pack
from minscl.data.prompts import parse_document, render_document_target
from minscl.data.samples import document_sample, encode_sample
from minscl.data.types import Sample
from minscl.model import load_tokenizer
from study import error_injection as mistakes
from study.notes import coded_words, random_documents


@pytest.fixture(scope="module")
def notes():
    return list(itertools.islice(random_documents(random.Random(4)), 25))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(DEMO)


def supports(parsed):
    return [(one.code, [parsed.evidence[number - 1] for number in one.references]) for one in parsed.codes]


def test_codes_refer_to_what_they_referred_to(notes, monkeypatch):
    """Guards: references left at the old numbers, a code that names a wrong line, places that are off by a line break."""
    monkeypatch.setattr(mistakes, "MISLED", (0.4,))
    wrong = 0
    for note in notes:
        before = render_document_target(note)
        after, places = mistakes.mislead(before, note.text, coded_words(), random.Random(note.id))
        assert supports(parse_document(after)) == supports(parse_document(before))
        head, kept = after.partition("Codes:\n")[0], before.partition("Codes:\n")[0]
        left = head
        for start, end in reversed(places):
            assert (
                after[start - 1] == after[end - 1] == "\n"
                and after[start].isdigit()
                and "\n" not in after[start : end - 1]
            )
            left = left[:start] + left[end:]
        assert [line.split(" ", 1)[-1] for line in left.split("\n")] == [
            line.split(" ", 1)[-1] for line in kept.split("\n")
        ]
        wrong += len(places)
    assert wrong > 50


def test_wrong_lines_are_read_and_not_learned(notes, tokenizer, monkeypatch):
    """Guards: a label that teaches a wrong line, a right line that is not learned, an id that stays negative, a divisor that counts what has no label."""
    monkeypatch.setattr(mistakes, "MISLED", (0.4,))
    monkeypatch.setattr(mistakes, "STUTTERS", 0.0)
    pieces = tokenizer.pieces()
    for note in notes[:8]:
        text = document_sample(note)
        target, places = mistakes.mislead(text.target, note.text, coded_words(), random.Random(note.id))
        plain = encode_sample(tokenizer, type(text)(text.prompt, target, text.kind))
        sample = mistakes.unlearned(plain, pieces, target, places)
        step = mistakes.learn(pack([sample], pack_length=8192)[0], random.Random(0))
        [one] = step.packs
        assert one.input_ids.tolist() == [*plain.prompt_ids, *plain.target_ids[:-1]]
        learned = [token for token in one.labels.tolist() if token != IGNORE]
        right, end = target, len(target)
        for start, end in reversed(places):
            right = right[:start] + right[end:]
        assert tokenizer.decode(learned) == right and step.target_tokens == len(learned) < len(plain.target_ids) + (
            not places
        )


def test_a_stutter_changes_what_is_read_alone(notes, tokenizer):
    """Guards: labels that stutter, a prompt or an answer's first token replaced, no stutter at all."""
    samples = [encode_sample(tokenizer, document_sample(note)) for note in notes]
    before = pack(samples, pack_length=8192, batch_size=len(samples))[0]
    after = mistakes.learn(before, random.Random(1))
    changed = 0
    for one, other in zip(before.packs, after.packs, strict=True):
        assert torch.equal(one.labels, other.labels)
        places = torch.nonzero(one.input_ids != other.input_ids).flatten()
        assert bool((one.labels[places - 1] != IGNORE).all()) and bool((one.labels[places] != IGNORE).all())
        changed += len(places)
    assert 0.005 < changed / before.target_tokens < 0.1


def test_a_stutter_stays_within_its_answer(monkeypatch):
    """Guards: an answer's end taken for the middle of one where the next sample's prompt, shared but for its last token, begins with a label."""
    monkeypatch.setattr(mistakes, "STUTTERS", 1.0)
    [step] = pack([Sample(tuple(range(1, 21)), (30 + one, 40 + one, 50 + one)) for one in range(5)], pack_length=128)
    [before], [after] = step.packs, mistakes.learn(step, random.Random(0)).packs
    firsts = torch.tensor(before.lengths).cumsum(0)[:-1]  # of each sample's own segment: the prompt's last token
    assert before.parents == (-1, 0, 0, 0, 0, 0) and set(before.input_ids[firsts].tolist()) == {20}
    assert torch.equal(before.input_ids[firsts], after.input_ids[firsts]) and not torch.equal(
        before.input_ids, after.input_ids
    )
