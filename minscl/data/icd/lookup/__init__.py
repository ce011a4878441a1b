"""Looking codes up: search by words, and a code in context. Read search.py first, then page.py."""

from minscl.data.icd.lookup.entries import IndexEntry, read_entries
from minscl.data.icd.lookup.page import CodePage, look_up
from minscl.data.icd.lookup.search import Hit, Search
from minscl.data.icd.lookup.spelling import find_node, nearest_listed, refusal, unlisted
from minscl.data.icd.lookup.text import hits_text, page_text

__all__ = [
    "CodePage",
    "Hit",
    "IndexEntry",
    "Search",
    "find_node",
    "hits_text",
    "look_up",
    "nearest_listed",
    "page_text",
    "read_entries",
    "refusal",
    "unlisted",
]
