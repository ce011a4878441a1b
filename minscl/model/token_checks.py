"""What a tokenizer.json may say that the tokenizers package takes badly: it panics, with lines of its own on stderr, or
runs until memory ends. Refused here, before the package reads it.

Read next: token_backends.py.
"""

import math
from typing import Any

from minscl.errors import InputError
from minscl.settings import Settings

MAX_GROWTH = 256  # times as long as a text may become; Llama 3's byte-level BPE: 4
_STEPS = ("normalizers", "pretokenizers", "decoders")  # the keys under which a Sequence has its steps


def check_model(model: Settings) -> None:
    """Raises InputError for a prefix of WordPiece, and for a merge of BPE whose result is no token: both make the
    package panic."""
    if model.string("continuing_subword_prefix", default=""):
        raise model.error("continuing_subword_prefix", "empty, as in byte-level BPE and sentencepiece's")
    vocabulary, merges = model.values.get("vocab"), model.values.get("merges")
    if not isinstance(vocabulary, dict) or not isinstance(merges, list):
        return  # the package says what is wrong
    for number, merge in enumerate(merges):
        pair = merge.split(" ") if isinstance(merge, str) else merge
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
        if is_pair and "".join(pair) not in vocabulary:
            raise InputError(
                f"{model.source}: merges: number {number} makes a token that vocab does not have; {model.remedy}"
            )


def check_growth(document: Settings) -> None:
    """Raises InputError where normalizer and pre-tokenizer, or the decoder, make a text more than MAX_GROWTH times as
    long: thirty steps that double it fill any memory."""
    for keys in (("normalizer", "pre_tokenizer"), ("decoder",)):
        if math.prod(_growth(document.values.get(key)) for key in keys) > MAX_GROWTH:
            raise InputError(
                f"{document.source}: {' and '.join(keys)} make a text more than {MAX_GROWTH} times as long; "
                f"{document.remedy}"
            )


def _growth(step: Any) -> int:
    """How many times longer a text may become by a step, in characters; at most a little over MAX_GROWTH is told."""
    if not isinstance(step, dict):
        return 1
    product = 4 if step.get("type") == "ByteLevel" else 1  # bytes of a character
    if step.get("type") == "Replace" and isinstance(step.get("content"), str):
        product = max(1, len(step["content"]))
    for key in _STEPS:
        for inner in step[key] if isinstance(step.get(key), list) else ():
            product = min(product * _growth(inner), 2 * MAX_GROWTH)
    return product
