"""The tag losses of pretraining (study/evidence_tags.py): tags at the right tokens, gradients of the three losses."""

import dataclasses
import random

import pytest
import torch
from torch.nn import functional as F

from minscl.config import DEMO
from minscl.data.jsonl import read_jsonl
from minscl.data.packing import pack
from minscl.data.prompts import render_document_prompt
from minscl.data.sample_types import Sample
from minscl.data.samples import document_sample, encode_sample
from minscl.data.types import CodedDocument
from minscl.model import load_tokenizer
from study.evidence_tags import (
    END,
    END_WEIGHT,
    NOTE,
    START,
    WEIGHTS,
    first_tokens,
    forward_backward,
    mark_note,
    split_tags,
    tag_heads,
)
from study.prepared import join_packs
from tests.tiny_models import V, decoder


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(DEMO)


def test_first_and_last_tokens_of_quotations_are_tagged(tokenizer):
    """Guards: tags shifted by a token, instructions tagged as note, characters counted where bytes are meant."""
    pieces = tokenizer.pieces()
    documents = read_jsonl(DEMO / "documents.jsonl", CodedDocument)[:6]
    documents.append(CodedDocument("é", "Crohn’s “flare” – fièvre, gout.", ()))
    for document in documents:
        spans = {(item.start, item.end) for code in document.codes for item in code.evidence}
        if document.id == "é":
            spans = {(15, 22), (25, 29)}
        sample = encode_sample(tokenizer, document_sample(document))
        marked = mark_note(sample, pieces, document.text, render_document_prompt(document.text), spans)
        [step] = pack([marked], pack_length=8192, batch_size=1, seed=0, epoch=0)
        step, [tags] = split_tags(step, len(pieces))
        ids = step.packs[0].input_ids.tolist()
        assert ids[: len(sample.prompt_ids)] == list(sample.prompt_ids)
        text = b"".join(pieces[i] or b"" for i, tag in zip(ids, tags.tolist(), strict=True) if tag >= NOTE)
        assert text.decode().strip() == document.text.strip()
        lead = len(text) - len(text.lstrip())  # a token may begin with white space before the note
        firsts, lasts, position = [], [], -lead
        for i, tag in zip(ids, tags.tolist(), strict=True):
            if tag & START:
                firsts.append(position)
            position += len(pieces[i] or b"") if tag >= NOTE else 0
            if tag & END:
                lasts.append(position)
        for places, edges in ((firsts, {start for start, _ in spans}), (lasts, {end for _, end in spans})):
            edges = sorted(len(document.text[:edge].encode()) for edge in edges)
            assert len(places) == len(edges)
            assert all(abs(place - edge) < 8 for place, edge in zip(places, edges, strict=True))


def test_first_tokens_are_those_of_the_innermost_quotation():
    """Guards: the first token of another quotation, of the quotation's last token, a quotation of one token."""
    tags = torch.tensor([0, NOTE | START, NOTE | END, NOTE, NOTE | START | END, NOTE | START, NOTE, NOTE | END])
    assert first_tokens(torch.arange(10, 18), tags).tolist() == [11, 14, 15]


@pytest.mark.parametrize("joined", [False, True])
def test_gradients_are_those_of_the_three_losses(joined):
    """Guards: a loss divided by the wrong number, a gradient that is added twice, tags of another sample; `joined`: a
    pack's segments attached to another pack's prefix."""
    torch.manual_seed(0)
    model = decoder().train()
    heads = tag_heads(model.config.hidden_size)
    rng = random.Random(0)
    samples, naive_tags = [], []
    for _ in range(5):
        prompt = [*range(9), *(rng.randrange(V) for _ in range(3))]  # nine tokens are a shared prefix
        tags = [rng.choice((0, NOTE, NOTE, NOTE | START, NOTE | END)) for _ in prompt]
        tags[:9] = [0] * 9
        tags[9] = NOTE | START
        target = tuple(rng.randrange(V) for _ in range(6))
        samples.append(Sample(tuple(i + V * tag for i, tag in zip(prompt, tags, strict=True)), target))
        naive_tags.append((torch.tensor([*prompt, *target]), torch.tensor(tags)))
    [step] = pack(samples, pack_length=40, batch_size=5, seed=0, epoch=0)
    assert len(step.packs) > 1 and all(part.parents[0] < 0 for part in step.packs)
    if joined:
        step = dataclasses.replace(step, packs=(join_packs(step.packs),))
    step, tags_of_packs = split_tags(step, V)
    losses = forward_backward(model, heads, step, tags_of_packs, torch.device("cpu"))
    parameters = [*model.parameters(), *heads.parameters()]
    gradients = [parameter.grad.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    token_loss = end_loss = start_loss = torch.zeros(())
    tagged = sum(int((tags > 0).sum()) for _, tags in naive_tags)
    ended = sum(int(((tags & END) > 0).sum()) for _, tags in naive_tags)
    for ids, tags in naive_tags:
        states = model.model(ids[None])[0]
        logits = model.lm_head(states[len(tags) - 1 : -1])
        token_loss = token_loss + F.cross_entropy(logits, ids[len(tags) :], reduction="sum") / (6 * 5)
        first = 0
        for place, tag in enumerate(tags.tolist()):
            first = place if tag & START else first
            label = torch.tensor(float(bool(tag & END)))
            if tag:
                each = F.binary_cross_entropy_with_logits(heads["end"](states[place])[0], label)
                end_loss = end_loss + each * (END_WEIGHT if tag & END else 1.0) / tagged
            if tag & END:
                start_loss = (
                    start_loss + F.cross_entropy(model.lm_head(heads["start"](states[place])), ids[first]) / ended
                )
    (token_loss + WEIGHTS["end"] * end_loss + WEIGHTS["start"] * start_loss).backward()
    assert losses == pytest.approx((token_loss.item(), end_loss.item(), start_loss.item()), abs=1e-5)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)
