"""Fixtures that several files share because they are slow to build; each is built once a session."""

import pytest


@pytest.fixture(scope="session")
def gold():
    """(pairs, counts) of the Alphabetic Index and the inclusion terms; about 7 seconds."""
    from minscl.data.icd import CodeBook
    from minscl.data.spans.gold import read_gold

    return read_gold(CodeBook.load())
