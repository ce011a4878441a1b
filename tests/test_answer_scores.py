"""The probability of a code is that of its own tokens, also beside tokens of single bytes, against a naive count."""

import math
import random

import pytest

from minscl.infer.answer import code_probability
from minscl.infer.sequence import Generation
from minscl.model import load_tokenizer
from tests.test_tokenizer import make_folder

TEXTS = [
    "I50.23 β😀I10 naïve",
    "µ°I10 日本 E11.9🙂 \nI10",
    "🙂🙂🙂🙂 I50.23\n\n🙂I10\n",
    "I10",
]


@pytest.fixture(scope="module", params=["llama2-sentencepiece", "llama2-fast", "llama3"])
def tokenizer(request, tmp_path_factory):
    return load_tokenizer(make_folder(tmp_path_factory.mktemp("scores"), request.param))


def byte_tokens(tokenizer, text):
    """Ids of `text`, each byte beyond ASCII a token of its own, as for characters that the vocabulary lacks."""
    pieces = tokenizer.pieces()
    ids = []
    for letter in text:
        candidates = [letter.encode()] if letter.encode() in pieces else [bytes([byte]) for byte in letter.encode()]
        ids += [len(pieces) - 1 - pieces[::-1].index(byte) for byte in candidates]
    return ids


def naive(tokenizer, generation, text, start, end):
    """The product over the tokens that hold the last byte of one of the characters start..end."""
    pieces = tokenizer.pieces()
    owners = [index for index, id in enumerate(generation.ids) for _ in pieces[id]]  # of each byte
    written = b"".join(pieces[id] for id in generation.ids)
    owners = owners[len(written) - len(text.encode()) :]  # sentencepiece's first space is not in the text
    last_bytes = [len(text[: index + 1].encode()) - 1 for index in range(start, end)]
    return math.prod(generation.probabilities[index] for index in sorted({owners[byte] for byte in last_bytes}))


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("encode", ["words", "bytes"])
def test_a_code_has_the_probability_of_its_own_tokens(tokenizer, text, encode):
    """Guards: a decoded prefix that ends inside a character is longer than that part of the answer, so a bisection by
    its length took the tokens before or behind the code."""
    ids = tokenizer.encode(text) if encode == "words" else byte_tokens(tokenizer, text)
    assert tokenizer.decode(ids) == text
    numbers = random.Random(3)
    generation = Generation(ids, [numbers.uniform(0.2, 1.0) for _ in ids], True, 1)
    for code in ("I50.23", "E11.9", "I10"):
        start = text.find(code)
        while start >= 0:
            end = start + len(code)
            expected = naive(tokenizer, generation, text, start, end)
            assert code_probability(tokenizer, generation, start, end) == pytest.approx(expected)
            start = text.find(code, end)


def test_bytes_that_never_make_a_character_are_no_part_of_the_code(tokenizer):
    """Guards: half a character before or behind the code counted among its tokens."""
    half = tokenizer.pieces().index(b"\xe2")
    code = byte_tokens(tokenizer, "I10")
    ids = [half, *code, half]
    text = tokenizer.decode(ids)
    probabilities = [0.5, *(0.9 for _ in code), 0.4]
    start = text.index("I10")
    assert code_probability(tokenizer, Generation(ids, probabilities, True, 1), start, start + 3) == pytest.approx(
        0.729
    )
