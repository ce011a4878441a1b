"""Continuous batching: whatever is admitted when, an answer is the one its prompt gets alone; shared prefixes are read
once; memory is bounded. test_coding_runs.py has whole runs over many notes."""

import logging
from array import array

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.config import DEMO
from minscl.data.types import Note
from minscl.errors import InputError
from minscl.infer import cache as cache_module
from minscl.infer import cuda_graph as cuda_graph_module
from minscl.infer import passes
from minscl.infer.cache import KVCache
from minscl.infer.coder import code_notes
from minscl.infer.decode import generate, greedy
from minscl.infer.engine import Engine, Request
from minscl.infer.sampling import Sampler
from minscl.pretrained import load_pretrained
from tests.tiny_models import V, decoder, make_prompts

MODEL, MODEL64 = decoder(), decoder(dtype=torch.float64)
STOP_IDS = (3, 11, 40)
SHARED = make_prompts((30,))[0]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.lists(st.integers(0, V - 1), min_size=1, max_size=40), st.integers(1, 12)),
        min_size=1,
        max_size=9,
    ),
    st.integers(1, 4),
    st.sampled_from([7, 64, 4096]),
    st.sampled_from([2, 16, 256]),
    st.booleans(),
)
@pytest.mark.slow
def test_an_answer_is_the_one_its_prompt_gets_alone(prompts, slots, tokens_a_pass, growth, grows):
    """Guards: an answer in another's slot, a shared prefix longer than what was read, prompts cut at a pass, results
    under wrong indices, and keys lost, or padding seen, where the cache grows (not in float32, so in float64)."""
    model = MODEL64 if grows else MODEL
    requests = [Request(SHARED[:shared] + own, max_new_tokens) for shared, own, max_new_tokens in prompts]
    before = passes.MAX_PREFILL_TOKENS, cache_module.CACHE_GROWTH
    passes.MAX_PREFILL_TOKENS, cache_module.CACHE_GROWTH = tokens_a_pass, growth
    try:
        engine = Engine(model, slots=slots, length=90, stop_ids=STOP_IDS)
        answers = dict(engine.run(iter(requests)))
    finally:
        passes.MAX_PREFILL_TOKENS, cache_module.CACHE_GROWTH = before
    assert sorted(answers) == list(range(len(requests))) and not engine.active and engine.cache.grows == grows
    for index, request in enumerate(requests):
        answer = answers[index]
        [alone] = greedy(model, [request.prompt], max_new_tokens=request.max_new_tokens, stop_ids=STOP_IDS)
        assert (answer.ids, answer.stopped, answer.forwards) == (alone.ids, alone.stopped, alone.forwards)
        assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)


class ForcingGuide:
    """Forces two tokens now and then, so that a slot's next pass reads several."""

    closed_by_limit = finished = False

    def __init__(self):
        self.ids = []

    def forced(self):
        return [5, 7] if len(self.ids) % 4 == 2 else []

    def allowed(self, stop_ids):
        return array("q", range(20, V))

    def advance(self, token):
        self.ids.append(token)


@pytest.mark.parametrize("slots", [1, 3])
def test_a_cuda_graph_s_pass_gives_the_same_answers(slots, monkeypatch):
    """Guards (computed here instead of replayed): a position of an earlier answer that is seen, a slot that another
    kind of pass wrote, a width that is too narrow or does not grow."""
    monkeypatch.setattr(cuda_graph_module, "WIDTH_STEP", 16)

    def requests():
        prompts, limits = make_prompts((3, 30, 12, 25, 7)), (20, 5, 30, 12, 25)
        for index, (prompt, max_new_tokens) in enumerate(zip(prompts, limits, strict=True)):
            yield Request(prompt, max_new_tokens, ForcingGuide() if index % 2 else None)

    answers = {}
    for cuda_graphs in (False, True):
        engine = Engine(MODEL, slots=slots, length=60, stop_ids=STOP_IDS)
        engine.graphs = cuda_graph_module.Graphs(MODEL, engine.cache) if cuda_graphs else None
        answers[cuda_graphs] = {index: (a.ids, a.stopped, a.forwards) for index, a in engine.run(requests())}
    assert answers[True] == answers[False]
    assert len({width for _, width in engine.graphs.graphs}) > 1


def test_a_prompt_is_admitted_as_soon_as_another_is_finished():
    """Guards: batches that wait for their last answer; a request taken before there is room for it."""
    taken = []

    def requests():
        for index, max_new_tokens in enumerate([12, 1, 2, 1, 3]):
            taken.append(index)
            yield Request(make_prompts((9,))[0] + [index], max_new_tokens)

    engine, order = Engine(MODEL, slots=2, length=40, stop_ids=()), []
    for index, _ in engine.run(requests()):
        order.append(index)
        assert len(taken) <= len(order) + 2
    assert order == [1, 2, 3, 4, 0]


def test_answers_are_reported_as_they_grow():
    """Guards streaming: a report under another request's index, a last token that is never reported, and a reader that
    has gone away but cannot end the run."""
    prompts, reports = make_prompts((9, 30, 17)), {0: [], 1: [], 2: []}

    def report(index, ids):
        reports[index].append(list(ids))

    engine = Engine(MODEL, slots=2, length=60, stop_ids=STOP_IDS, on_tokens=report)
    answers = dict(engine.run(Request(prompt, 12) for prompt in prompts))
    for index, growing in reports.items():
        assert growing[-1] == answers[index].ids
        assert all(later[: len(earlier)] == earlier for earlier, later in zip(growing, growing[1:], strict=False))

    def leave(index, ids):
        raise InterruptedError

    engine = Engine(MODEL, slots=2, length=60, stop_ids=STOP_IDS, on_tokens=leave)
    with pytest.raises(InterruptedError):
        dict(engine.run(Request(prompt, 12) for prompt in prompts))


def test_a_shared_prefix_is_read_once():
    """Guards: the instruction read again for each note, a note again for each question about it."""
    note = make_prompts((80,))[0]
    questions = [note + [number] * 5 for number in range(12)]
    engine, counts = Engine(MODEL, slots=4, length=100, stop_ids=()), []
    handle = MODEL.model.embed_tokens.register_forward_hook(
        lambda module, inputs, output: counts.append(inputs[0].numel())
    )
    answers = dict(engine.run(Request(question, 1) for question in questions))
    handle.remove()
    assert (engine.prompt_tokens, engine.computed_tokens) == (12 * 85, 85 + 11 * 5)
    assert sum(counts) == engine.computed_tokens  # with one new token each, only prompts are read
    alone = generate(MODEL, questions, max_new_tokens=1, stop_ids=(), batch_size=1)
    assert [answers[index].ids for index in range(12)] == alone


@pytest.mark.parametrize("slots", [1, 3])
def test_samples_depend_on_their_seed_alone(slots):
    """Guards: one random state for a whole batch; a draft or a slot that changes what is drawn."""
    prompts = make_prompts((5, 9, 5, 14, 30, 6))

    def sample(slots, drafters, seeds=range(6)):
        requests = [
            Request(prompt, 20, sampler=Sampler(0.9, 0.95, seed), drafter=drafter)
            for prompt, drafter, seed in zip(prompts, drafters, seeds, strict=True)
        ]
        answers = dict(Engine(MODEL, slots=slots, length=60, stop_ids=STOP_IDS).run(requests))
        return [answers[index] for index in range(6)]

    plain = sample(6, [None] * 6)
    wrong = sample(slots, [lambda ids: [1, 2, 3]] * 6)
    right = sample(slots, [lambda ids, answer=answer.ids: answer[len(ids) :] for answer in plain])
    ids = [answer.ids for answer in plain]
    assert ids == [answer.ids for answer in wrong] == [answer.ids for answer in right]
    assert sum(answer.forwards for answer in right) < sum(answer.forwards for answer in plain)
    assert ids != [answer.ids for answer in sample(6, [None] * 6, [99] * 6)]


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (1.3, 0.8), (1e-6, 1.0), (1.0, 1e-6)])
def test_samples_follow_the_distribution(temperature, top_p):
    """Guards: logits multiplied by the temperature, the token that crosses top_p lost, probabilities not renormalised.
    Chi-square, 99.9%."""
    logits = torch.tensor([1.2, -0.3, 0.0, 2.0, -5.0, 1.9])
    expected = (logits.double() / temperature).softmax(-1)
    nucleus, total = [], 0.0
    for token in expected.argsort(descending=True).tolist():  # the naive nucleus: most probable first until top_p
        if total < top_p:
            nucleus.append(token)
        total += float(expected[token])
    expected = torch.tensor([float(expected[token]) if token in nucleus else 0.0 for token in range(6)])
    expected /= expected.sum()
    sampler, draws = Sampler(temperature, top_p, 5), 6000
    counts = torch.bincount(torch.tensor([sampler(logits) for _ in range(draws)]), minlength=6).float()
    assert counts[expected == 0].sum() == 0
    inside = expected > 1e-3
    chi_square = ((counts - draws * expected)[inside] ** 2 / (draws * expected[inside])).sum()
    assert chi_square < 20.6  # 5 degrees of freedom


@pytest.mark.slow
def test_fewer_slots_where_memory_is_short(caplog):
    """Guards: a cache larger than its budget, a note that can never fit that stops the others, silence about either."""
    model, tokenizer = load_pretrained(DEMO)
    notes = [
        Note("a", "Hypertension.\n"),
        Note("b", "GERD and anemia.\n" * 3),
        Note("big", "word " * 4000),
        Note("empty", " \n"),
        Note("c", "Anxiety.\n"),
    ]
    memory, skipped = 2 * KVCache.bytes_per_slot(model.config, 1400, torch.float32), {}

    def skip(note, error):
        skipped[note.id] = str(error)

    with caplog.at_level(logging.WARNING, logger="minscl"):
        limited = list(code_notes(model, tokenizer, notes, memory=memory, skip=skip))
    assert [document.id for document in limited] == ["a", "b", "c"] and list(skipped) == ["big", "empty"]
    assert "the note is empty" in skipped["empty"] and "2 answers at a time instead of 3" in caplog.text
    unlimited = list(code_notes(model, tokenizer, [notes[0], notes[1], notes[4]]))
    assert [document.output for document in limited] == [document.output for document in unlimited]
    limited_scores, scores = ([code.score for d in documents for code in d.codes] for documents in (limited, unlimited))
    assert limited_scores == pytest.approx(scores, abs=1e-5)
    with pytest.raises(InputError, match="the note needs .* MiB for the keys and values of .* tokens, and 1 MiB are"):
        list(code_notes(model, tokenizer, notes[:1], memory=2**20))
