"""Locating quotations: the offsets slice the quotation out of the note, and nothing is repaired."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minscl.data.locate import extends_letter, line_and_column, locate

NOTE = "AFEBRILE. Hx of AF,\ntype 2\n  diabetes. CHF and chf. AF again."


def test_a_word_is_not_located_inside_another():
    """Guards "AF" marked inside "AFEBRILE"."""
    assert NOTE[slice(*locate(NOTE, "AF"))] == "AF" and locate(NOTE, "AF")[0] == NOTE.index("AF,")


def test_exact_comes_before_case():
    """Guards a case-insensitive hit taking precedence over the exact one further on."""
    assert locate(NOTE, "chf") == (NOTE.index("chf"), NOTE.index("chf") + 3)


def test_white_space_and_case_are_ignored_second():
    """Guards quotations that are lost to a line break or to different capitals."""
    start, end = locate(NOTE, "Type 2 Diabetes")
    assert NOTE[start:end] == "type 2\n  diabetes"


def test_used_places_come_last():
    """Guards two quotations of one phrase both marked at its first mention."""
    first = locate(NOTE, "AF")
    second = locate(NOTE, "AF", {first})
    assert second != first and NOTE[slice(*second)] == "AF"
    assert locate(NOTE, "AF", {first, second}) is not None


def test_absent_quotations_give_none():
    """Guards repair: a quotation one letter off is not in the note."""
    assert locate(NOTE, "type 2 diabetis") is None and locate(NOTE, "  ") is None


# Letters with accents in one, two and three characters, marks in either order, Hangul syllables and their parts.
TEXT = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*"aAe (+\\\n각Åßİ", "e\u0301", "é", "ệ", "e\u0302\u0323", "\u1100", "\u1161", "\u11a8"]))
    .map("".join),
)  # fmt: skip


def substring_of(text: str, start: int, length: int) -> str:
    """`text[start:start + length]` without what would cut a letter and its accents."""
    end = min(start + length, len(text))
    while extends_letter(text, start):
        start += 1
    while extends_letter(text, end):
        end += 1
    return text[start:end]


@given(TEXT, st.integers(0, 60), st.integers(1, 20))
def test_every_substring_is_located(text, start, length):
    """Guards pattern characters in the quotation ("(", "+", "\\") treated as a pattern."""
    substring = substring_of(text, start, length)
    place = locate(text, substring)
    if substring.split():
        assert place is not None and text[slice(*place)].split() == substring.split()
    else:
        assert place is None


@given(TEXT, st.integers(0, 60), st.integers(1, 20), st.sampled_from(["NFC", "NFD"]), st.sampled_from(["NFC", "NFD"]))
def test_quotations_are_located_in_any_normal_form(text, start, length, of_note, of_quotation):
    """Guards a note with decomposed letters, whose quotations a model's tokenizer composes, and the reverse."""
    note = unicodedata.normalize(of_note, text)
    quotation = unicodedata.normalize(of_quotation, substring_of(note, start, length))
    place = locate(note, quotation)
    if quotation.split():
        located = note[slice(*place)]
        assert unicodedata.normalize("NFC", located).split() == unicodedata.normalize("NFC", quotation).split()
        assert not extends_letter(note, place[0]) and not extends_letter(note, place[1])


@pytest.mark.parametrize(
    "note, quotation, located",
    [
        ("Me\u0301ni\u00e8re, Méniere", "Ménière", "Me\u0301ni\u00e8re"),  # mixed forms in one word
        ("cafe\u0301 au lait, cafe", "cafe", "cafe"),  # the second one: the first is another word
        ("cafe\u0301 au lait", "cafe", None),
        ("SJO\u0308GREN, Sjo\u0308gren", "Sj\u00f6gren", "Sjo\u0308gren"),  # the same case first
        ("Sjo\u0308gren's\n syndrome", "SJ\u00d6GREN'S SYNDROME", "Sjo\u0308gren's\n syndrome"),
        ("\u1100\u1161\u11a8", "\uac00", None),  # a syllable's beginning is another syllable
        ("\uac01", "\u1100\u1161\u11a8", "\uac01"),
        ("H\u2082O, \ufb01brosis", "fibrosis", None),  # compatible, but not the same letters
    ],
)
def test_canonical_equivalence(note, quotation, located):
    """Guards accents that are cut off, other letters taken for the quotation's, offsets of the normalised note."""
    place = locate(note, quotation)
    assert (place and note[slice(*place)]) == located
    assert place is None or place[0] == note.rindex(located)


def test_long_notes_with_many_quotations_take_little_time():
    """Guards a pattern per quotation, tried at every character of the note, and lines counted for each: minutes."""
    note = "The patient has Me\u0301nie\u0300re's disease and DM2. " * 5000
    start = time.process_time()
    quotations = [f"the patient has m\u00e9ni\u00e8re's disease and DM{number}" for number in range(300)]
    assert [number for number, quotation in enumerate(quotations) if locate(note, quotation)] == [2]
    assert locate("ab " * 50_000, "ab " * 500 + "c") is None
    assert [line_and_column(note, offset)[0] for offset in range(100_000)] == [1] * 100_000
    assert time.process_time() - start < 5


def test_line_and_column_count_from_one():
    """Guards the off-by-one between offsets and what an editor shows."""
    assert (
        line_and_column("ab\ncd", 0) == (1, 1)
        and line_and_column("ab\ncd", 3) == (2, 1)
        and line_and_column("ab\ncd", 4) == (2, 2)
    )
