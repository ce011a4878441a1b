"""The page's scripts without a browser: tests/javascript/*_test.js, each run by Node.js where it is installed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from minscl.data.icd import CodeBook
from minscl.data.icd.lookup import Search

FILES = sorted((Path(__file__).parent / "javascript").glob("*_test.js"))
CODE_SET_TEST = "code_set_test.js"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="NOT TESTED: the page's scripts, for want of Node.js (node)")
QUERIES = Path(__file__).parent / "resources" / "page_queries.txt"


def run_node(file: Path, **environment: str) -> None:
    run = subprocess.run([NODE, file], capture_output=True, text=True, env=os.environ | environment, timeout=300)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert "\n# fail 0\n" in run.stdout or "ℹ fail 0" in run.stdout  # that there were tests at all


@pytest.mark.parametrize("file", [file for file in FILES if file.name != CODE_SET_TEST], ids=lambda file: file.name)
def test_scripts(file):
    """Guards what the test file's own comments name."""
    run_node(file)


@pytest.mark.slow
@pytest.mark.long
def test_code_set_and_search(packed_code_set, tmp_path):
    """Guards cards and search results of the page; see the file."""
    (tmp_path / "code_set").write_text(packed_code_set)
    run_node(FILES[0].parent / CODE_SET_TEST, CODE_SET=str(tmp_path / "code_set"))


@pytest.mark.long
@pytest.mark.slow
def test_search_finds_what_the_lookup_command_finds(packed_code_set, tmp_path):
    """Guards two searches that come apart: the page's ranking is that of `expand lookup`, rewritten in JavaScript."""
    queries = QUERIES.read_text().splitlines()
    (tmp_path / "code_set").write_text(packed_code_set)
    (tmp_path / "queries").write_text(json.dumps(queries))
    run_node(
        FILES[0].parent / CODE_SET_TEST,
        CODE_SET=str(tmp_path / "code_set"),
        QUERIES=str(tmp_path / "queries"),
        ANSWERS=str(tmp_path / "answers"),
    )
    answers = json.loads((tmp_path / "answers").read_text())
    search = Search(CodeBook.load())
    differing = []
    for query, hits in zip(queries, answers, strict=True):
        expected = [(hit.code, hit.where, round(hit.score, 3)) for hit in search.search(query, 20)[:5]]
        if [(hit["code"], hit["where"], round(hit["score"], 3)) for hit in hits[:5]] != expected:
            differing.append(query)
    assert len(queries) >= 100 and len(differing) <= 1, differing  # equal scores may change places
