"""Locating quotations: the offsets slice the quotation out of the note, and nothing is repaired."""

from hypothesis import given
from hypothesis import strategies as st

from minscl.data.locate import line_and_column, locate

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


@given(st.text(max_size=60), st.integers(0, 60), st.integers(1, 20))
def test_every_substring_is_located(text, start, length):
    """Guards pattern characters in the quotation ("(", "+", "\\") treated as a pattern."""
    substring = text[start : start + length]
    place = locate(text, substring)
    if substring.split():
        assert place is not None and text[slice(*place)].split() == substring.split()
    else:
        assert place is None


def test_line_and_column_count_from_one():
    """Guards the off-by-one between offsets and what an editor shows."""
    assert (
        line_and_column("ab\ncd", 0) == (1, 1)
        and line_and_column("ab\ncd", 3) == (2, 1)
        and line_and_column("ab\ncd", 4) == (2, 2)
    )
