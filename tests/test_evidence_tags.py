"""The second loss of pretraining (study/evidence_tags.py): tags at the right tokens, gradients of the two losses."""

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
from study.evidence_tags import END, END_WEIGHT, NOTE, WEIGHT, forward_backward, mark_note, split_tags
from tests.tiny_models import V, decoder


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(DEMO)


def test_the_last_token_of_each_quotation_is_tagged(tokenizer):
    """Guards: tags shifted by a token, instructions tagged as note, characters counted where bytes are meant."""
    pieces = tokenizer.pieces()
    documents = read_jsonl(DEMO / "documents.jsonl", CodedDocument)[:6]
    documents.append(CodedDocument("é", "Crohn’s “flare” – fièvre, gout.", ()))
    for document in documents:
        ends = {item.end for code in document.codes for item in code.evidence} or {22, 29}
        sample = encode_sample(tokenizer, document_sample(document))
        marked = mark_note(sample, pieces, document.text, render_document_prompt(document.text), ends)
        [step] = pack([marked], pack_length=8192, batch_size=1, seed=0, epoch=0)
        step, [tags] = split_tags(step, len(pieces))
        ids = step.packs[0].input_ids.tolist()
        assert ids[: len(sample.prompt_ids)] == list(sample.prompt_ids)
        text = b"".join(pieces[i] or b"" for i, tag in zip(ids, tags.tolist(), strict=True) if tag >= NOTE)
        assert text.decode().strip() == document.text.strip()
        expected, position = set(), 0
        note_tags = [(pieces[i] or b"", tag) for i, tag in zip(ids, tags.tolist(), strict=True) if tag >= NOTE]
        for piece, tag in note_tags:
            position += len(piece)
            if tag == END:
                expected.add(position)
        byte_ends = {len(document.text[:end].encode()) for end in ends}
        lead = len(text) - len(text.lstrip())  # a token may begin with white space before the note
        assert all(any(0 <= place - lead - end < 8 for place in expected) for end in byte_ends)
        assert len(expected) == len(byte_ends)


def test_gradients_are_those_of_both_losses():
    """Guards: a loss divided by the wrong number, a gradient that is added twice, tags of another sample."""
    torch.manual_seed(0)
    model = decoder().train()
    head = torch.nn.Linear(model.config.hidden_size, 1)
    rng = random.Random(0)
    samples, naive_tags = [], []
    for _ in range(5):
        prompt = [rng.randrange(V) for _ in range(12)]
        tags = [rng.choice((0, NOTE, NOTE, END)) for _ in prompt]
        target = tuple(rng.randrange(V) for _ in range(6))
        samples.append(Sample(tuple(i + V * tag for i, tag in zip(prompt, tags, strict=True)), target))
        naive_tags.append((torch.tensor([*prompt, *target]), torch.tensor(tags)))
    [step] = pack(samples, pack_length=40, batch_size=5, seed=0, epoch=0)
    step, tags_of_packs = split_tags(step, V)
    losses = forward_backward(model, head, step, tags_of_packs, torch.device("cpu"))
    parameters = [*model.parameters(), *head.parameters()]
    gradients = [parameter.grad.clone() for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    token_loss, tag_loss = torch.zeros(()), torch.zeros(())
    tagged = sum(int((tags > 0).sum()) for _, tags in naive_tags)
    for ids, tags in naive_tags:
        states = model.model(ids[None])[0]
        logits = model.lm_head(states[len(tags) - 1 : -1])
        token_loss = token_loss + F.cross_entropy(logits, ids[len(tags) :], reduction="sum") / (6 * 5)
        notes = torch.nonzero(tags > 0).flatten()
        labels = (tags[notes] == END).float()
        each = F.binary_cross_entropy_with_logits(head(states[notes])[:, 0], labels, reduction="none")
        tag_loss = tag_loss + (each * torch.where(labels > 0, END_WEIGHT, 1.0)).sum() / tagged
    (token_loss + WEIGHT * tag_loss).backward()
    assert losses == pytest.approx((token_loss.item(), tag_loss.item()), abs=1e-5)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)
