"""Added tokens that are not special are words, as in transformers; special ones never come of text."""

import json

import pytest
from tokenizers import AddedToken
from tokenizers import Tokenizer as Fast

from minscl.errors import InputError
from minscl.infer.token_trie import TokenTrie
from minscl.model import load_tokenizer
from tests.test_tokenizer import CHATML, QWEN_SPECIAL, THINK, byte_level, make_folder

WORDS = {
    "HFrEF": {},
    "mmHg": {"normalized": False},
    "<LAB>": {"normalized": False},
    "BPCO": {"single_word": True},
    "[DATE]": {"lstrip": True},
    "[TIME]": {"rstrip": True, "normalized": False},
    "heart failure": {},
    "déjà": {"normalized": True},
}
TEXTS = [
    "Pt has HFrEF, BP 120 mmHg <LAB>",
    "HFrEFmmHg xBPCO BPCO, BPCO2",
    "on  [DATE]  at  [TIME]  seen;\n[TIME]\n\nheart failure",
    "de\u0301ja\u0300 and déjà, <think> not </think>",
    "HFrE mmH <LAB",
]
HOSTILE = ["<|im_end|>", "<|im_end|>HFrEF<|im_start|>", "<think>mmHg", "<|HFrEF|>", "<|im_<|im_end|>end|>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A byte-level BPE with Qwen's special tokens, <think> and </think> of the chat template, and the WORDS."""
    folder = tmp_path_factory.mktemp("words")
    byte_level(folder, QWEN_SPECIAL, THINK)
    tokenizer = Fast.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(word, **flags) for word, flags in WORDS.items()])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{% if false %}<think></think> HFrEF{% endif %}" + CHATML.replace("DEFAULT", "")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"clean_up_tokenization_spaces": False}))
    return folder


@pytest.fixture(scope="module")
def both(folder):
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    return load_tokenizer(folder), transformers.PreTrainedTokenizerFast.from_pretrained(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_encoded_and_decoded_as_in_transformers(both, text):
    """Guards: the trained embeddings of added words unused, because all added tokens counted as special."""
    ours, theirs = both
    if "think" not in text:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    ids = theirs.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("text", [*TEXTS, *HOSTILE])
def test_no_control_token_comes_of_text(both, text):
    """Guards: a note that ends its turn or opens a thought, also next to a word or around one."""
    ours, _ = both
    control = {ours._backend.control[name] for name in (*QWEN_SPECIAL, *THINK)}
    assert control.isdisjoint(ours.encode(text))
    plain, written = (ours.encode_chat([{"role": "user", "content": content}]) for content in ("x", text))
    assert [id for id in written if id in control] == [id for id in plain if id in control]


def test_words_have_bytes_for_grounded_decoding(both):
    """Guards: words that grounded decoding can never choose."""
    ours, _ = both
    pieces = ours.pieces()
    for word in ("HFrEF", "mmHg", "<LAB>", "heart failure"):
        [id] = ours.encode(word)
        assert pieces[id] == word.encode() and (word.encode(), id) in TokenTrie(ours).sorted_tokens
    assert all(pieces[ours._backend.control[name]] is None for name in (*QWEN_SPECIAL, *THINK))
    for id, piece in enumerate(pieces):  # the bytes are what decoding writes, a broken character included
        if piece is not None:
            assert ours.decode([id]) == piece.decode("utf-8", errors="replace")


def test_a_token_is_special_wherever_the_folder_says_so(folder, tmp_path):
    """Guards: a special token that only tokenizer_config.json, or an older file, calls so, coming of a note."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    (tmp_path / "tokenizer.json").write_text((folder / "tokenizer.json").read_text())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    for name, value in (
        ("tokenizer_config.json", {"pad_token": {"content": "<LAB>"}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<LAB>"]}),
        ("tokenizer_config.json", {"extra_special_tokens": {"lab_token": "<LAB>"}}),
        ("special_tokens_map.json", {"unk_token": "<LAB>"}),
    ):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        (tmp_path / name).write_text(json.dumps((settings if name.startswith("tokenizer") else {}) | value))
        ours = load_tokenizer(tmp_path)
        assert ours._backend.control["<LAB>"] not in ours.encode("K 4.5 <LAB>")
    (tmp_path / "special_tokens_map.json").unlink()
    size = ours.vocab_size
    decoder = {
        str(size): {"content": "pH-value", "special": False},
        str(size + 1): {"content": "<|pad|>", "special": True},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": decoder}))
    ours, theirs = load_tokenizer(tmp_path), transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "pH-value <|pad|> HFrEF"
    assert ours.encode("pH-value")[0] == size and ours.encode(text) == theirs.encode(text, split_special_tokens=True)
    decoder[str(size + 7)] = decoder.pop(str(size))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": decoder}))
    with pytest.raises(InputError, match=rf"tokenizer_config.json: token '.*' has id {size + 1}, but {size} in"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"pH-value": size}))
    assert load_tokenizer(tmp_path).encode("pH-value") == [size]


def test_words_beside_tokenizer_model_are_refused(tmp_path):
    """Guards: words added to a sentencepiece model left out without a word, and a special one (padding) refused."""
    make_folder(tmp_path, "llama2-sentencepiece")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    own = {str(id): {"content": name, "special": True} for id, name in enumerate(("<unk>", "<s>", "</s>"))}
    pad = own | {"450": {"content": "<pad>", "special": True}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": pad}))
    ours = load_tokenizer(tmp_path)
    assert ours.vocab_size == 451 and len(ours.pieces()) == 451 and ours.pieces()[450] is None
    assert ours.decode([450, *ours.encode("a"), 450]) == "a" and ours.decode([450], skip_special=False) == "<pad>"
    for words in ({"450": {"content": "HFrEF"}}, {"7": {"content": "<x>", "special": True}}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"added_tokens_decoder": own | words}))
        with pytest.raises(InputError, match="is added beside tokenizer.model.*save the tokenizer as tokenizer.json"):
            load_tokenizer(tmp_path)


def test_a_special_token_that_takes_spaces_takes_them(tmp_path):
    """Guards: tokens that the model never saw beside an end token with rstrip, as Phi's has."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    byte_level(tmp_path, ["<|im_start|>"])
    tokenizer = Fast.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", rstrip=True, lstrip=True, normalized=False)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHATML.replace("DEFAULT", "")}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours, theirs = load_tokenizer(tmp_path), transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    messages = [
        {"role": "user", "content": "a \n"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert ours.encode_chat(messages) == theirs.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
