"""The bytes that a token represents, from its name in the vocabulary: sentencepiece's ▁ and <0x0A>, GPT-2's letters.

Read next: tokenizer.py, whose `pieces` are these bytes.
"""


def from_sentencepiece(name: str) -> bytes:
    """The bytes of a sentencepiece token: ▁ is a space, <0x0A> a byte."""
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes([int(name[3:5], 16)])
    return name.replace("▁", " ").encode("utf-8")


def from_byte_level(name: str) -> bytes:
    """The bytes of a GPT-2 style token, as the tokenizers package decodes it: each letter represents a byte.

    A name with any other letter, which only added tokens have, is its own text.
    """
    if all(letter in _BYTES for letter in name):
        return bytes(_BYTES[letter] for letter in name)
    return name.encode("utf-8")


def _byte_level_alphabet() -> dict[str, int]:
    """GPT-2's alphabet, letter → byte: printable bytes are themselves, the others the letters from 256 on, in order."""
    printable_bytes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable_bytes]
    return {chr(byte): byte for byte in printable_bytes} | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_level_alphabet()
