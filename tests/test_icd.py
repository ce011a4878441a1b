"""The code book against the bundled lists, and `nearest` against a breadth-first search of the whole tree."""

import gzip
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import deque
from importlib import resources

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.codebook import ROOT
from minscl.errors import InputError

BOOK = CodeBook.load()


def resource(name):
    with (resources.files("minscl.data.icd") / "resources" / name).open("rb") as packed:
        return gzip.open(packed).read()


def test_billable_codes_are_the_lists():
    """Guards: 7th characters not expanded, padded wrongly, or given to S06 leaves that take no D and S."""
    expected = resource("icd10cm_billable_2026.txt.gz").decode().split()
    assert BOOK.billable == expected and len(expected) == 74_719
    assert all(BOOK.is_billable(code) for code in expected)


def test_every_billable_code_is_described():
    """Guards: a code without words, or the parent's words without its 7th character's meaning."""
    assert all(BOOK.description(code) for code in BOOK.billable)
    assert BOOK.description("T81.719A").endswith(", initial encounter")
    assert BOOK.description("S72.001A").endswith(", initial encounter for closed fracture")
    assert BOOK.description("E11.9") == "Type 2 diabetes mellitus without complications"


def test_descriptions_are_the_tabular_lists():
    """Guards: words of another node, white space or brackets lost on the way."""
    root = ElementTree.fromstring(resource("icd10cm_tabular_2026.xml.gz"))
    written = {node.findtext("name"): " ".join(node.findtext("desc").split()) for node in root.iter("diag")}
    assert len(written) == 46_881
    assert {code: BOOK.description(code) for code in written} == written


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
    """Guards: a level left out, on which `nearest` counts steps; X padding."""
    assert BOOK.ancestors(code) == path
    assert BOOK.parent(code) == path[0] and code in BOOK.children(path[0]) and BOOK.chapter(code) == path[-1]
    assert BOOK.parent(path[-1]) is None and BOOK.category(code) == code[:3]


def test_nearest_7th_character_definition_wins():
    """Guards: the category's characters given to a leaf that has its own (S12.8: A D S, not the fracture's)."""
    assert [code[-1] for code in BOOK.children("S12.8")] == ["A", "D", "S"]
    assert "B" in [code[-1] for code in BOOK.children("S12.000")]


def test_notes_count_as_in_the_file():
    """Guards: inclusion terms of some level, or second notes in one element, lost."""
    root = ElementTree.fromstring(resource("icd10cm_tabular_2026.xml.gz"))
    expected = sum(len(one.findall("note")) for node in root.iter("diag") for one in node.findall("inclusionTerm"))
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
    ],
)
def test_normalise(text, code):
    """Guards: codes as people write them that are not recognised, and other systems' codes that are."""
    assert BOOK.normalise(text) == code


def breadth_first(code, among):
    """(steps, depth of the common ancestor, code) by walking the tree's edges: no shared code with `nearest`."""
    up = {
        child: BOOK.parent(child) or ROOT
        for child in [*BOOK.billable, *(n for c in BOOK.billable for n in BOOK.ancestors(c))]
    }
    down = {}
    for child, parent in up.items():
        down.setdefault(parent, []).append(child)

    def path(node):
        found = [node]
        while found[-1] != ROOT:
            found.append(up[found[-1]])
        return found

    distance, queue, hits, limit = {code: 0}, deque([code]), [], None
    while queue:
        node = queue.popleft()
        if limit is not None and distance[node] > limit:
            break
        if node in among and node != code:
            limit = distance[node]
            common = next(one for one in path(code) if one in set(path(node)))
            hits.append((-len(path(common)), node))
        for other in [*([up[node]] if node in up else []), *down.get(node, ())]:
            if other not in distance:
                distance[other] = distance[node] + 1
                queue.append(other)
    return min(hits)[1]


@pytest.mark.parametrize("size", [3, 60, 5000])
def test_nearest_equals_breadth_first_search(size):
    """Guards: ties broken wrongly, a code of another chapter, the code itself as its own neighbour."""
    rng = random.Random(size)
    among = frozenset(rng.sample(BOOK.billable, size))
    for code in [*rng.sample(BOOK.billable, 6), *rng.sample(sorted(among), 3)]:
        assert BOOK.nearest(code, among) == breadth_first(code, among)


def test_nearest_wants_another_code():
    """Guards: a code that is its own nearest."""
    with pytest.raises(InputError, match="no other code"):
        BOOK.nearest("I10", frozenset({"I10"}))
    assert BOOK.nearest("I10", ["I10", "Z99.2"]) == "Z99.2"


LOAD = "import minscl.data.icd.codebook as icd; b = icd.CodeBook.load(); print(len(b.billable), b.description('I10'))"


def test_the_cache_can_be_absent_damaged_or_forbidden(tmp_path):
    """Guards: a cache that is trusted when broken, read half-written, or that a read-only home turns into a crash."""

    def load(home):
        done = subprocess.run(
            [sys.executable, "-c", LOAD],
            env={**os.environ, "XDG_CACHE_HOME": str(home)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    expected = "74719 Essential (primary) hypertension"
    assert load(tmp_path) == expected
    [cache] = (tmp_path / "minscl").iterdir()
    whole = cache.read_bytes()
    assert json.loads(whole)
    cache.write_bytes(whole[:1000])
    assert load(tmp_path) == expected and cache.read_bytes() == whole
    cache.write_text("{}")
    assert load(tmp_path) == expected
    assert load("/dev/null/nowhere") == expected
