"""What grounded decoding computes once, or from where the answer last changed, against the plain way: every token found
by a walk over the automaton, every answer encoded as a whole."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minscl.data.icd import CodeBook
from minscl.data.prompts import quotation_reads_back
from minscl.infer import answer_grammar
from minscl.infer.constrained import MIN_FORCED_BYTES, Guide
from minscl.infer.quotable import is_read_as_evidence
from minscl.infer.sequence import log_sum_exp
from minscl.model import load_tokenizer
from tests.test_constrained import MAX_NEW_TOKENS, NOTE
from tests.test_tokenizer import make_folder

KINDS = ("minscl", "llama3", "qwen2.5", "llama2-sentencepiece", "llama2-sentencepiece-new", "llama2-fast")
NOTES = (NOTE, "COVID, HTN. HTN: HTN, a a a (b) [1]; cafe\u0301", "x" * 130 + " end. DM2 " + "naïve " * 40)


class PlainGuide(Guide):
    """The plain way: transitions and whole answers only, nothing kept. It is slow."""

    def allowed(self, stop_ids):
        self._check_budget()
        tokens, stack = list(stop_ids) if self.automaton.may_end(self.state) else [], [(self.trie.root, self.state)]
        while stack:
            node, state = stack.pop()
            ending, children = self.trie.children(node)
            tokens += ending
            for byte, after in self.automaton.transitions(state).items() if children else ():
                if byte in children:
                    stack.append((children[byte], after))
        return tokens

    def advance(self, token):
        piece = self.trie.token_bytes[token] or b""
        self.answer.append(token)
        for byte in piece:
            self.state = self.automaton.transitions(self.state)[byte]

    def forced(self):
        self._check_budget()
        state, text = self.state, b""
        while not self.automaton.may_end(state) and len(transitions := self.automaton.transitions(state)) == 1:
            [(byte, state)] = transitions.items()
            text += bytes([byte])
        tokens = self.tokenise(text) if len(text) >= MIN_FORCED_BYTES else []
        for byte in self.automaton.transitions(state) if tokens else ():
            longer = self.tokenise(text + bytes([byte])) or tokens[:-1]
            tokens = [a for index, a in enumerate(tokens) if tokens[: index + 1] == longer[: index + 1]]
        return tokens

    def tokenise(self, text):
        tokenizer, whole = self.answer.tokenizer, self.answer.text + text
        try:
            ids = tokenizer.encode_answer_start(whole.decode()[bool(tokenizer.chat.before_answer) :])
        except UnicodeDecodeError:
            return []
        tokens = ids[len(self.ids) :]
        spelled = b"".join(self.trie.token_bytes[token] or b"" for token in tokens)
        return tokens if ids[: len(self.ids)] == self.ids and spelled == text else []


def at_random(rng, pieces, stop_ids):
    """Any token."""
    return lambda allowed: rng.choice(allowed)


def in_long_tokens(rng, pieces, stop_ids):
    """Rather long tokens, so that most words are split as the tokenizer splits them, and much is forced."""
    return lambda allowed: max(rng.choices(allowed, k=6), key=lambda token: len(pieces[token] or b""))


def in_few_codes(rng, pieces, stop_ids):
    """Short quotations, then codes that begin with U, until none is left."""

    def rank(token):
        piece = pieces[token] or b""
        return (token in stop_ids, b"U" not in piece and b"\n" not in piece and b"C" not in piece, rng.random())

    return lambda allowed: min(allowed, key=rank)


@pytest.mark.parametrize("kind", KINDS)
def test_allowed_and_forced_tokens_are_those_of_the_plain_way(kind, tmp_path, monkeypatch):
    """Guards: a token set of another note, of another code's prefix or of before the limit was near; a code that has
    been written; a cut in the answer across which tokens merge; an offset lost in a word or a long quotation."""
    tokenizer = load_tokenizer(make_folder(tmp_path, kind))
    stop_ids, pieces = frozenset(tokenizer.stop_ids), tokenizer.pieces()
    forced_tokens = lines = 0
    cases = [
        (note, choose, {"reference_first": order})
        for note in NOTES
        for choose, order in ((at_random, True), (in_long_tokens, True), (in_long_tokens, False), (in_few_codes, True))
    ]
    cases += [(NOTE, at_random, {"evidence": ["DM2", "cafe\u0301", "heart failure"]})]
    cases += [(NOTE, in_long_tokens, {"quotations_only": True})]
    for seed, (note, choose, arguments) in enumerate(cases * 3):
        monkeypatch.setattr(answer_grammar, "MAX_QUOTATION_BYTES", 30 if seed % 2 else 300)
        guide, plain = (cls(tokenizer, note, MAX_NEW_TOKENS, **arguments) for cls in (Guide, PlainGuide))
        pick = choose(random.Random(seed), pieces, stop_ids)
        while True:
            forced = guide.forced()
            assert forced == plain.forced(), (arguments, guide.answer.text)
            forced_tokens += len(forced)
            for token in forced:
                guide.advance(token)
                plain.advance(token)
            assert guide.state == plain.state and guide.finished == plain.finished
            if guide.finished:
                break
            allowed = guide.allowed(stop_ids)
            assert list(allowed) == sorted(plain.allowed(stop_ids)), (arguments, guide.answer.text)
            token = pick(allowed)
            if token in stop_ids:
                break
            guide.advance(token)
            plain.advance(token)
        lines += guide.answer.text.count(b"\n")
    assert forced_tokens > 300 and lines > 60


@pytest.mark.parametrize("kind", ["minscl", "llama3", "llama2-fast"])
def test_a_letter_whose_codes_are_all_written_is_not_allowed(kind, tmp_path):
    """Guards: U allowed after all three codes of its chapter, U07 after both of its codes, a dead end."""
    tokenizer, book = load_tokenizer(make_folder(tmp_path, kind)), CodeBook.load()
    guide, plain = (cls(tokenizer, NOTE, MAX_NEW_TOKENS, ["DM2"]) for cls in (Guide, PlainGuide))
    codes = book.billable_below("U")
    lines = "".join(f"[1] {code} {book.description(code)}\n" for code in codes)
    ids = tokenizer.encode_answer_start(f"Evidence:\n1. DM2\nCodes:\n{lines}[1] E11.9")
    while len(guide.ids) < len(ids):
        allowed = plain.allowed(())
        assert list(guide.allowed(())) == sorted(allowed)
        for each in (guide, plain):
            each.advance(ids[len(each.ids)])
        if guide.answer.text.endswith(b"\n[1]") and guide.answer.text.count(b"[1]") == len(codes) + 1:
            spelled = {tokenizer.pieces()[token].strip()[:1] for token in guide.allowed(())}
            assert b"U" not in spelled
    assert len(codes) == 3 and guide.answer.text.endswith(b"E11.9")


def test_forced_tokens_do_not_merge_with_what_follows(tmp_path):
    """Guards W07.XXXA as .XX and XA where the tokenizer has it as one token: more than the last forced token may merge
    with the next byte."""
    from study.tokenizer import train_tokenizer

    train_tokenizer([".".join(["XA"] * 4 + ["XX", "XXXA"] * 3)] * 9, tmp_path, vocab_size=300)
    tokenizer = load_tokenizer(tmp_path)
    guide = Guide(tokenizer, "A fall.", MAX_NEW_TOKENS, evidence=["fall"])
    for token in tokenizer.encode("[1] W07"):
        guide.advance(token)
    whole = tokenizer.encode_answer_start("Evidence:\n1. fall\nCodes:\n[1] W07.XXXA")
    assert guide.ids == whole[: len(guide.ids)]
    assert len(tokenizer.encode("XXXA")) == 1 and len(tokenizer.encode("XXX")) == 2
    assert guide.forced() == tokenizer.encode(".")


PARTS = ("none", "***", ".", "Evidence", "codes", ":", "final", "1.", "-", "HTN", "-> I10", "(I10)", '"', "**", "[2]")


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), st.integers(1, answer_grammar.MAX_LINES))
def test_what_the_parser_returns_unchanged_it_reads_as_evidence(parts, number):
    """Guards a quotation that Grammar.ended lets end after asking only whether its line is returned unchanged."""
    for text in ("".join(parts), " ".join(parts)):
        assert is_read_as_evidence(text) or not quotation_reads_back(number, text)


@pytest.mark.parametrize("shift", [0.0, 60.0, 100.0, -60.0, -200.0])
def test_log_sum_exp_is_that_of_torch(shift):
    """Guards: logits whose exponentials are beyond float32's range, and NaN or infinity taken for a number."""
    rows = torch.randn(3, 999, generator=torch.Generator().manual_seed(0)) * 4 + shift
    torch.testing.assert_close(torch.tensor(log_sum_exp(rows)), rows.logsumexp(-1))
    for value in (float("nan"), float("inf")):
        damaged = rows.clone()
        damaged[1, 7] = value
        sums = torch.tensor(log_sum_exp(damaged))
        assert not sums[1].isfinite() and sums[[0, 2]].isfinite().all()
