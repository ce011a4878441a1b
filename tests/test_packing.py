"""Packing changes nothing: every sample once, and packed loss and gradients are the sum over samples one by one."""

import random
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.data import Sample, pack
from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Pack, Step
from minscl.errors import InputError
from minscl.lora import add_lora, lora_parameters
from minscl.model import SharedPrefixMask
from minscl.training import loop
from minscl.training.loop import forward_backward
from tests.tiny_models import FAMILIES, V, decoder


def make_samples(lengths, seed=0, instructions=((),)):
    """Samples of (prompt length, target length); each prompt begins with one of `instructions`, in turn."""
    rng = random.Random(seed)
    return [
        Sample(
            (*instructions[number % len(instructions)], *(rng.randrange(V) for _ in range(prompt_length))),
            tuple(rng.randrange(V) for _ in range(target_length)),
        )
        for number, (prompt_length, target_length) in enumerate(lengths)
    ]


LENGTHS = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 12)), min_size=1, max_size=40)
INSTRUCTIONS = st.sampled_from(
    [((),), (tuple(range(20)),), (tuple(range(20)), tuple(range(12)) + (99,) * 3, ()), (tuple(range(7)),)]
)


def unpack(packed):
    """(prompt_ids, target_ids) of every sample of a pack, read from its segments and labels."""
    mask = SharedPrefixMask(packed.lengths, packed.parents)
    tensors = (packed.input_ids, packed.positions, packed.labels)
    segments = list(zip(*(tensor.split(packed.lengths) for tensor in tensors), strict=True))
    for segment in range(len(packed.lengths)):
        if segment in packed.parents:  # a shared prefix: nothing in it is trained
            assert set(segments[segment][2].tolist()) == {IGNORE}
            continue
        path = [segments[index] for index in (*mask.ancestors(segment), segment)]
        ids, positions, labels = (torch.cat(parts).tolist() for parts in zip(*path, strict=True))
        assert positions == list(range(len(ids)))
        trained = [t for t in range(len(ids)) if labels[t] != IGNORE]
        assert trained == list(range(trained[0], len(ids))) and all(labels[t] == ids[t + 1] for t in trained[:-1])
        yield tuple(ids[: trained[0] + 1]), tuple(labels[trained[0] :])


@settings(max_examples=150, deadline=None)
@given(LENGTHS, INSTRUCTIONS, st.integers(62, 120), st.integers(1, 16), st.integers(0, 3))
def test_every_sample_once_an_epoch_and_nothing_cut(lengths, instructions, pack_length, batch_size, epoch):
    """Guards: samples dropped, repeated or cut; packs too long; wrong labels; a prefix shared by the wrong samples."""
    samples = make_samples(lengths, instructions=instructions)
    steps = pack(samples, pack_length=pack_length, batch_size=batch_size, seed=1, epoch=epoch)
    assert sorted(index for step in steps for index in step.sample_indices) == list(range(len(samples)))
    assert all(len(step.sample_indices) == batch_size for step in steps[:-1])
    for step in steps:
        members = [samples[index] for index in step.sample_indices]
        assert step.target_tokens == sum(len(sample.target_ids) for sample in members)
        assert step.tokens == sum(map(len, members)) >= step.computed_tokens
        assert all(len(packed.input_ids) == sum(packed.lengths) <= pack_length for packed in step.packs)
        assert sorted(pair for packed in step.packs for pair in unpack(packed)) == sorted(
            (sample.prompt_ids, sample.target_ids) for sample in members
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
    samples = [Sample(header + spans + (300 + number, 400 + number), (1, 2, 3)) for number in range(12)]
    samples += [Sample(header + notes + tuple(range(first, first + 60)), (1, 2)) for first in (500, 600)]
    [step] = pack(samples, pack_length=4096)
    assert step.computed_tokens == 20 + 40 + 12 * 4 + 30 + 2 * 61
    [packed] = step.packs
    assert packed.parents.count(-1) == 1 and len(set(packed.parents)) == 4


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
    lengths = sorted(sum(packed.lengths) for packed in step.packs)
    assert lengths == [14, 62, 63, 63]  # less each target's last token, which is only a label


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
    """Guards: attention or positions across samples, a label lost at a border, a wrong divisor.

    Relative tolerance: float64 1e-9, float32 1e-5.
    """
    model = decoder(family, dtype)
    add_lora(model, rank=3, seed=4)
    parameters = [parameter for _, parameter in lora_parameters(model)]
    for number, parameter in enumerate(parameters):
        parameter.data = (
            torch.randn(parameter.shape, dtype=dtype, generator=torch.Generator().manual_seed(number)) * 0.1
        )
    samples = make_samples(lengths, seed, instructions)
    total, target_tokens = torch.zeros((), dtype=dtype), sum(len(sample.target_ids) for sample in samples)
    for sample in samples:  # one by one, unpacked, with the loss written out
        ids = torch.tensor([[*sample.prompt_ids, *sample.target_ids]])
        log_p = model(ids)[0].log_softmax(-1)
        for position, token in enumerate(sample.target_ids, len(sample.prompt_ids)):
            total = total - log_p[position - 1, token] / target_tokens
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


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_logits_in_chunks_change_nothing(chunk, monkeypatch):
    """Guards: a chunk's loss or gradient lost, the last short chunk; gradients of a trained output projection."""
    monkeypatch.setattr(loop, "LOGIT_CHUNK", chunk)
    head = torch.nn.Linear(6, V, bias=False, dtype=torch.float64)
    x = torch.randn(10, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(V, (10,))
    expected_loss = masked_loss(head(2 * x), labels) / 5
    expected_loss.backward()
    expected_gradients = x.grad.clone(), head.weight.grad.clone()
    x.grad = head.weight.grad = None
    model = types.SimpleNamespace(model=lambda *args, **kwargs: (2 * x)[None], lm_head=head)  # hidden states: 2 x
    packed = Pack(torch.arange(10), torch.arange(10), labels, lengths=(10,), parents=(-1,))
    step = Step((packed,), sample_indices=(0,), target_tokens=5, tokens=10)
    loss = forward_backward(model, step, torch.device("cpu"))
    assert loss == pytest.approx(expected_loss.item(), rel=1e-7)
    for gradient, expected in zip((x.grad, head.weight.grad), expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected)
