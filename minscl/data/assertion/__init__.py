"""Assertion status of evidence, after ConText. Read status.py first, then cues.py, scopes.py, layout.py."""

from minscl.data.assertion.status import STATUSES, assertion, assertions, speaks_against

__all__ = ["STATUSES", "assertion", "assertions", "speaks_against"]
