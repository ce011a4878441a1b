"""The code book of edition 2026 against its files, and `nearest` against a breadth-first search of the whole tree."""

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import deque
from importlib import resources

import pytest

from minscl.data.icd import CodeBook, cache, parse_edition
from minscl.data.icd.codebook import ROOT, _load
from minscl.errors import InputError

BOOK = CodeBook.load("2026")


def resource(name):
    with (resources.files("minscl.data.icd") / "resources" / name).open("rb") as packed:
        return gzip.open(packed).read()


@pytest.fixture(scope="module")
def tabular_xml():
    """The root element of the bundled Tabular List."""
    return ElementTree.fromstring(resource("icd10cm_tabular_2026.xml.gz"))


@pytest.fixture(scope="module")
def tree():
    """(parent of each node, children of each node) of the whole tree below ROOT, built from CodeBook.parent alone."""
    nodes = {node for code in BOOK.billable for node in (code, *BOOK.ancestors(code))}
    parents = {node: BOOK.parent(node) or ROOT for node in nodes}
    children = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    return parents, children


def test_billable_codes_are_those_of_the_bundled_list():
    """Guards: 7th characters not expanded, padded wrongly, or given to S06 leaves that take no D and S."""
    expected = resource("icd10cm_billable_2026.txt.gz").decode().split()
    assert BOOK.billable == expected and len(expected) == 74_719
    assert all(BOOK.is_billable(code) for code in expected)


def test_every_billable_code_is_described():
    """Guards: a code without a description, or with its parent's, lacking the meaning of the 7th character."""
    assert all(BOOK.description(code) for code in BOOK.billable)
    assert BOOK.description("T81.719A").endswith(", initial encounter")
    assert BOOK.description("S72.001A").endswith(", initial encounter for closed fracture")
    assert BOOK.description("E11.9") == "Type 2 diabetes mellitus without complications"


def test_descriptions_are_those_of_the_tabular_list(tabular_xml):
    """Guards: the description of another node; white space or brackets lost in parsing."""
    printed = {node.findtext("name"): " ".join(node.findtext("desc").split()) for node in tabular_xml.iter("diag")}
    assert len(printed) == 46_881
    assert {code: BOOK.description(code) for code in printed} == printed


@pytest.mark.parametrize(
    "code, path",
    [
        ("T81.719A", ["T81.719", "T81.71", "T81.7", "T81", "section T80-T88", "19"]),
        ("T07.XXXA", ["T07", "section T07", "19"]),
        ("S01.00XA", ["S01.00", "S01.0", "S01", "section S00-S09", "19"]),
        ("A00.0", ["A00", "section A00-A09", "1"]),
    ],
)
def test_the_hierarchy_goes_up_to_the_chapter(code, path):
    """Guards: a level left out, which changes the distances of `nearest`; X padding."""
    assert BOOK.ancestors(code) == path
    assert BOOK.parent(code) == path[0] and code in BOOK.children(path[0]) and BOOK.chapter(code) == path[-1]
    assert BOOK.parent(path[-1]) is None and BOOK.category(code) == code[:3]


def test_nearest_7th_character_definition_wins():
    """Guards: the 7th characters of the category applied to a leaf with its own (S12.8: A, D, S)."""
    assert [code[-1] for code in BOOK.children("S12.8")] == ["A", "D", "S"]
    assert "B" in [code[-1] for code in BOOK.children("S12.000")]


def test_no_inclusion_term_is_lost(tabular_xml):
    """Guards: inclusion terms of some level, or further notes of one element, lost."""
    expected = sum(
        len(block.findall("note")) for node in tabular_xml.iter("diag") for block in node.findall("inclusionTerm")
    )
    assert sum(len(BOOK.inclusion_terms(code)) for code in BOOK.headings_with("inclusionTerm")) == expected
    assert "Type 2 diabetes mellitus with hyperglycemia" not in BOOK.inclusion_terms("E11.65")
    assert BOOK.notes("I50", "codeFirst")


@pytest.mark.parametrize(
    "text, code",
    [
        ("e1165", "E11.65"),
        (" E11.65 ", "E11.65"),
        ("Ｅ１１．６５", "E11.65"),
        ("t07xxxa", "T07.XXXA"),
        ("I10", "I10"),
        ("C7A.00", "C7A.00"),
        ("O9A111", "O9A.111"),
        ("I50.99", "I50.99"),
        ("250.00", None),
        ("", None),
        ("heart failure", None),
        ("0SR9019", None),
        ("E11.65.", "E11.65"),
        ("99213", None),
        ("S72.001\u0410", None),  # Cyrillic
        ("E11.\u00e9", None),
    ],
)
def test_normalise(text, code):
    """Guards: codes as people write them not recognised; codes of other systems accepted."""
    assert BOOK.normalise(text) == code


def breadth_first(code, among, tree):
    """The nearest code by a breadth-first search over the tree's edges; no implementation in common with `nearest`."""
    parents, children = tree

    def path(node):
        nodes = [node]
        while nodes[-1] != ROOT:
            nodes.append(parents[nodes[-1]])
        return nodes

    distance, queue, hits, limit = {code: 0}, deque([code]), [], None
    while queue:
        node = queue.popleft()
        if limit is not None and distance[node] > limit:
            break
        if node in among and node != code:
            limit = distance[node]
            common_ancestor = next(ancestor for ancestor in path(code) if ancestor in set(path(node)))
            hits.append((-len(path(common_ancestor)), node))
        for neighbour in [*([parents[node]] if node in parents else []), *children.get(node, ())]:
            if neighbour not in distance:
                distance[neighbour] = distance[node] + 1
                queue.append(neighbour)
    return min(hits)[1]


@pytest.mark.parametrize("size", [3, 60, 5000])
def test_nearest_equals_breadth_first_search(size, tree):
    """Guards: ties broken wrongly, a code of another chapter, the code itself as its own neighbour."""
    rng = random.Random(size)
    among = frozenset(rng.sample(BOOK.billable, size))
    for code in [*rng.sample(BOOK.billable, 6), *rng.sample(sorted(among), 3)]:
        assert BOOK.nearest(code, among) == breadth_first(code, among, tree)


def test_nearest_needs_another_code():
    """Guards: a code that is its own nearest."""
    with pytest.raises(InputError, match="no other code"):
        BOOK.nearest("I10", frozenset({"I10"}))
    assert BOOK.nearest("I10", ["I10", "Z99.2"]) == "Z99.2"


def test_unlisted_codes():
    """Guards: an unlisted code that raises where None is promised, or the reverse."""
    assert (BOOK.description("I99.99"), BOOK.chapter("I99.99"), BOOK.children("I99.99")) == (None, None, [])
    assert not BOOK.is_billable("I99.99") and BOOK.notes("I99.99", "includes") == BOOK.inclusion_terms("I99.99") == []
    for look_up in (BOOK.parent, BOOK.ancestors, lambda code: BOOK.nearest(code, frozenset(["I10"]))):
        with pytest.raises(KeyError):
            look_up("I99.99")


def signed(content):
    """A cache file with that content and its right digest."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


PROGRAM = (
    "from minscl.data.icd import CodeBook; book = CodeBook.load(); print(len(book.billable), book.description('I10'))"
)


@pytest.mark.slow
@pytest.mark.long
def test_the_cache_can_be_absent_damaged_or_forbidden(tmp_path, monkeypatch):
    """Guards: a damaged, changed or incomplete cache that is trusted; a read-only home that ends in a crash."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "74879 Essential (primary) hypertension"
    [whole] = (tmp_path / "minscl").iterdir()
    assert len(json.loads(whole.read_bytes().partition(b"\n")[2])["billable"]) == 74_879

    parses = []  # what follows is of a List with one code, as writing all of it takes a second
    parsed = {"nodes": {"I10": ["Essential (primary) hypertension", None]}, "notes": {}, "billable": ["I10"]}
    monkeypatch.setattr(parse_edition, "parse_tabular", lambda root: parses.append(root) or parsed)
    monkeypatch.setattr(parse_edition, "read_xml", lambda content, name: None)

    def load(home):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        book = _load.__wrapped__("2026", None)  # a new load, not the book that this process keeps
        return f"{len(book.billable)} {book.description('I10')}"

    expected = "1 Essential (primary) hypertension"
    assert load(tmp_path) == expected and len(parses) == 1
    [cached] = set((tmp_path / "minscl").iterdir()) - {whole}
    content = cached.read_bytes()
    assert load(tmp_path) == expected and len(parses) == 1
    damaged = [
        content[:100],
        b"{}",
        content.replace(b"Essential (primary) hypertension", b"Essential (primary) hypotension", 1),
        content.partition(b"\n")[0] + b'\n{"nodes": {}, "notes": {}, "billable": []}',
        b"[" * 100_000,
        signed(b'{"nodes": {}, "notes": {}, "billable": []}'),  # as another program may have left it
        signed(b'{"nodes": [], "notes": {}, "billable": ["I10"]}'),
        signed(b"7"),
        b"",
    ]
    for number, damage in enumerate(damaged, 2):
        cached.write_bytes(damage)
        assert load(tmp_path) == expected and len(parses) == number and cached.read_bytes() == content
    assert load("/dev/null/nowhere") == expected and len(parses) == len(damaged) + 2
    cached.unlink()
    os.mkfifo(cached)
    assert load(tmp_path) == expected and len(parses) == len(damaged) + 3


def test_no_home_is_no_cache(monkeypatch):
    """Guards: RuntimeError where HOME is not set and the user has no passwd entry, as in a container."""

    def raise_as_pathlib_does():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "home", raise_as_pathlib_does)
    monkeypatch.setattr(parse_edition, "parse_tabular", lambda root: {"nodes": {}, "notes": {}, "billable": ["I10"]})
    assert _load.__wrapped__("2026", None).billable == ["I10"]


@pytest.mark.parametrize("text", ["E880.1", "E884.0", "E950.0", "E1.165", "E116.5", "V4501.", "E11..65", ".E1165"])
def test_a_dot_elsewhere_is_another_system(text):
    """Guards ICD-9-CM's E880.1, a fall from a curb, trained as E88.01, alpha-1-antitrypsin deficiency."""
    assert BOOK.normalise(text) is None or text == "V4501."  # which may be V45.01, a code that has been
    assert BOOK.normalise("E11.65.") == BOOK.normalise(" e1165") == "E11.65"
