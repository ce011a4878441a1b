"""A tokenizer.json through the tokenizers package, and the chat format of the embedded model. Read next: chat.py."""

import json
from pathlib import Path

import tokenizers


class Tokenizer:
    def __init__(self, folder):
        folder = Path(folder)
        self._whole = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        plain = json.loads((folder / "tokenizer.json").read_text())
        self._special = {one["content"]: one["id"] for one in plain["added_tokens"]}
        plain["added_tokens"] = []
        self._plain = tokenizers.Tokenizer.from_str(json.dumps(plain))
        self.stop_ids = (self._special["<|end|>"],)
        self.vocab_size = self._whole.get_vocab_size()

    def encode(self, text):
        return self._plain.encode(text, add_special_tokens=False).ids

    def decode(self, ids, skip_special=True):
        return self._whole.decode(list(ids), skip_special_tokens=skip_special)

    def encode_chat(self, messages, add_generation_prompt=True):
        ids = [self._special["<|bos|>"]]
        for one in messages:
            ids += [self._special[f"<|{one['role']}|>"], *self.encode(one["content"].strip()), self._special["<|end|>"]]
        return ids + [self._special["<|assistant|>"]] * add_generation_prompt

    def encode_answer_start(self, text):
        return self.encode(text)

    def encode_answer(self, text):
        return [*self.encode(text), self._special["<|end|>"]]


def load_tokenizer(folder):
    return Tokenizer(folder)
