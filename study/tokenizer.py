"""The embedded model's tokenizer: a byte-level BPE trained on the public texts of this repository.

Digits are split in pairs from the left, so that the tokens of a code follow its structure: I50.23 → I 50 . 23 (category
letter, category number, etiology). No text is lost: what is not in the vocabulary is encoded as bytes.

Read next: pretrain.py.
"""

import json
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from minscl.files import replace_file

SPECIAL = ("<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
# a word with the space before it | one or two digits | a run of punctuation | a line break | other white space
SPLIT = r" ?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+|[\r\n]|\s+(?=\S)|\s+"
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts, folder, vocab_size: int = 4096) -> None:
    """Train on `texts` (an iterable of str); write tokenizer.json, tokenizer_config.json and generation_config.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder = Path(folder)
    with replace_file(folder / "tokenizer.json") as handle:
        handle.write(tokenizer.to_str())
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|end|>",
        "pad_token": "<|end|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    with replace_file(folder / "tokenizer_config.json") as handle:
        json.dump(settings, handle, indent=1)
    with replace_file(folder / "generation_config.json") as handle:
        json.dump({"eos_token_id": SPECIAL.index("<|end|>"), "bos_token_id": 0, "do_sample": False}, handle, indent=1)
