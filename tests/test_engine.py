"""Continuous batching: whatever is admitted when, an answer is the one its prompt gets alone; what prompts share is read once; memory is bounded."""

import copy
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minscl.config import DEMO
from minscl.data.answer_log import AnswerLog
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.infer import cache as cache_module
from minscl.infer import cuda_graph as compiled
from minscl.infer import engine as engine_module
from minscl.infer.cache import KVCache
from minscl.infer.coder import code_notes
from minscl.infer.decode import generate, greedy
from minscl.infer.engine import Engine, Request
from minscl.infer.linear import RowLinear, lay_out
from minscl.infer.sequence import Sampler
from minscl.pretrained import load_pretrained
from tests.tiny_models import V, decoder, make_prompts

MODEL, WIDE = decoder(), decoder(dtype=torch.float64)
STOPS = (3, 11, 40)
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
def test_an_answer_is_the_one_its_prompt_gets_alone(asked, slots, tokens_a_pass, piece, grows):
    """Guards: an answer in another's slot, a shared beginning that is longer than what was read, prompts cut at a pass, results under wrong numbers,
    and keys lost, or padding seen, where the cache grows (not in float32, so in float64)."""
    model = WIDE if grows else MODEL
    requests = [Request(SHARED[:common] + own, room) for common, own, room in asked]
    before = engine_module.PASS, cache_module.PIECE
    engine_module.PASS, cache_module.PIECE = tokens_a_pass, piece
    try:
        engine = Engine(model, slots=slots, length=90, stop_ids=STOPS)
        found = dict(engine.run(iter(requests)))
    finally:
        engine_module.PASS, cache_module.PIECE = before
    assert sorted(found) == list(range(len(requests))) and not engine.live and engine.cache.grows == grows
    for number, one in enumerate(requests):
        [alone] = greedy(model, [one.prompt], max_new_tokens=one.max_new_tokens, stop_ids=STOPS)
        assert (found[number].ids, found[number].stopped, found[number].forwards) == (
            alone.ids,
            alone.stopped,
            alone.forwards,
        )
        assert found[number].probabilities == pytest.approx(alone.probabilities, abs=1e-5)


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize(
    "kind",
    ["recorded", pytest.param("compiled", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler"))],
)
def test_a_prepared_pass_writes_the_same(kind, slots, monkeypatch):
    """Guards: compiled.py's passes (a CUDA graph's is computed here instead of replayed): a place of an earlier answer that is seen, a slot that another
    pass wrote, an extent that is too narrow or that stays what it was when the pass was compiled."""
    monkeypatch.setattr(compiled, "EXTENT", 16)
    if kind == "recorded":
        monkeypatch.setattr(engine_module, "prepared", compiled.Graphs)

    class Urging:
        """A guide that now and then writes two tokens by itself, so that a slot's next pass reads several."""

        closed_by_limit = finished = False

        def __init__(self):
            self.ids = []

        def forced(self):
            return [5, 7] if len(self.ids) % 4 == 2 else []

        def allowed(self, stop_ids):
            return list(range(20, V))

        def advance(self, token):
            self.ids.append(token)

    def requests():
        for number, (prompt, room) in enumerate(
            zip(make_prompts((3, 30, 12, 25, 7)), (20, 5, 30, 12, 25), strict=True)
        ):
            yield Request(prompt, room, Urging() if number % 2 else None)

    found, rowwise = {}, copy.deepcopy(MODEL)
    lay_out(rowwise, RowLinear)
    for way in (False, True):
        engine = Engine(
            rowwise if way and kind == "compiled" else MODEL, slots=slots, length=60, stop_ids=STOPS, compile=way
        )
        found[way] = {number: (one.ids, one.stopped, one.forwards) for number, one in engine.run(requests())}
    assert found[True] == found[False]
    if kind == "recorded":
        assert len({extent for _, extent in engine.prepared.graphs}) > 1


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_what_a_compiled_pass_cannot_repeat_is_refused():
    """Guards: products that torch's compiler leaves to a library, here nn.Linear's, missing from the pass that is repeated."""
    with pytest.raises(InputError, match="other numbers"):
        Engine(MODEL, slots=1, length=60, stop_ids=(), compile=True)


def test_a_prompt_is_admitted_as_soon_as_another_is_finished():
    """Guards: batches that wait for their last answer; a request taken from the iterator before there is room for it."""
    taken = []

    def requests():
        for number, room in enumerate([12, 1, 2, 1, 3]):
            taken.append(number)
            yield Request(make_prompts((9,))[0] + [number], room)

    engine, order = Engine(MODEL, slots=2, length=40, stop_ids=()), []
    for number, answer in engine.run(requests()):
        order.append(number)
        assert len(taken) <= len(order) + 2
    assert order == [1, 2, 3, 4, 0]


def test_what_prompts_share_is_read_once():
    """Guards: the instruction read anew for each note, a note anew for each question about it."""
    note = make_prompts((80,))[0]
    questions = [note + [number] * 5 for number in range(12)]
    engine = Engine(MODEL, slots=4, length=100, stop_ids=())
    seen, answers = [], {}
    handle = MODEL.model.embed_tokens.register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].numel())
    )
    answers = dict(engine.run(Request(one, 1) for one in questions))
    handle.remove()
    assert (engine.asked, engine.computed) == (12 * 85, 85 + 11 * 5) and sum(
        seen
    ) == engine.computed  # one new token each: prompts alone are read
    assert [answers[number].ids for number in range(12)] == generate(
        MODEL, questions, max_new_tokens=1, stop_ids=(), batch_size=1
    )


@pytest.mark.parametrize("slots", [1, 3])
def test_samples_depend_on_their_seed_alone(slots):
    """Guards: one random state for a whole batch; a draft or a slot that changes what is drawn."""
    prompts = make_prompts((5, 9, 5, 14, 30, 6))
    draw = lambda slots, drafters: dict(
        Engine(MODEL, slots=slots, length=60, stop_ids=STOPS).run(  # noqa: E731
            [
                Request(prompt, 20, sampler=Sampler(0.9, 0.95, seed), drafter=draft)
                for seed, (prompt, draft) in enumerate(zip(prompts, drafters))
            ]
        )
    )
    one = draw(6, [None] * 6)
    wrong = draw(slots, [lambda ids: [1, 2, 3]] * 6)
    right = draw(slots, [lambda ids, whole=one[number].ids: whole[len(ids) :] for number in range(6)])
    assert [a.ids for a in one.values()] and {n: a.ids for n, a in one.items()} == {
        n: a.ids for n, a in wrong.items()
    } == {n: a.ids for n, a in right.items()}
    assert sum(a.forwards for a in right.values()) < sum(a.forwards for a in one.values())
    other = dict(
        Engine(MODEL, slots=6, length=60, stop_ids=STOPS).run(
            Request(prompt, 20, sampler=Sampler(0.9, 0.95, 99)) for prompt in prompts
        )
    )
    assert [other[n].ids for n in range(6)] != [one[n].ids for n in range(6)]


@pytest.mark.parametrize("temperature, top_p", [(1.0, 1.0), (0.5, 1.0), (1.3, 0.8), (1e-6, 1.0), (1.0, 1e-6)])
def test_samples_follow_the_distribution(temperature, top_p):
    """Guards: temperature multiplied for divided, the token that crosses top_p lost, probabilities not brought back to 1. Chi-square, 99.9%."""
    logits = torch.tensor([1.2, -0.3, 0.0, 2.0, -5.0, 1.9])
    expected = (logits.double() / temperature).softmax(-1)
    order = expected.argsort(descending=True)
    kept, total = [], 0.0
    for token in order.tolist():  # the naive nucleus: likeliest first until top_p is reached
        if total < top_p:
            kept.append(token)
        total += float(expected[token])
    expected = torch.tensor([float(expected[token]) if token in kept else 0.0 for token in range(6)])
    expected /= expected.sum()
    sampler, draws = Sampler(temperature, top_p, 5), 6000
    counts = torch.bincount(torch.tensor([sampler(logits) for _ in range(draws)]), minlength=6).float()
    assert counts[expected == 0].sum() == 0
    inside = expected > 1e-3
    chi = ((counts - draws * expected)[inside] ** 2 / (draws * expected[inside])).sum()
    assert chi < 20.6  # 5 degrees of freedom


def test_one_bad_file_among_several_is_skipped(tmp_path):
    """Guards: ten thousand text files of which none is coded because one is empty."""
    for name, content in (("a.txt", b"Hypertension."), ("b.txt", b""), ("c.txt", b"caf\xe9"), ("d.txt", b"Anxiety.")):
        (tmp_path / name).write_bytes(content)
    run = coding(
        *(tmp_path / name for name in ("a.txt", "b.txt", "c.txt", "d.txt", "missing.txt")),
        "--out",
        tmp_path / "out.jsonl",
    )
    out, err = run.communicate(timeout=120)
    assert run.returncode == 2 and [json.loads(line)["id"] for line in lines_of(tmp_path / "out.jsonl")] == [
        str(tmp_path / "a.txt"),
        str(tmp_path / "d.txt"),
    ]
    assert err.count("skipped: ") == 3 and "3 of 5 notes were skipped" in err and "Traceback" not in err


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
    room = KVCache.bytes_per_slot(model.config, 1400, torch.float32)
    skipped = {}
    with caplog.at_level(logging.WARNING, logger="minscl"):
        short = list(
            code_notes(
                model, tokenizer, notes, memory=2 * room, skip=lambda note, error: skipped.update({note.id: str(error)})
            )
        )
    assert [one.id for one in short] == ["a", "b", "c"] and list(skipped) == ["big", "empty"]
    assert "the note is empty" in skipped["empty"] and "2 answers at a time instead of 3" in caplog.text
    whole = list(code_notes(model, tokenizer, [notes[0], notes[1], notes[4]]))
    assert [one.output for one in short] == [one.output for one in whole]
    assert [code.score for one in short for code in one.codes] == pytest.approx(
        [code.score for one in whole for code in one.codes], abs=1e-5
    )
    with pytest.raises(
        InputError, match="the note needs .* MiB for the keys and values of .* tokens, and 1 MiB are available"
    ):
        list(code_notes(model, tokenizer, notes[:1], memory=2**20))


def coding(*arguments):
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  a shell's background job would ignore Ctrl-C, and so would its children
    return subprocess.Popen(
        [sys.executable, "-m", "minscl.generate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )


def write_notes(path, texts):
    path.write_text("".join(json.dumps({"id": f"n{number}", "text": text}) + "\n" for number, text in enumerate(texts)))


def test_one_bad_note_is_skipped_and_said(tmp_path):
    """Guards: a month's notes lost for one, a bad note without its id, exit status 0."""
    write_notes(tmp_path / "notes.jsonl", ["Hypertension.\n", "", "Anemia.\n"])
    done = coding(tmp_path / "notes.jsonl", "--out", tmp_path / "out.jsonl")
    out, err = done.communicate(timeout=300)
    assert (
        done.returncode == 2
        and out == ""
        and "skipped: n1: the note is empty" in err
        and "1 of 3 notes were skipped, the first is n1" in err
    )
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [CodedDocument.from_dict(json.loads(line)).id for line in lines] == ["n0", "n2"]


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    """Guards: notes coded twice or never after Ctrl-C and kill -9, a torn line kept, an old answer for a text that has changed."""
    texts = [f"{number} days of cough. Hypertension, GERD and anxiety.\n" for number in range(9)]
    write_notes(tmp_path / "notes.jsonl", texts)
    arguments = (tmp_path / "notes.jsonl", "--out", tmp_path / "out.jsonl", "--batch-size", 2)
    for how in (signal.SIGINT, signal.SIGKILL):
        before = len(lines_of(tmp_path / "out.jsonl"))
        run = coding(*arguments)
        while run.poll() is None and len(lines_of(tmp_path / "out.jsonl")) < before + 2:
            time.sleep(0.02)
        run.send_signal(how)
        run.communicate(timeout=60)
        assert all(line.endswith("\n") and json.loads(line) for line in lines_of(tmp_path / "out.jsonl"))
    kept = lines_of(tmp_path / "out.jsonl")
    with open(tmp_path / "out.jsonl", "a") as handle:
        handle.write('{"id": "n8", "te')  # a write that the kill cut short
    last = coding(*arguments)
    assert last.wait(timeout=300) == 0, last.stderr.read()
    assert lines_of(tmp_path / "out.jsonl")[: len(kept)] == kept and len(kept) < 9
    whole = coding(arguments[0], "--out", tmp_path / "whole.jsonl", "--batch-size", 2)
    assert whole.wait(timeout=300) == 0
    found, wanted = ([json.loads(line) for line in lines_of(tmp_path / name)] for name in ("out.jsonl", "whole.jsonl"))
    scores = [[code.pop("score") for one in documents for code in one["codes"]] for documents in (found, wanted)]
    assert found == wanted and scores[0] == pytest.approx(
        scores[1], abs=1e-5
    )  # who shared a pass with whom may change a last digit
    write_notes(tmp_path / "notes.jsonl", ["Another text.\n"])
    changed = coding(*arguments)
    assert changed.wait(timeout=60) == 2 and "n0 was coded from another text" in changed.stderr.read()


def lines_of(path) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def test_a_journal_survives_any_cut(tmp_path):
    """Guards: a cut inside a letter or a line, a whole line taken for a torn one, two runs at once."""
    records = [Note(str(number), "naïve 日本\n" * (number + 1)) for number in range(6)]
    path, rng = tmp_path / "journal.jsonl", random.Random(0)
    with AnswerLog(path, Note) as journal:
        journal.append(records)
    whole = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == 10]
    for cut in [0, 1, len(whole), *ends, *rng.sample(range(len(whole)), 40)]:
        path.write_bytes(whole[:cut])
        with AnswerLog(path, Note) as journal:
            assert journal.records == records[: sum(end <= cut for end in ends)]
            with pytest.raises(InputError, match="another run is writing it"):
                AnswerLog(path, Note)
            journal.append(records[len(journal.records) :])
        assert path.read_bytes() == whole
