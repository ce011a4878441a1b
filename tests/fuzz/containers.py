"""Changes of files that hold others: XML, gzip, ZIP and safetensors, changed inside and packed again; and which change
suits a file by its name. Bombs are among them: entities that would expand to 10^9 letters, small archives
of 400 MB of zeros or of 25 million XML elements.

Read next: kinds.py.
"""

import functools
import gzip
import io
import random
import re
import struct
import warnings
import zipfile
import zlib

from tests.fuzz.mutations import MAX_INPUT, STRANGE, WORDS, mutate_bytes, mutate_json, mutate_lines, mutate_text

TEMPLATE_WORDS = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{{ 'a' * 10**9 }}",
    "{{ x.__class__.__mro__ }}",
    "{{ 9**9**9 }}",
]
TEMPLATE_WORDS += [
    "{% set a = [messages] * 99999 %}",
    "{{ messages | map('string') | join('x' * 9999) }}",
    "{% include 'x' %}",
]
TEMPLATE_WORDS += [
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ '%0999999d' | format(1) }}",
    "{{ 'x'.zfill(10**9) }}",
]
TEMPLATE_WORDS += [
    "{% raw %}",
    "{{ caller() }}",
    "{{ raise_exception('x') }}",
    "{{ messages[0]['content'][::-1] }}",
    "{% break %}",
]
# ten to the ninth letters, if it were expanded
BOMB = "<!DOCTYPE b [<!ENTITY a0 'x'>" + "".join(f"<!ENTITY a{n + 1} '{f'&a{n};' * 10}'>" for n in range(9)) + "]>"
UNREADABLE = (ValueError, TypeError, LookupError, RuntimeError, OverflowError, OSError, EOFError, zipfile.BadZipFile)
UNREADABLE += (zlib.error, struct.error)


def mutate(name: str, content: bytes, rng: random.Random) -> bytes:
    """`content` of the file `name` with one to three changes that suit its kind."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = _mutate_once(name, content, rng)
    return content


def _mutate_once(name: str, content: bytes, rng: random.Random) -> bytes:
    stem, _, suffix = name.rpartition(".")
    if rng.random() < 0.2:
        return mutate_bytes(content, rng)
    try:
        if suffix in ("gz", "tgz"):
            return _mutate_gzip(stem, content, rng)
        if suffix == "zip":
            return _mutate_zip(content, rng)
        if suffix == "safetensors":
            return _mutate_safetensors(content, rng)
        if suffix == "json":
            return mutate_json(content, rng) if rng.random() < 0.8 else mutate_text(content, rng)
        if suffix == "jsonl":
            return mutate_lines(content, rng)
        if suffix == "jinja" and rng.random() < 0.3:
            return _put_in(content, rng.choice(TEMPLATE_WORDS), rng)
        if suffix == "xml":
            return _mutate_xml(content, rng) if rng.random() < 0.7 else mutate_text(content, rng)
    except UNREADABLE:  # an earlier change has made it so
        return mutate_bytes(content, rng)
    return mutate_text(content, rng)


def _mutate_xml(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8")
    tags = list(re.finditer(r"<[^<>]*>", text))
    tag, other = rng.choice(tags), rng.choice(tags)
    action = rng.randrange(8)
    if action == 0:
        text = text[: tag.start()] + text[tag.end() :]
    elif action == 1:
        text = text[: tag.start()] + other[0] + text[tag.end() :]
    elif action == 2:
        name = re.match(r"</?([\w.:-]*)", tag[0])
        depth = rng.choice((10, 60, 3000, 100_000))
        opening, closing = f"<{name[1] if name else 'a'}>", f"</{name[1] if name else 'a'}>"
        text = text[: tag.start()] + opening * depth + closing * depth + text[tag.start() :]
    elif action == 3:
        text = text.replace("?>", "?>" + BOMB, 1).replace("</", "&a9;</", 1)
    elif action == 4:
        text = text.replace("?>", '?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', 1).replace(
            "</", "&x;</", 1
        )
    elif action == 5:
        text = re.sub(
            r'encoding="[^"]*"', f'encoding="{rng.choice(("utf-16", "utf-7", "ascii", "x", "cp037"))}"', text, count=1
        )
    elif action == 6:
        first, last = sorted((tag.start(), other.end()))
        part = text[first:last]
        text = text[:first] + part * min(rng.choice((2, 2, 400)), 1 + MAX_INPUT // (len(part) + 1)) + text[last:]
    else:
        text = text[: tag.end()] + rng.choice((*STRANGE, *WORDS)) + text[tag.end() :]
    return text.encode("utf-8", "surrogatepass")


def _put_in(content: bytes, word: str, rng: random.Random) -> bytes:
    start = rng.choice([0, len(content), *(match.end() for match in re.finditer(rb"[%}]}", content))])
    return content[:start] + word.encode() + content[start:]


@functools.cache
def _elements() -> bytes:
    """An Index of 100 MB with 25 million empty elements, as gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    parts = [b"<ICD10CM.index>", *([b"<a/>" * 2**18] * 95), b"</ICD10CM.index>"]
    return b"".join(map(packer.compress, parts)) + packer.flush()


@functools.cache
def _zeros() -> bytes:
    """400 MB of zeros, as gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(400)) + packer.flush()


def _mutate_gzip(stem: str, content: bytes, rng: random.Random) -> bytes:
    if len(content) > 50_000:  # a bomb already
        return content
    if rng.random() < 0.005:
        return rng.choice((_zeros, _elements))()
    return gzip.compress(_mutate_once(stem, gzip.decompress(content), rng), 1, mtime=0)


def _mutate_zip(content: bytes, rng: random.Random) -> bytes:
    """A member changed, repeated, renamed or nested, and all packed again."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist() if not info.is_dir()]
    number = rng.randrange(len(members))
    name, inner = members[number]
    action = rng.randrange(8)
    if action < 5:
        members[number] = name, _mutate_once(name, inner, rng)
    elif action == 5:
        members[number] = (
            rng.choice(("../x", "/x", "a\\b", "x" * 600, "a/" * 40 + "b", "CON", *STRANGE[:6])) or "x",
            inner,
        )
    elif action == 6:
        members.append((name, inner))
    else:
        members[number] = f"{name}.zip", content
    packed = io.BytesIO()
    method = rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
        warnings.simplefilter("ignore")  # that a name comes twice
        for name, inner in members:
            archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), inner)
    return packed.getvalue()


def _mutate_safetensors(content: bytes, rng: random.Random) -> bytes:
    """The header changed as JSON with its length set right, or numbers of the tensors replaced by extreme ones."""
    size = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + size], content[8 + size :]
    action = rng.randrange(4)
    if action < 2:
        header = mutate_json(header, rng)
    elif action == 2 and len(data) >= 4:
        start = rng.randrange(len(data) // 4) * 4
        value = rng.choice((float("nan"), float("inf"), 3e38, -3e38, 1e-45, 0.0))
        data = data[:start] + struct.pack("<f", value) + data[start + 4 :]
    else:
        size = rng.choice((0, 1, size - 1, size + 1, 2**31, 2**63, 2**64 - 1)) % 2**64
        return size.to_bytes(8, "little") + header + data
    return len(header).to_bytes(8, "little") + header + data
