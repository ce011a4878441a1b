"""Packing changes nothing: every sample once, and the packed loss and gradients equal the sum over samples one by one."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl import train
from minscl.data import Sample, pack
from minscl.data.loss import IGNORE, masked_loss
from minscl.errors import InputError
from minscl.lora import add_lora, lora_parameters
from minscl.model import SharedPrefixMask
from minscl.train import forward_backward
from tests.tiny_models import FAMILIES, V, decoder


def make_samples(lengths, seed=0, instructions=((),)):
    """Samples of (prompt length, target length); each prompt begins with one of `instructions`, in turn."""
    rng = random.Random(seed)
    return [
        Sample(
            (*instructions[number % len(instructions)], *(rng.randrange(V) for _ in range(p))),
            tuple(rng.randrange(V) for _ in range(t)),
        )
        for number, (p, t) in enumerate(lengths)
    ]


LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=40)
INSTRUCTIONS = st.sampled_from(
    [((),), (tuple(range(20)),), (tuple(range(20)), tuple(range(12)) + (99,) * 3, ()), (tuple(range(7)),)]
)


def read_back(one):
    """(prompt, target, labels' tokens) of every sample of a pack, from its forest."""
    forest, parts = (
        SharedPrefixMask(one.lengths, one.parents),
        list(zip(*(x.split(one.lengths) for x in (one.input_ids, one.positions, one.labels)), strict=True)),
    )
    for segment in range(len(one.lengths)):
        if segment in one.parents:  # a shared beginning: nothing in it is trained
            assert set(parts[segment][2].tolist()) == {IGNORE}
            continue
        path = [*forest.ancestors(segment), segment]
        ids, positions, labels = (torch.cat([parts[one][column] for one in path]).tolist() for column in range(3))
        assert positions == list(range(len(ids)))
        trained = [t for t in range(len(ids)) if labels[t] != IGNORE]
        assert trained == list(range(trained[0], len(ids))) and all(labels[t] == ids[t + 1] for t in trained[:-1])
        yield tuple(ids[: trained[0] + 1]), tuple(labels[trained[0] :])


@settings(max_examples=150, deadline=None)
@given(LENGTHS, INSTRUCTIONS, st.integers(62, 120), st.integers(1, 16), st.integers(0, 3))
def test_every_sample_once_an_epoch_and_nothing_cut(lengths, instructions, pack_length, batch_size, epoch):
    """Guards: samples dropped, repeated or cut; packs too long; labels that do not belong to their token; a beginning shared by the wrong ones."""
    samples = make_samples(lengths, instructions=instructions)
    steps = pack(samples, pack_length=pack_length, batch_size=batch_size, seed=1, epoch=epoch)
    assert sorted(index for step in steps for index in step.sample_indices) == list(range(len(samples)))
    assert all(len(step.sample_indices) == batch_size for step in steps[:-1])
    for step in steps:
        chosen = [samples[i] for i in step.sample_indices]
        assert (
            step.target_tokens == sum(len(one.target_ids) for one in chosen)
            and step.tokens == sum(map(len, chosen)) >= step.computed_tokens
        )
        assert all(len(one.input_ids) == sum(one.lengths) <= pack_length for one in step.packs)
        assert sorted(read for one in step.packs for read in read_back(one)) == sorted(
            (one.prompt_ids, one.target_ids) for one in chosen
        )


def test_a_shared_instruction_is_computed_once():
    """Guards: sharing that never happens, or that swallows a prompt's last token, which has a label."""
    instruction = tuple(range(60))
    [step] = pack(make_samples([(8, 16)] * 12, instructions=(instruction,)), pack_length=4096)
    assert (step.tokens, step.computed_tokens) == (12 * 84, 60 + 12 * 23)
    [step] = pack([Sample(instruction, (1, 2))] * 3, pack_length=4096)  # one and the same prompt
    assert step.computed_tokens == 59 + 3 * 2


def test_what_spans_and_documents_share_is_computed_once_too():
    """Guards: a chat format's header, with which all prompts begin, that hides each kind's own instruction."""
    header, spans, notes = tuple(range(20)), tuple(range(100, 140)), tuple(range(200, 230))
    samples = [Sample(header + spans + (300 + one, 400 + one), (1, 2, 3)) for one in range(12)]
    samples += [Sample(header + notes + tuple(range(500 + 100 * one, 560 + 100 * one)), (1, 2)) for one in range(2)]
    [step] = pack(samples, pack_length=4096)
    assert step.computed_tokens == 20 + 40 + 12 * 4 + 30 + 2 * 61
    [one] = step.packs
    assert one.parents.count(-1) == 1 and len(set(one.parents)) == 4


def test_order_is_a_function_of_seed_and_epoch_alone():
    """Guards: the global generator used, or an epoch that repeats the last one's steps."""
    samples = make_samples([(5, 3)] * 50)

    def order(seed, epoch):
        return [step.sample_indices for step in pack(samples, pack_length=64, seed=seed, epoch=epoch)]

    random.seed(1)
    first = order(0, 0)
    random.seed(2)
    assert order(0, 0) == first != order(0, 1) != order(1, 1)


def test_similar_lengths_share_a_pack():
    """Guards: first fit in random order, which leaves half-empty packs."""
    samples = make_samples([(60, 4), (6, 2), (60, 4), (7, 1), (30, 2), (31, 1)])
    [step] = pack(samples, pack_length=64)
    assert sorted(map(sum, (one.lengths for one in step.packs))) == [
        14,
        62,
        63,
        63,
    ]  # less each target's last token, which is a label alone


@pytest.mark.parametrize(
    "sample, words",
    [
        (Sample((1,) * 60, (1,) * 5), "sample 0 has 65 tokens and pack_length is 64"),
        (Sample((), (1, 2)), "sample 0 has an empty prompt"),
    ],
)
def test_what_cannot_be_packed_is_refused(sample, words):
    """Guards: a silent cut; a first token predicted from nothing, whose label would fall on the sample before."""
    with pytest.raises(InputError, match=words):
        pack([sample], pack_length=64)


@pytest.mark.parametrize(
    "family, dtype, tolerance",
    [*((family, torch.float64, 1e-9) for family in FAMILIES), ("llama3.1", torch.float32, 1e-5)],
)
@settings(max_examples=4, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 8)), min_size=1, max_size=9),
    instructions=INSTRUCTIONS,
    seed=st.integers(0, 99),
)
def test_packed_loss_and_gradients_equal_separate_samples(family, dtype, tolerance, lengths, instructions, seed):
    """Guards: attention or positions across samples, a label lost at a border, a wrong divisor. Relative: float64 1e-9, float32 1e-5."""
    model = decoder(family, dtype)
    add_lora(model, rank=3, seed=4)
    parameters = [parameter for _, parameter in lora_parameters(model)]
    for number, parameter in enumerate(parameters):
        parameter.data = (
            torch.randn(parameter.shape, dtype=dtype, generator=torch.Generator().manual_seed(number)) * 0.1
        )
    samples = make_samples(lengths, seed, instructions)
    total, divisor = torch.zeros((), dtype=dtype), sum(len(one.target_ids) for one in samples)
    for one in samples:  # one by one, unpacked, with the loss written out
        ids = torch.tensor([[*one.prompt_ids, *one.target_ids]])
        log_p = model(ids)[0].log_softmax(-1)
        for place, token in enumerate(one.target_ids, len(one.prompt_ids)):
            total = total - log_p[place - 1, token] / divisor
    expected = torch.autograd.grad(total, parameters)
    [step] = pack(samples, pack_length=60, batch_size=len(samples))
    loss = forward_backward(model, step, torch.device("cpu"))
    assert loss == pytest.approx(total.item(), rel=tolerance)
    scale = max(gradient.abs().max() for gradient in expected)
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert (parameter.grad - gradient).abs().max() <= tolerance * scale


def test_masked_loss_is_its_definition():
    """Guards: a mean in place of the sum, logits in bfloat16, ignored positions counted."""
    logits, labels = torch.randn(7, 11), torch.tensor([3, IGNORE, 0, 10, IGNORE, 5, 5])
    expected = -sum(
        logits.double()[t].log_softmax(-1)[label] for t, label in enumerate(labels.tolist()) if label != IGNORE
    )
    assert masked_loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
    assert masked_loss(logits.bfloat16(), labels).dtype == torch.float32
    assert masked_loss(logits.double(), labels).dtype == torch.float64
    assert masked_loss(logits, torch.full((7,), IGNORE)) == 0


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_logits_in_chunks_change_nothing(rows, monkeypatch):
    """Guards: a chunk's loss or gradient lost, the last short chunk; gradients of a trained output projection."""
    monkeypatch.setattr(train, "LOGIT_ROWS", rows)
    head = torch.nn.Linear(6, V, bias=False, dtype=torch.float64)
    x = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(V, (10,))
    masked_loss(head(2 * x), labels).div(5).backward()
    expected = x.grad.clone(), head.weight.grad.clone()
    x.grad = head.weight.grad = None
    loss = train.target_loss(head, 2 * x, labels, 5)
    torch.testing.assert_close(loss, masked_loss(head(2 * x), labels) / 5)
    for found, wanted in zip((x.grad, head.weight.grad), expected, strict=True):
        torch.testing.assert_close(found, wanted)
