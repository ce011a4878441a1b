"""Which notes fit into the model's context, and that an enormous one is refused before it is tokenised."""

import dataclasses
import types

import pytest

from minscl.data.types import Note
from minscl.errors import InputError
from minscl.infer.jobs import FIRST_CHARACTERS, MAX_COMPOSITION, exceeds_context, make_jobs, note_prompt
from minscl.infer.systems import SCL


class CountingTokenizer:
    """The embedded model's tokenizer; counts the characters that it tokenises."""

    def __init__(self, tokenizer):
        self.tokenizer, self.characters = tokenizer, 0

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def encode(self, text):
        self.characters += len(text)
        return self.tokenizer.encode(text)

    def encode_chat(self, messages, add_generation_prompt=True):
        self.characters += sum(len(message["content"]) for message in messages)
        return self.tokenizer.encode_chat(messages, add_generation_prompt)


def model_of(context):
    return types.SimpleNamespace(config=types.SimpleNamespace(context_length=context))


def test_an_enormous_note_is_refused_by_its_beginning(embedded):
    """Guards gigabytes of memory, and a killed process, for a log file named by mistake."""
    tokenizer = CountingTokenizer(embedded[1])
    note = Note("log", "Fever and cough, day 3. BP 120/80.\n" * 10**6)
    with pytest.raises(InputError, match="log: the note makes a prompt of 35,000,[0-9]{3} characters, more than the "):
        note_prompt(model_of(512), tokenizer, note)
    assert tokenizer.characters == FIRST_CHARACTERS * 512


def test_enormous_evidence_is_refused_too(embedded):
    """Guards the same by --evidence."""
    tokenizer = CountingTokenizer(embedded[1])
    with pytest.raises(InputError, match="log: the evidence .* more than the model's context"):
        note_prompt(model_of(512), tokenizer, Note("log", "Fever."), evidence=[f"day {day}" for day in range(10**5)])
    assert tokenizer.characters < 20_000


class LongTokens:
    """A tokenizer with a token for ten blanks and one for each other character."""

    def encode(self, text):
        return [0] * (len(text.replace(" " * 10, "x")))

    def pieces(self):
        return [None, b" " * 10, b"a"]


def test_a_note_that_may_fit_is_not_refused():
    """Guards a bound below what the longest tokens can hold: 99 tokens of ten blanks, 16 · 100 characters and more."""
    tokenizer, model = LongTokens(), model_of(100)
    assert not exceeds_context(model, tokenizer, " " * 990)
    assert not exceeds_context(model, tokenizer, " " * 1900)  # too long, but only tokenising it tells
    assert exceeds_context(model, tokenizer, " " * (MAX_COMPOSITION * 1000 + 1))
    assert exceeds_context(model, tokenizer, "a" * 1601)


def test_the_context_that_yarn_opens_holds_longer_notes(embedded):
    """Guards notes refused beyond max_position_embeddings, where the model card opens four times as much."""
    model, tokenizer = embedded
    note = Note("n", "Patient admitted with chest pain. " * 40)
    tokens = len(note_prompt(model, tokenizer, note))
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    config = dataclasses.replace(model.config, max_position_embeddings=128)
    yarn = dataclasses.replace(config, rope=dataclasses.replace(config.rope, **rope))
    assert 128 < tokens < 512 == yarn.context_length

    def jobs(config):
        [job] = make_jobs(types.SimpleNamespace(config=config), tokenizer, [note], SCL, {}, False, None, None)
        return job

    assert jobs(yarn).length == 512
    with pytest.raises(InputError, match="the model's context holds 128"):
        jobs(config)
