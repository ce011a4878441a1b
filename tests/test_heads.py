"""Heads: attention against loops, windows against whole passes, the loss, the threshold, what evidence is made of."""

import itertools
import random

import pytest
import torch

from minscl.data.icd import CodeBook
from minscl.data.types import Pair
from minscl.heads import knowledge
from minscl.heads.cross_attention import LabelCrossAttention
from minscl.heads.evidence import att_in_grad, evidence_spans, token_offsets
from minscl.heads.label_attention import LabelAttention
from minscl.heads.notes import LabelledNote
from minscl.heads.threshold import DEFAULT, best_threshold
from minscl.heads.train import HeadStep, forward_backward
from minscl.heads.windows import OVERLAP, hidden_states, window_starts
from tests.tiny_heads import LABELS, head_model
from tests.tiny_models import decoder, make_prompts


def random_head(head):
    """`head` in float64 with random parameters, biases and norms included."""
    generator = torch.Generator().manual_seed(5)
    for parameter in head.double().parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return head


HIDDEN = torch.randn(9, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # (T, C)


def softmax(scores):
    exponentials = [score.exp() for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def test_label_attention_is_the_loop():
    """Guards: a softmax over codes instead of tokens, a projection transposed, an output of another code."""
    head = random_head(LabelAttention(6, 4))
    output = head(HIDDEN)
    for code in range(4):
        weights = softmax([head.queries[code] @ torch.tanh(head.projection @ state) for state in HIDDEN])
        vector = sum(weight * state for weight, state in zip(weights, HIDDEN, strict=True))
        assert torch.allclose(output.attention[code], torch.stack(weights))
        assert torch.allclose(output.label_vectors[code], vector)
        assert torch.allclose(output.logits[code], head.outputs[code] @ vector + head.biases[code])


@pytest.mark.parametrize("own_outputs", [False, True])
def test_cross_attention_is_the_loop(own_outputs):
    """Guards: keys and values swapped, scores divided by a root that the authors do not use, the norm left out."""
    head = random_head(LabelCrossAttention(6, 4, own_outputs=own_outputs))
    output = head(HIDDEN)
    for code in range(4):
        weights = softmax([head.queries[code] @ (head.key @ state) for state in HIDDEN])
        mixed = sum(
            weight * (head.value @ state + head.value_bias) for weight, state in zip(weights, HIDDEN, strict=True)
        )
        normed = (mixed - mixed.mean()) / (mixed.var(correction=0) + 1e-5).sqrt()
        vector = normed * head.norm_weight + head.norm_bias
        row = code if own_outputs else 0
        assert torch.allclose(output.attention[code], torch.stack(weights))
        assert torch.allclose(output.logits[code], head.outputs[row] @ vector + head.biases[row])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_windows_are_passes_of_their_own(bidirectional):
    """Guards: padding that is attended to, a token's state taken from the window that has seen less of it."""
    model, window = decoder(dtype=torch.float64), 16
    overlap = window // OVERLAP
    for length in (1, 7, 16, 17, 20, 28, 29, 50):
        [ids] = make_prompts([length])
        states = hidden_states(model, ids, window, bidirectional)
        expected = {}
        for start in window_starts(length, window, overlap):
            part = torch.tensor([ids[start : start + window]])
            mask = torch.ones(1, 1, part.shape[1], part.shape[1], dtype=torch.bool) if bidirectional else None
            with torch.inference_mode():
                alone = model.model(part, mask=mask)[0]
            for offset, state in enumerate(alone):
                has_more = offset >= overlap // 2 if bidirectional else False
                if start + offset not in expected or has_more:
                    expected[start + offset] = state
        assert torch.allclose(states, torch.stack([expected[token] for token in range(length)]), atol=1e-12)


def test_a_note_within_a_window_is_one_whole_pass():
    """Guards: a note that fits, cut all the same; attention that looks ahead, or --bidirectional that does not."""
    model, [ids] = decoder(dtype=torch.float64), make_prompts([40])
    with torch.inference_mode():
        whole = model.model(torch.tensor([ids]))[0]
    assert torch.allclose(hidden_states(model, ids, 40, False), whole, atol=1e-12)
    other_end = [*ids[:-1], (ids[-1] + 1) % 151]
    for bidirectional in (False, True):
        first, changed = (hidden_states(model, tokens, 40, bidirectional)[0] for tokens in (ids, other_end))
        assert torch.equal(first, changed) is not bidirectional


def test_windows_in_batches_are_the_same(monkeypatch):
    """Guards: windows lost or swapped where a long note is computed some at a time."""
    model, [ids] = decoder(dtype=torch.float64), make_prompts([100])
    monkeypatch.setattr("minscl.heads.windows.WINDOW_BATCH", 3)
    with torch.inference_mode():
        in_batches = hidden_states(model, ids, 16, True)
    assert torch.allclose(in_batches, hidden_states(model, ids, 16, True), atol=1e-12)


def naive_loss(model, notes):
    """The mean over notes of the mean over codes of binary cross-entropy."""
    total = 0.0
    for note in notes:
        for code, logit in enumerate(model(list(note.input_ids)).logits):
            probability = logit.sigmoid()
            total = total - (probability if code in note.labels else 1 - probability).log() / len(LABELS)
    return total / len(notes)


def test_the_loss_of_a_step_and_its_gradient():
    """Guards: a sum over codes, a divisor of one note instead of the step's, a gradient that is not the loss's."""
    model = head_model("plm-ca")
    model.decoder.requires_grad_(False)
    notes = [LabelledNote(tuple(ids), rows, "n") for ids, rows in zip(make_prompts([30, 5]), [(1, 3), ()], strict=True)]
    loss = forward_backward(model, HeadStep((0, 1), tuple(notes), (), 16), torch.device("cpu"))
    expected = naive_loss(model, notes)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for parameter in model.head.parameters():
        (gradient,) = torch.autograd.grad(expected, parameter, retain_graph=True)
        assert torch.allclose(parameter.grad, gradient)


def test_the_loss_with_guidance():
    """Guards: guidance that counts as a note of its own, a note without codes that is compared with nothing, a
    consistency term over other codes than the note's."""
    model = head_model("gki-icd")
    first, second, guide = make_prompts([30, 5, 12])
    notes = (LabelledNote(tuple(first), (1, 3), "n"), LabelledNote(tuple(second), (), "m"))
    loss = forward_backward(model, HeadStep((0, 1), notes, (guide, []), 16), torch.device("cpu"))
    guided = LabelledNote(tuple(guide), (1, 3), "g")
    entropies = [naive_loss(model, [note]).item() for note in (*notes, guided)]
    distances = []
    for code in (1, 3):
        a, b = (model(list(note.input_ids)).label_vectors[code] for note in (notes[0], guided))
        distances.append(1 - (a @ b / (a.norm() * b.norm())).item())
    expected = ((entropies[0] + entropies[2]) / 2 + entropies[1]) / 2 + knowledge.CONSISTENCY * sum(distances) / 2
    assert loss == pytest.approx(expected, rel=1e-6)


def test_guidance_says_each_code_once(monkeypatch):
    """Guards: codes without a synonym, the hierarchy of another code, a draw that a resumed run does not repeat."""
    book, codes = CodeBook.load(), ["E11.9", "I10"]
    monkeypatch.setattr(knowledge, "gold_pairs", lambda book: [Pair("high blood pressure", "I10", "gold")])
    expressions = knowledge.expressions_of(codes, book)
    assert expressions == {"I10": ["high blood pressure"], "E11.9": [book.description("E11.9")]}
    hierarchy = {code: knowledge.hierarchy_of(code, book) for code in codes}
    assert hierarchy["E11.9"].endswith("Diabetes mellitus, Type 2 diabetes mellitus") and "(" not in hierarchy["E11.9"]
    assert knowledge.hierarchy_of("Z99.999", book) == ""
    texts = {knowledge.guidance_text(codes, expressions, hierarchy, random.Random(seed)) for seed in range(8)}
    sentences = [f"{hierarchy[code]}, {expressions[code][0]}" for code in codes]
    assert texts == {". ".join(order) for order in itertools.permutations(sentences)}
    again = [knowledge.guidance_text(codes, expressions, hierarchy, random.Random(4)) for _ in range(2)]
    assert again[0] == again[1]


def test_the_threshold_is_the_best_of_all():
    """Guards: a grid that misses it, equal scores on both sides of a threshold, gold outside the labels forgotten."""
    rng = random.Random(0)
    for _ in range(30):
        scored = [(rng.choice([0.1, 0.25, 0.3, 0.5, 0.75, 0.9]), rng.random() < 0.4) for _ in range(12)]
        gold = sum(right for _, right in scored) + 2

        def micro_f1(threshold, scored=scored, gold=gold):
            assigned = [right for score, right in scored if score >= threshold]
            return 2 * sum(assigned) / (len(assigned) + gold)

        threshold, f1 = best_threshold(scored, gold)
        assert micro_f1(threshold) == pytest.approx(f1)
        assert f1 == pytest.approx(max(map(micro_f1, {score for score, _ in scored})))
    assert best_threshold([(0.7, False)], 3) == (DEFAULT, 0.0)
    assert best_threshold([], 0) == (DEFAULT, 0.0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_att_in_grad_is_its_definition(bidirectional):
    """Guards: gradients of one window only, of another code, a norm before the product. Every token occurs once, so its
    embedding's gradient is that of the row of the embedding table."""
    model, ids = head_model("plm-ca", window=16, bidirectional=bidirectional), random.Random(2).sample(range(151), 30)
    table = model.decoder.model.embed_tokens.weight
    attributions = att_in_grad(model, ids, [2, 0])
    for row, attribution in zip([2, 0], attributions, strict=True):
        output = model(ids)
        (gradient,) = torch.autograd.grad(output.logits[row], table)
        products = [
            weight * (table[token] * gradient[token]).norm()
            for weight, token in zip(output.attention[row], ids, strict=True)
        ]
        assert torch.allclose(attribution, torch.stack([value / sum(products) for value in products]).float())
    assert att_in_grad(model, ids, []).shape == (0, 30)
    assert not model.decoder.model.embed_tokens._forward_hooks


def test_token_offsets_are_characters(embedded):
    """Guards: offsets of bytes, a letter cut in two, a drift after accents, emoji or an unknown token."""
    _, tokenizer = embedded
    text = "Señora, 5 µg\u2009naïve 🫀 β-blocker;\n\nDM2\tand e\u0301 HTN"
    pieces = tokenizer.pieces()
    ids = tokenizer.encode(text)
    offsets = token_offsets(text, [pieces[token] for token in ids])
    assert {place for start, end in offsets for place in range(start, end)} == set(range(len(text)))
    assert offsets == sorted(offsets)  # two tokens that share a letter both have all of it
    for token, (start, end) in zip(ids, offsets, strict=True):
        decoded = tokenizer.decode([token])
        assert "\ufffd" in decoded or text[start:end] == decoded
    # sentencepiece puts a space before the text; a special token has no bytes
    assert token_offsets("HTN x", [b" HTN", None, b" x"]) == [(0, 3), (3, 3), (3, 5)]


def test_evidence_is_whole_words():
    """Guards: half a word as evidence, two words of one finding apart, weak tokens, more spans than asked for."""
    text = "Hypertension and heart failure, CKD; gout, COPD."
    offsets = [(0, 5), (5, 12), (12, 16), (16, 22), (22, 30), (30, 31), (31, 35), (36, 41), (42, 47)]

    def spans(*weights):
        return [text[start:end] for start, end in evidence_spans(text, offsets, weights)]

    assert spans(0.9, 0.1, 0, 0, 0, 0, 0, 0, 0) == ["Hypertension"]
    assert spans(0.1, 0.1, 0, 0.5, 0.4, 0, 0, 0, 0) == ["heart failure"]
    assert spans(0.8, 0, 0, 0.5, 0.5, 0, 0.7, 0.6, 0.9) == ["Hypertension", "CKD", "COPD"]
    assert spans(*[0.0] * 9) == [] and evidence_spans("", [], []) == []
