"""Changes of a file that an accident or an attacker might make: each takes a random.Random and gives new content.

    bytes       bits flipped, cut off, parts repeated, removed, swapped, noise put in
    text        the same on characters, with the words that parsers look for, extreme numbers, odd Unicode, long runs
    JSON        a value anywhere replaced by one of another type, keys removed, renamed and repeated, nesting

Read next: containers.py, which chooses among them.
"""

import copy
import json
import random
import re
from typing import Any

NUMBERS = [0, -1, 1, 2, 7, 2**31, 2**53 + 1, 2**63, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308]
NUMBERS += [float("inf"), float("-inf"), float("nan")]
STRANGE = ["", " ", "\0", "\ud800", "\udfff", "\ufeff", "\u202e", "\u200b", "\x1b[2J", "\n", "\r", "\u2028", "\x85"]
STRANGE += ["ﬁ", "İ", "ß", "e\u0301\u0323", "\u1100\u1161", "\U0010ffff", "🙂\u200d🙂", "a" * 3000, "%s%n", "../../etc"]
WORDS = [
    "Evidence:",
    "Codes:",
    "none",
    "I10",
    "E11.65",
    "[1]",
    "[1, 2]",
    "->",
    "```json",
    "<think>",
    "</think>",
    "null",
]
WORDS += ["<|im_end|>", "<|eot_id|>", "[INST]", '"', "'", ",", "\t", ";", "{", "}", "[", "]", "\\", "\\u0000", "&#0;"]
WORDS += ["&a;", "<!DOCTYPE a>", "<![CDATA[", "]]>", "<!--", "{{", "{%", "1e999", "-1", "99999999999999999999", "0x1"]
DEEP = "@deep@"  # in a JSON value: nested this many times when it is written
MAX_INPUT = 2**20  # characters or bytes of a repeated part; bombs are separate


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a part cut off, repeated, removed, moved, overwritten or put in."""
    data = bytearray(content or b"\0")
    start = rng.randrange(len(data))
    length = rng.choice((1, 2, 8, 64, len(data)))
    part = data[start : start + length]
    action = rng.randrange(8)
    if action == 0:
        for _ in range(rng.choice((1, 1, 4, 32))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif action == 1:
        del data[start:]
    elif action == 2:
        data[start:start] = part * min(rng.choice((1, 3, 1000)), 1 + MAX_INPUT // len(part))
    elif action == 3:
        del data[start : start + length]
    elif action == 4:
        data[start : start + length] = rng.randbytes(len(part))
    elif action == 5:
        data[rng.randrange(len(data)) :] = part
    elif action == 6:
        data[start:start] = rng.choice(
            (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\r", b"\n", b"PK\3\4", b"\x1f\x8b")
        )
    else:
        value = rng.choice((0, 1, 0xFF, 0x7F, 0x80)).to_bytes(1, "big") * rng.choice((1, 4, 8))
        data[start : start + len(value)] = value
    return bytes(data)


def mutate_text(content: bytes, rng: random.Random) -> bytes:
    """As mutate_bytes on characters and lines, with words that parsers look for; another encoding now and then."""
    text = content.decode("utf-8", "surrogateescape")
    start = rng.randrange(len(text) + 1)
    stop = min(len(text), start + rng.choice((0, 0, 1, 5, 40)))
    action = rng.randrange(9)
    if action == 0:
        text = text[:start] + rng.choice(WORDS) + text[stop:]
    elif action == 1:
        text = text[:start] + rng.choice(STRANGE) + text[stop:]
    elif action == 2:
        text = text[:start] + str(rng.choice(NUMBERS)) + text[stop:]
    elif action == 3:
        word = rng.choice((*WORDS, " ", "a", "\v", "(", "1"))
        text = text[:start] + word * min(rng.choice((50, 2000, 30_000)), MAX_INPUT // len(word)) + text[stop:]
    elif action == 4:
        lines = text.split("\n")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines))
        text = "\n".join(lines)
    elif action == 5:
        lines = text.split("\n")
        del lines[rng.randrange(len(lines))]
        text = "\n".join(lines)
    elif action == 6 and (numbers := list(re.finditer(r"\d+", text))):
        number = rng.choice(numbers)
        text = text[: number.start()] + str(rng.choice(NUMBERS)) + text[number.end() :]
    elif action == 7:
        text = rng.choice((str.upper, str.lower, str.swapcase, lambda line: line[::-1]))(text)
    else:
        return text.encode(rng.choice(("utf-16", "utf-32", "cp1252", "utf-8-sig")), "replace")
    return text.encode("utf-8", "surrogatepass" if action == 1 else "surrogateescape")


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """A value somewhere in the tree replaced, removed, repeated or wrapped; or a key."""
    value = mutate_value(json.loads(content), rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.8)
    if DEEP in text:
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
        depth = rng.choice((70, 3000, 100_000))
        text = text.replace(f'"{DEEP}"', opening * depth + "0" + closing * depth, 1)
    if rng.random() < 0.05 and '": ' in text:  # a key that comes twice
        key = rng.choice(re.findall(r'"[^"\\]*": ', text) or ['"a": '])
        text = text.replace("{", "{" + key + "1, ", 1)
    return text.encode("utf-8", "surrogatepass")


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A copy of the JSON `value` with one change at a random place."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return random_value(rng)
    container, key = rng.choice(places)
    old = container[key]
    action = rng.randrange(8)
    if action < 3:
        container[key] = random_value(rng)
    elif action == 3:
        container[key] = copy.deepcopy(_at(rng.choice(places)))  # another part of the same file
    elif action == 4:
        del container[key]
    elif action == 5 and isinstance(container, dict):
        container[rng.choice((*STRANGE, *WORDS, f"{key}x", str(key).upper()))] = container.pop(key)
    elif action == 6 and isinstance(container, list):
        container.extend([old] * rng.choice((1, 2, 500)))
    elif isinstance(old, (int, float)):
        container[key] = old * rng.choice((-1, 2, 0.5, 1000, 10**9)) + rng.choice((0, 1, -1))
    elif isinstance(old, str):
        container[key] = mutate_text(old.encode("utf-8", "surrogatepass"), rng).decode("utf-8", "replace")
    else:
        container[key] = rng.choice(([old], {"a": old}, None))
    return value


def random_value(rng: random.Random) -> Any:
    """A JSON value of any type."""
    simple = [None, True, False, [], {}, DEEP, *NUMBERS, *STRANGE, *WORDS]
    value = rng.choice(simple)
    wrap = rng.randrange(8)
    return [value] if wrap == 0 else {str(rng.choice(simple)): value} if wrap == 1 else value


def _places(value: Any):
    """(container, key or index) of every value inside `value`."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _at(place) -> Any:
    return place[0][place[1]]


def mutate_lines(content: bytes, rng: random.Random) -> bytes:
    """One record changed as JSON, or lines repeated, removed, joined and cut."""
    if rng.random() < 0.3:
        return mutate_text(content, rng)
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    action = rng.randrange(6)
    if action < 4 and lines[number].strip():
        lines[number] = mutate_json(lines[number], rng)
    elif action == 4:
        lines.insert(number, rng.choice(lines))
    else:
        lines[number] = lines[number][: rng.randrange(len(lines[number]) + 1)]
    return b"\n".join(lines)
