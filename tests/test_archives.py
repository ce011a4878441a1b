"""Archives and XML that cannot be trusted: `expand official` refuses each in one line and writes nothing."""

import random
import re
import struct
import zipfile

import pytest

from minscl.data.icd.official import archives
from minscl.data.icd.official.files import read_official
from minscl.errors import InputError
from tests.official_archives import ORDER, SMALL, SMALL_ROWS, SMALL_TABULAR, TABULAR, order_file, refusal, write, zip_of


def with_flag(packed: bytes, offsets: dict[bytes, int], value: int) -> bytes:
    """`packed` with the two-byte field at `offsets` {signature: offset} of every member's headers set to `value`."""
    changed = bytearray(packed)
    for signature, offset in offsets.items():
        start = changed.find(signature)
        while start >= 0:
            struct.pack_into("<H", changed, start + offset, value)
            start = changed.find(signature, start + 1)
    return bytes(changed)


def nested(depth):
    """An archive of archives."""
    packed = zip_of(SMALL)
    for _ in range(depth):
        packed = zip_of({"a.zip": packed})
    return packed


LEAF = b"<diag><name>H81.0</name>"
DEEP = SMALL_TABULAR.replace(LEAF, b"<diag>" * 9_000 + b"</diag>" * 9_000 + LEAF)
BOMB = order_file(SMALL_ROWS) + b"\n" * 20_000_000
FLAGS, METHOD = {b"PK\x03\x04": 6, b"PK\x01\x02": 8}, {b"PK\x03\x04": 8, b"PK\x01\x02": 10}
ENTITIES = b'<!DOCTYPE ICD10CM.tabular [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
SEVENTH = b"".join(b'<extension char="%d">x</extension>' % number for number in range(40))


@pytest.mark.parametrize(
    "content, fault",
    [
        ({**SMALL, ORDER: BOMB}, f"{ORDER}: more than 100 times as large when decompressed"),
        ({"a.zip": b"PK\3\4" + b"\0" * 20_000_000}, "a.zip: more than 100 times as large"),
        (nested(3), "more than 3 archives within one another"),
        ({f"{number}.pdf": b"" for number in range(2_001)}, "more than 2,000 members"),
        ({**SMALL, "../evil.xml": b""}, "leads out of the archive"),
        ({**SMALL, "/etc/evil.xml": b""}, "leads out of the archive"),
        ({**SMALL, "a\\..\\..\\evil.xml": b""}, "leads out of the archive"),
        ({**SMALL, "C:evil.xml": b""}, "leads out of the archive"),
        ({**SMALL, "a\nSHA-256 b": b""}, "too long a name, or control characters"),
        (with_flag(zip_of(SMALL), FLAGS, 1), f"{TABULAR}: encrypted"),
        (zip_of(SMALL, zipfile.ZIP_LZMA), "compression method 14"),
        (with_flag(zip_of(SMALL), METHOD, 99), "compression method 99"),
        (zip_of(SMALL)[:-30], "cut-off ZIP archive"),
        (b"<html>404</html>", "cut-off ZIP archive"),
        (b"", "cut-off ZIP archive"),
        ({**SMALL, TABULAR: SMALL_TABULAR.replace(b"?>", b"?>" + ENTITIES, 1)}, "document type or entities"),
        ({**SMALL, TABULAR: SMALL_TABULAR[:-30]}, f"{TABULAR}: not well-formed XML"),
        (
            {**SMALL, TABULAR: SMALL_TABULAR.replace(b"<sevenChrDef>", b"<sevenChrDef>" + SEVENTH)},
            "more than 36 values",
        ),
        ({**SMALL, TABULAR: DEEP}, f"{TABULAR}: elements nested more than 50 deep"),
        ({**SMALL, "b.xml": SMALL_TABULAR + b"\n"}, f"{TABULAR} and .*b.xml: 2 different files of the Tabular List"),
        ({ORDER: SMALL[ORDER]}, "no Tabular List in it"),
        ({TABULAR: SMALL_TABULAR}, "no order file or codes file in it"),
    ],
)
def test_what_cannot_be_trusted_is_refused_in_a_line(content, fault, tmp_path):
    """Guards: a bomb that fills the memory, a member written outside, a traceback, a half-written folder."""
    assert re.search(fault, refusal(write(tmp_path, content), tmp_path / "out"))


def test_limits_hold_for_all_archives_together(tmp_path, monkeypatch):
    """Guards: a bomb in many pieces or many archives, each below the limits."""
    monkeypatch.setattr(archives, "MAX_TOTAL_BYTES", 5_000)
    paths = [write(tmp_path, {f"{name}.pdf": b"%PDF" + bytes(2_000)}, f"{name}.zip") for name in "abc"]
    with pytest.raises(InputError, match=r"c\.zip: c\.pdf: with it, more than 0 MB"):
        read_official(paths)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(InputError, match=r"c\.zip: more than 2 members"):
        read_official(paths)


def test_a_damaged_archive_is_refused_or_read_as_it_was(tmp_path):
    """Guards: an exception of zipfile that nobody expected; content that is not what its check sum says."""
    packed, generator = zip_of(SMALL), random.Random(0)
    path = tmp_path / "2027.zip"
    read = 0
    for _ in range(300):
        damaged = bytearray(packed)
        for _ in range(generator.choice((1, 1, 4))):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged[: generator.choice((len(damaged), generator.randrange(len(damaged))))])
        try:
            files = read_official([str(path)])
        except InputError as error:
            assert "\n" not in str(error)
            continue
        read += 1
        assert all(file.content in SMALL.values() for file in files.files.values())
    assert 0 < read < 200
