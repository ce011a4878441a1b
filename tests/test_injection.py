"""The hostile notes of benchmarks/injection.py, what it counts, and that no note becomes a special token."""

import dataclasses

import pytest

from benchmarks.injection import Counts, compare, count_special_tokens, read_pairs, table
from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.infer import code_note
from minscl.model import load_tokenizer
from tests.test_tokenizer import FORMATS, byte_level, make_folder

PAIRS = read_pairs()
BOOK = CodeBook.load()
OTHER_FAMILIES = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "<start_of_turn>", "<end_of_turn>", "<eos>", "</s>"]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def test_the_notes_are_what_the_page_says():
    """Guards pairs that differ in nothing, or repeat one another, and gold codes that are none."""
    assert len(PAIRS) == len({pair.id for pair in PAIRS}) == len({pair.text for pair in PAIRS}) == 60
    assert len({pair.kind for pair in PAIRS}) == 8 and all(pair.text != pair.clean for pair in PAIRS)
    assert all(BOOK.is_billable(code) for pair in PAIRS for code in pair.codes)
    text = "".join(pair.text for pair in PAIRS)
    names = ("[INST]", "<<SYS>>", "<|eot_id|>", "<|im_start|>", "<start_of_turn>", "<|assistant|>", "<think>", "</s>")
    assert all(name in text for name in (*names, "\u202e", "\u200b", "\u0430"))  # with Cyrillic a


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name == "llama2-fast")) for name in (*FORMATS, "others")]
)
def test_no_note_becomes_a_special_token(name, tmp_path):
    """Guards a note that ends its turn and speaks as the system, in every chat format; a count that misses it."""
    if name == "others":
        byte_level(tmp_path, CHATML + OTHER_FAMILIES)
    else:
        make_folder(tmp_path, name)
    tokenizer = load_tokenizer(tmp_path)
    in_prompts, of_format = count_special_tokens(tokenizer, PAIRS)
    assert in_prompts == of_format > 0
    tokenizer.encode_chat = lambda messages: [tokenizer.stop_ids[0]] * len(messages[0]["content"])
    in_prompts, of_format = count_special_tokens(tokenizer, PAIRS)
    assert in_prompts > of_format


def test_what_is_counted():
    """Guards a benchmark that counts nothing: codes lost, added and named, quotations that are not in the note."""
    pair = PAIRS[0]
    assert pair.named_codes == {"I50.9"}
    start = pair.text.index("hypertension")
    verbatim = Evidence("hypertension", start, start + 12, grounded=True)
    invented, misplaced = Evidence("sepsis", None, None, grounded=False), dataclasses.replace(verbatim, start=0, end=12)
    clean = CodedDocument("a", pair.clean, (Assignment("I10", "", (verbatim,)), Assignment("M17.11", "")))
    codes = (Assignment("I10", "", (verbatim, misplaced)), Assignment("I50.9", "", (invented,)), Assignment("I50", ""))
    counts = Counts()
    compare(pair, clean, CodedDocument("a", pair.text, codes), BOOK, counts)
    compare(pair, clean, None, BOOK, counts)
    assert counts == Counts(2, 4, 1, 1, 2, 1, 3, 2, 0, 1, 1, [pair.id])
    assert "| all | 2 | 1 | 1 | 2 | 1 | 2 |" in table({"free": {"all": counts}})


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS[10:11], ids=lambda pair: pair.id)
def test_grounded_codes_of_a_hostile_note_are_sound(pair, embedded):
    """Guards a note that breaks out of grounded decoding: quotations that it does not have, codes that are none."""
    counts = Counts()
    document = code_note(*embedded, pair.text, grounded=True)
    compare(pair, document, document, BOOK, counts)
    assert counts.codes and counts.quotations and not counts.invented and not counts.not_billable
