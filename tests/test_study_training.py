"""Pretraining of the embedded model: Muon, the stream of samples, resuming."""

import json
import random
from collections import Counter

import pytest
import torch

from minscl.config import DEMO
from minscl.data.jsonl import read_jsonl
from minscl.data.prompts import render_document_target
from minscl.data.types import CodedDocument, Pair
from minscl.model import load_tokenizer
from study import error_injection, pretrain, stream
from study.muon import Muon, orthogonalise
from study.pretrain import STEP
from study.stream import PairPool, Source, Stream

SHARES = {"text": 0.3, "document": 0.4, "span": 0.3}
TINY_SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16
)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(DEMO)


@pytest.fixture(scope="module")
def make_stream(tokenizer):
    """make_stream(shares, seed=0, replaced=0.5): a Stream of the documents and spans bundled with the package."""
    documents, pairs = read_jsonl(DEMO / "documents.jsonl", CodedDocument), read_jsonl(DEMO / "spans.jsonl", Pair)
    texts = [document.text for document in documents[:8]]

    def make(shares, seed=0, replaced=0.5):
        sources = [Source("bundled", documents, 1.0, replaced)]
        phrases = frozenset(pair.evidence.lower() for pair in pairs)
        return Stream(
            tokenizer, texts, sources, PairPool([(pairs, 1.0)]), lambda progress: shares, seed, phrases=phrases
        )

    return make


@pytest.mark.parametrize("shape", [(3, 24, 96), (3, 96, 24), (1, 48, 48)])
def test_orthogonalise(shape):
    """Guards: wrong coefficients, the long side's Gram matrix, singular vectors that change."""
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    if shape[1] == shape[2]:  # a random square matrix is nearly singular; five iterations do not reach 1 from there
        matrices = matrices + 10 * torch.eye(shape[1])
    result = orthogonalise(matrices)
    singular = torch.linalg.svdvals(result)
    assert result.shape == shape and singular.min() > 0.6 and singular.max() < 1.25
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    rotated = left.mT @ result @ right.mT  # diagonal where the singular vectors are kept
    assert (rotated - torch.diag_embed(rotated.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3
    assert not orthogonalise(torch.zeros(1, 4, 8)).any()


@pytest.mark.long
def test_muon_equals_torch():
    """Guards: momentum, Nesterov, the factor of the update, decoupled decay, parameters of one shape mixed up. The
    reference computes in bfloat16, hence the tolerance."""
    torch.manual_seed(0)
    starts = [torch.randn(24, 96), torch.randn(24, 96), torch.randn(40, 16)]
    ours, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    settings = dict(lr=0.05, momentum=0.95, weight_decay=0.1)
    optimizers = Muon(ours, **settings), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for start, a, b in zip(starts, ours, theirs, strict=True):
        assert (a - b).norm() < 0.02 * (b - start).norm()
    assert {key for state in optimizers[0].state.values() for key in state} == {"momentum_buffer"}


def test_a_step_depends_on_seed_and_number_alone(make_stream):
    """Guards: a random state that is carried from step to step, so that a resumed run reads other samples."""
    first = make_stream(SHARES)
    steps = [first.samples(number, 0.5) for number in range(3)]
    again = make_stream(SHARES)
    assert again.samples(2, 0.5) == steps[2] and again.samples(0, 0.5) == steps[0] != steps[1]
    assert make_stream(SHARES, seed=1).samples(0, 0.5) != steps[0]


def test_shares_of_a_step(make_stream):
    """Guards: a kind that takes the tokens of another, steps of another size."""
    tokens, steps = Counter(), 12
    samples = make_stream(SHARES)
    for number in range(steps):
        for sample in samples.samples(number, 0.3):
            tokens[sample.kind] += len(sample)
    assert set(tokens) == set(SHARES)
    for kind, share in SHARES.items():
        assert tokens[kind] / (steps * STEP["cpu"].tokens) == pytest.approx(share, rel=0.15)


def test_pairs_are_drawn_by_code():
    """Guards: a code with many phrases that drives out the others, the weights of the groups."""
    common = [Pair(f"phrase {number}", "I10", "gold") for number in range(49)] + [Pair("gout", "M10.9", "gold")]
    pool, rng = PairPool([(common, 3.0), ([Pair("fever", "R50.9", "gold")], 1.0)]), random.Random(0)
    counts = Counter(pool.draw(rng).code for _ in range(4000))
    assert {code: count / 4000 for code, count in counts.items()} == pytest.approx(
        {"I10": 0.75 * 7 / 8, "M10.9": 0.75 / 8, "R50.9": 0.25}, abs=0.03
    )


def test_descriptions_have_no_label(make_stream, tokenizer, monkeypatch):
    """Guards: labels on descriptions, a code, a number or a line break without one."""
    monkeypatch.setattr(stream, "DESCRIPTIONS_UNLABELLED", 1.0)
    monkeypatch.setattr(error_injection, "LINE_ERROR_RATES", (0.0,))
    samples = make_stream({"span": 0.05, "document": 0.2}, replaced=0.0).samples(0, 1.0)
    documents = {
        render_document_target(document): document for document in read_jsonl(DEMO / "documents.jsonl", CodedDocument)
    }
    kinds = Counter()
    for sample in samples:
        target = tokenizer.decode([token if token >= 0 else ~token for token in sample.target_ids])
        labelled = tokenizer.decode([token for token in sample.target_ids if token >= 0])
        if sample.kind == "span":
            assert labelled == target.split()[0]
            kinds["span"] += 1
        elif target in documents:
            expected = target
            for code in documents[target].codes:
                expected = expected.replace(f"{code.code} {code.description}", code.code)
            assert labelled == expected
            kinds["document"] += 1
    assert kinds["span"] > 3 and kinds["document"]


def test_an_interrupted_run_ends_as_an_uninterrupted_one(make_stream, tokenizer, tmp_path, monkeypatch):
    """Guards: momentum or AdamW's state lost, a step repeated or skipped, another learning rate, a doubled record."""
    run = dict(total=6, decay=3, seed=3, gentle=4)
    samples = make_stream({"document": 0.02, "span": 0.02, "text": 0.02}, seed=3)

    def start():
        return pretrain.new_model(tokenizer.vocab_size, 3, **TINY_SHAPE)

    whole, out = tmp_path / "whole", tmp_path / "interrupted"
    whole.mkdir()
    out.mkdir()
    pretrain.pretrain(samples, start(), whole, **run)
    save = pretrain.save_checkpoint

    class Interrupted(Stream):
        def samples(self, step, progress):
            if step == 5:
                raise KeyboardInterrupt
            return samples.samples(step, progress)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "save_checkpoint", lambda folder, step, *rest: step == 3 and save(folder, step, *rest))
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(Interrupted.__new__(Interrupted), start(), out, save_seconds=-1, **run)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000003"]
    pretrain.pretrain(samples, start(), out, **run)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    losses = [
        [(record["step"], record["loss"]) for record in map(json.loads, (folder / "metrics.jsonl").open())]
        for folder in (whole, out)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 6
