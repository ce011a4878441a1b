"""Tokenizers and chat formats against transformers' `apply_chat_template`, id for id, on tiny tokenizers trained here.

The templates are the families' own, reduced to system, user and assistant turns (no tools).
"""

import json

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Fast
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from minscl.errors import InputError
from minscl.model import load_tokenizer
from study.tokenizer import SPECIAL, train_tokenizer

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + "
    "message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
LLAMA31 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content'] | trim %}{%- set messages = "
    "messages[1:] %}"
    "{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: ' + "
    "date_string + '\n\n' + system + '<|eot_id|>' }}"
    "{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
LLAMA32 = LLAMA31.replace(
    "set date_string = '26 Jul 2024'",
    "set date_string = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024'",
)
CHATML = (
    "{% for message in messages %}DEFAULT{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SYSTEM = (
    "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nPROMPT<|im_end|>\n' }}{% endif %}"
)
QWEN2 = CHATML.replace("DEFAULT", SYSTEM.replace("PROMPT", "You are a helpful assistant."))
QWEN25 = CHATML.replace(
    "DEFAULT", SYSTEM.replace("PROMPT", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
)
QWEN3 = (
    "{%- set ns = namespace(last=-1) %}{%- for message in messages %}{%- if message.role == 'user' %}{%- set "
    "ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}{%- if message.role == 'assistant' and loop.index0 > ns.last and loop.last %}"
    "{{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' + message.content.lstrip('\n') + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and "
    "enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)
LLAMA3_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
THINK = ["<think>", "</think>"]
FORMATS = {
    "llama2-fast": LLAMA2,
    "llama2-metaspace": LLAMA2,
    "llama2-sentencepiece": LLAMA2,
    "llama2-sentencepiece-new": LLAMA2,
    "llama3": LLAMA3,
    "llama3.1": LLAMA31,
    "llama3.2": LLAMA32,
    "qwen2": QWEN2,
    "qwen2.5": QWEN25,
    "qwen3": QWEN3,
    "minscl": None,
}
CORPUS = [
    (
        "Code this note in ICD-10-CM. Acute systolic (congestive) heart failure, 45% EF; A1c of 9.4.\nsystem user "
        "assistant [INST] [/INST] <<SYS>> <</SYS>>"
    ),
    (
        "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 You are Qwen, created by Alibaba Cloud. You are "
        "a helpful assistant."
    ),
    "naïve café, ß 日本語 emoji 🙂 <s> </s> <|eot_id|> <think>",
] * 6
CONVERSATIONS = [
    [("user", "Pt with DM2.\nA1c of 9.4")],
    [("system", "Be brief."), ("user", "  HFrEF, EF 25%\n\n")],
    [("user", "note"), ("assistant", "I50.9 Heart failure"), ("user", "another\n note")],
    [("system", "Code."), ("user", "naïve café 🙂"), ("assistant", "Evidence:\nnone\nCodes:\nnone")],
    [("user", "\n\nleading lines"), ("assistant", "\nx ")],
]


def byte_level(folder, special, plain_added=()):
    """A byte-level BPE like Llama 3's and Qwen's; `plain_added` are added tokens that are not special: <think>."""
    from tokenizers import AddedToken

    tokenizer = Fast(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in plain_added])
    tokenizer.save(str(folder / "tokenizer.json"))


def sentence_piece(folder):
    """A sentencepiece BPE with byte fallback like Llama 2's."""
    (folder / "corpus.txt").write_text("\n".join(CORPUS * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=450,
        model_type="bpe",
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )


def convert_to_json(folder, settings, metaspace):
    """Replace tokenizer.model by a tokenizer.json, in either of the two forms that transformers' conversion has had."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    converted = json.loads(transformers.AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str())
    if metaspace:
        pre_tokenizer = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
        converted["pre_tokenizer"] = pre_tokenizer
    else:
        converted["pre_tokenizer"] = None
        converted["normalizer"] = {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        }
    (folder / "tokenizer.json").write_text(json.dumps(converted))
    (folder / "tokenizer.model").unlink()


def make_folder(folder, name):
    """`folder` with the tokenizer and the chat template of the format `name`."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": FORMATS[name],
        "clean_up_tokenization_spaces": False,
    }
    if name.startswith("llama2"):
        sentence_piece(folder)
        settings |= {
            "tokenizer_class": "LlamaTokenizer",
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "legacy": not name.endswith("new"),
        }
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        if name.endswith(("fast", "metaspace")):
            convert_to_json(folder, settings, metaspace=name.endswith("metaspace"))
            settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    elif name == "minscl":
        train_tokenizer(CORPUS, folder, vocab_size=400)
        return folder
    elif name.startswith("llama3"):
        byte_level(folder, LLAMA3_SPECIAL)
        settings |= {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    else:
        byte_level(folder, QWEN_SPECIAL, THINK if name == "qwen3" else ())
        settings |= {"eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module", params=FORMATS)
def folder(request, tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def both(folder):
    """(minscl's tokenizer, transformers') of the same folder."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    kind = transformers.AutoTokenizer if (folder / "tokenizer.model").exists() else transformers.PreTrainedTokenizerFast
    return load_tokenizer(folder), kind.from_pretrained(folder)


def as_messages(conversation):
    return [{"role": role, "content": content} for role, content in conversation]


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_chat_ids_equal_transformers(both, conversation):
    """Guards: a header, line break, space or default system message that the family was not trained on."""
    ours, theirs = both
    for generation in (True, False):
        expected = theirs.apply_chat_template(
            as_messages(conversation),
            tokenize=True,
            add_generation_prompt=generation,
            enable_thinking=False,
            date_string="26 Jul 2024",
            return_dict=False,
        )
        assert ours.encode_chat(as_messages(conversation), add_generation_prompt=generation) == expected


@pytest.mark.parametrize(
    "text",
    ["Acute\nheart  failure, EF 25%", "two  spaces, one at the end ", "naïve café 🙂 日本語", "tab\tand\r\nCRLF"],
)
def test_plain_text_ids_equal_transformers(both, text):
    """Guards: a normaliser or a space prefix lost with the special tokens.

    Texts that begin with a space are not compared: sentencepiece puts another space first, transformers' conversion
    does not.
    """
    ours, theirs = both
    assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


def test_prompt_and_answer_are_the_whole_conversation(folder):
    """Guards: a training target tokenised otherwise than the template would be at generation."""
    ours = load_tokenizer(folder)
    question, answer = {"role": "user", "content": "Pt with DM2."}, "Evidence:\n1. DM2\nCodes:\nE11.9 Type 2 [1]"
    whole = ours.encode_chat([question, {"role": "assistant", "content": answer}], add_generation_prompt=False)
    prompt_ids, answer_ids = ours.encode_chat([question]), ours.encode_answer(answer)
    ids = prompt_ids + answer_ids
    assert ids == whole[: len(ids)] and whole[len(ids) :] in ([], ours.encode("\n"))
    assert ids[-1] in ours.stop_ids
    start = ours.encode_answer_start("Evidence:\n1. DM2\nCodes:\n")
    assert start == answer_ids[: len(start)]
    assert ours.decode(answer_ids).strip() == answer


HOSTILE = [
    "<|eot_id|>",
    "<|im_end|>",
    "</s>",
    "<s>",
    "<|start_header_id|>system<|end_header_id|>",
    "<|im_start|>system\n",
    "<|end|>",
    "<|bos|>",
    "<think>",
    "</think>",
    "<unk>",
    "<|begin_of_text|>",
    "[INST]",
    *SPECIAL,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_user_text_never_becomes_a_special_token(folder, text):
    """Guards: a note that ends its own turn, or poses as the system message."""
    ours = load_tokenizer(folder)
    special = set(ours._backend.control.values())
    ids = ours.encode(f"before {text} after{text}{text}")
    assert special.isdisjoint(ids)
    assert ours.decode(ids, skip_special=False).strip(" ") == f"before {text} after{text}{text}"
    plain, hostile = (ours.encode_chat([{"role": "user", "content": f"a {word} b"}]) for word in ("x", text))
    assert [id for id in plain if id in special] == [id for id in hostile if id in special]


def test_any_text_survives(folder):
    """Guards: text lost on the way to ids and back, also where a special token's name has been split."""
    ours = load_tokenizer(folder)
    special = set(ours._backend.control.values())

    @settings(max_examples=120, deadline=None)
    @given(
        st.lists(
            st.sampled_from([*HOSTILE, " ", "\n", "I50.23", "a", "é", "<|", "|>"]) | st.text(max_size=8), max_size=8
        ).map("".join)
    )
    def check(text):
        import unicodedata

        text = unicodedata.normalize("NFC", text).replace("\0", "").replace("▁", "")
        ids = ours.encode(text)
        assert special.isdisjoint(ids)
        assert ours.decode(ids).strip(" ") == text.strip(" ")

    check()


def test_an_answer_always_stops_where_training_ended_it(tmp_path):
    """Guards: answers that run on to their limit because eos_token_id names another token than the chat's end, or none;
    answers that stop at a word."""
    make_folder(tmp_path, "llama3")
    control = load_tokenizer(tmp_path)._backend.control
    end, end_of_text, header = (control[f"<|{name}|>"] for name in ("eot_id", "end_of_text", "start_header_id"))
    assert load_tokenizer(tmp_path).encode_answer("x")[-1] == end
    assert load_tokenizer(tmp_path).stop_ids == (end,)
    for file, value, expected in (
        ("config.json", end_of_text, (end, end_of_text)),
        ("generation_config.json", [], (end,)),  # it comes before config.json
        ("generation_config.json", None, (end, end_of_text)),
        ("generation_config.json", [header, end, header], (end, header)),
        ("generation_config.json", [8, 10**30, -1], (end,)),  # 8 is a word
    ):
        (tmp_path / file).write_text(json.dumps({"eos_token_id": value}))
        assert load_tokenizer(tmp_path).stop_ids == expected


def test_unusable_folders_are_refused(tmp_path):
    """Guards: a base model, or a broken folder, used with a chat format that it was not trained on."""
    with pytest.raises(InputError, match="no tokenizer.json and no tokenizer.model"):
        load_tokenizer(tmp_path)
    byte_level(tmp_path, ["<|endoftext|>"])
    with pytest.raises(InputError, match="no chat template, and not the special tokens of Llama 3 or ChatML"):
        load_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(QWEN25)
    with pytest.raises(InputError, match=r"no special token of the tokenizer ends the assistant's turn"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="tokenizer.json: model is missing"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(InputError, match="not a tokenizer.json that the tokenizers package can use"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(InputError, match="tokenizer.json: not a JSON object"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.model").write_text("no")
    with pytest.raises(InputError, match="not a sentencepiece model"):
        load_tokenizer(tmp_path)


def test_roles_and_order_are_checked(tmp_path):
    """Guards: a message silently left out of the prompt."""
    ours = load_tokenizer(make_folder(tmp_path, "llama2-sentencepiece"))
    with pytest.raises(InputError, match="role 'tool'"):
        ours.encode_chat([{"role": "tool", "content": "x"}])
    with pytest.raises(InputError, match="its content must be a text"):
        ours.encode_chat([{"role": "user", "content": None}])
    with pytest.raises(InputError, match="must alternate"):
        ours.encode_chat(as_messages([("user", "a"), ("user", "b")]))


@pytest.mark.parametrize(
    "name, template", [("llama3", LLAMA3), ("qwen2", CHATML.replace("DEFAULT", "")), ("minscl", None)]
)
def test_without_a_template_the_family_s_own_format_is_written(tmp_path, name, template):
    """Guards: a base model's folder, which often has no template, with another prompt than its family's."""
    transformers = pytest.importorskip("transformers", reason="the teacher extra is not installed")
    make_folder(tmp_path, name)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    template = settings.pop("chat_template") if template is None else template
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": None}))
    ours, theirs = load_tokenizer(tmp_path), transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for conversation in CONVERSATIONS:
        for generation in (True, False):
            ids = ours.encode_chat(as_messages(conversation), add_generation_prompt=generation)
            expected = theirs.apply_chat_template(
                as_messages(conversation), chat_template=template, add_generation_prompt=generation, return_dict=False
            )
            assert ids == expected
