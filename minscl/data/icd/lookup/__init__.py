"""Looking codes up: search by words, and a code in context. Read search.py first, then page.py."""

from minscl.data.icd.lookup.entries import IndexEntry, read_entries
from minscl.data.icd.lookup.page import CodePage, find_node, look_up, nearest_listed
from minscl.data.icd.lookup.search import Hit, Search
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
]
