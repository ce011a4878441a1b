"""The coder's page as a file: what is in it, that only its own scripts can run, that the code set arrives whole."""

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.icd.tabular import NOTE_KINDS
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.infer.answer import filter_by_score
from minscl.page import code_set, page_html
from minscl.page.build import SCRIPTS, STYLES, TEMPLATE, read_static, resources
from minscl.page.code_set import codes_elsewhere, pack_code_set

BOOK = CodeBook.load()
HOSTILE = (
    "</script><script>alert(1)</script><!-- <script> --> ]]> {{scripts}} {{style}} <img src=x onerror=alert(1)> &lt;"
    "\u2028\u202e\x00\x1b[2J \U0001f600 \\u003c \\1"
)


class Elements(HTMLParser):
    """(tag, attributes, content) of each script and style, the policy, and all attributes, as a browser parses them."""

    def __init__(self, page: str):
        super().__init__()
        self.blocks: list[list] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.policy = ""
        self._is_block = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.attributes += attributes
        self._is_block = tag in ("script", "style")
        if self._is_block:
            self.blocks.append([tag, dict(attributes), ""])
        if dict(attributes).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attributes)["content"]

    def handle_endtag(self, tag):
        self._is_block = False

    def handle_data(self, data):
        if self._is_block:
            self.blocks[-1][2] += data

    def with_id(self, name: str) -> str:
        """The content of the data block with that id."""
        [content] = [content for _, attributes, content in self.blocks if attributes.get("id") == name]
        return content


def documents() -> list[CodedDocument]:
    evidence = (Evidence(HOSTILE[:9], 0, 9, True, "affirmed"), Evidence("</script>", None, None, False))
    codes = (Assignment("I10", HOSTILE, evidence, 0.5, (HOSTILE,)),)
    hostile = CodedDocument(f"{HOSTILE}.txt", HOSTILE, codes, output=HOSTILE, warnings=(HOSTILE,))
    return [hostile, CodedDocument("b", "x")]


@pytest.fixture(scope="module")
def page(packed_code_set) -> str:
    return page_html(documents(), BOOK, about=HOSTILE, entries=[{"entry": "e-1", "before": HOSTILE}])


@pytest.fixture(scope="module")
def packed(packed_code_set) -> dict:
    return json.loads(gzip.decompress(base64.b64decode(packed_code_set)))


def test_notes_are_data_and_arrive_unchanged(page, packed_code_set):
    """Guards a note that ends the data's element, fills in the template, or changes a character on the way."""
    elements = Elements(page)
    data = json.loads(elements.with_id("page-data"))
    assert data["documents"] == [document.to_dict() for document in documents()]
    assert [CodedDocument.from_dict(record) for record in data["documents"]] == documents()
    assert (data["about"], data["edition"], data["date"], data["server"]) == (HOSTILE, "2027", None, None)
    assert data["entries"] == [{"entry": "e-1", "before": HOSTILE}]
    assert "alert(1)" not in re.sub('<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    assert elements.with_id("code-set") == packed_code_set
    assert "\u2028" not in elements.with_id("page-data") and "{{" not in elements.with_id("code-set")


def test_a_lone_surrogate_can_be_written_and_read():
    """Guards UnicodeEncodeError after all notes are coded: JSON may hold half a pair, a UTF-8 file cannot."""
    document = CodedDocument("n", "pain \ud83d")
    page = page_html([document], BOOK).encode().decode()
    assert json.loads(Elements(page).with_id("page-data"))["documents"][0]["text"] == document.text


def test_the_policy_admits_what_is_in_the_page_and_nothing_else(page):
    """Guards a page whose scripts the browser refuses, and one that could run or load anything else."""
    elements = Elements(page)
    hashes = {"script": [], "style": []}
    for tag, attributes, content in elements.blocks:
        if "type" not in attributes:
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            hashes[tag].append(f"'sha256-{digest}'")
    assert len(hashes["script"]) == len(SCRIPTS) and len(hashes["style"]) == 1
    policy = dict(directive.split(" ", 1) for directive in elements.policy.split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": " ".join(hashes["script"]),
        "style-src": hashes["style"][0],
        "img-src": "data:",
        "connect-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    links = [value for name, value in elements.attributes if name in ("src", "href", "srcset", "action")]
    assert all(value.startswith(("#", "data:")) for value in links)
    assert not [name for name, _ in elements.attributes if name == "style" or name.startswith("on")]


def test_a_served_page_may_ask_its_server():
    """Guards a served page whose own requests the policy refuses, and a token that is not in it."""
    server = {"token": "t", "reviewer": "R", "canCode": True}
    elements = Elements(page_html([], BOOK, server=server))
    assert "connect-src 'self';" in elements.policy
    assert json.loads(elements.with_id("page-data"))["server"] == server


def test_the_files_of_the_page():
    """Guards a script that is forgotten in the page, one that hides another's function, and data that become markup."""
    folder = resources.files("minscl.page") / "static"
    assert {path.name for path in folder.iterdir()} == {TEMPLATE, *STYLES, *SCRIPTS}
    declared: dict[str, str] = {}
    for name in SCRIPTS:
        script = read_static(name)
        assert script.startswith('"use strict";\n'), name
        assert not re.search(r"</script|<!--", script, re.IGNORECASE), name
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|cssText)\b", script), name
        assert not re.search(r"setAttribute\(\s*[\"'](style|on)", script), name
        for match in re.finditer(r"^(?:async )?(?:function\*?|class|const|let|var) ([\w$]+)", script, re.MULTILINE):
            assert match[1] not in declared, f"{match[1]}: in {declared.get(match[1])} and {name}"
            declared[match[1]] = name
    assert not any("</style" in read_static(name) for name in STYLES)


def test_the_code_set_in_the_page_is_the_code_book(packed):
    """Guards a code, description, note or place in the tree that the packing loses or changes."""
    nodes = packed["codes"]
    descriptions, parents = [], []
    for place, text in enumerate(packed["descriptions"]):
        above = place - packed["parents"][place]
        parents.append(nodes[above] if above != place else None)
        descriptions.append(descriptions[above] + text[1:] if text.startswith("\t") else text)
    assert nodes == list(BOOK.nodes)
    assert parents == [BOOK.parent(node) for node in nodes]
    assert descriptions == [BOOK.description(node) for node in nodes]
    assert [node for node, digit in zip(nodes, packed["billable"], strict=True) if digit == "1"] == [
        node for node in nodes if BOOK.is_billable(node)
    ]
    notes = {node: {kind: texts for kind in NOTE_KINDS if (texts := BOOK.notes(node, kind))} for node in nodes}
    assert packed["notes"] == {node: kinds for node, kinds in notes.items() if kinds}
    assert (packed["edition"], packed["label"], packed["date"]) == ("2027", BOOK.label, None)
    assert packed["poaExempt"] is None  # no file of the edition has this list, and none is made up


def test_the_index_in_the_page_is_that_of_the_edition(packed, index_entries):
    """Guards lines of the Index and its tables that get lost, or lead to another code, where rows share titles."""
    in_page = []
    for table in packed["index"]:
        path: tuple[str, ...] = ()
        for shared, titles, *fields in table["rows"]:
            path = (*path[:shared], *titles)
            codes, modifiers, see = (*fields, *("", [], "")[len(fields) :])
            for column, code in zip(table["columns"] or [""], codes if table["columns"] else [codes], strict=True):
                if code is not None:
                    leads_to, printed, *has_own = code if isinstance(code, list) else (code, code)
                    is_referred = bool(see) and not has_own
                    in_page.append((table["book"], path, column, tuple(modifiers), see, is_referred, leads_to, printed))
    assert sorted(in_page) == sorted(
        (
            entry.term.book,
            entry.term.path,
            entry.term.column,
            entry.term.modifiers,
            entry.term.see,
            bool(entry.term.see and not entry.term.default_code),
            entry.code,
            entry.printed_codes,
        )
        for entry in index_entries
    )


def test_codes_of_another_edition_say_when_they_are_valid():
    """Guards a code of last year that the page calls unknown, and one of this year that it calls invalid."""
    assert codes_elsewhere(BOOK)["I42.0"] == ("Dilated cardiomyopathy", "valid until 2026-09-30")
    before = CodeBook.load(date="2026-09-30")
    elsewhere = codes_elsewhere(before)
    assert "I42.0" not in elsewhere and elsewhere
    assert {valid for _, valid in elsewhere.values()} == {"valid from 2026-10-01"}


def test_the_code_set_is_packed_once(tmp_path, monkeypatch):
    """Guards seconds for every page and reload; a damaged file in the cache, or one of another version, in the page."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def packed(by: str) -> str:
        monkeypatch.setattr(code_set, "pack", lambda codebook: by)
        pack_code_set.cache_clear()  # what this process keeps
        return pack_code_set(BOOK)

    assert packed("first") == "first" == packed("second")
    [file] = (tmp_path / "minscl").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert packed("third") == "third"
    monkeypatch.setattr(code_set, "__version__", "9.9")
    assert packed("fourth") == "fourth"
    assert pack_code_set(BOOK) is pack_code_set(BOOK)
    pack_code_set.cache_clear()


def remarks_of(document: CodedDocument) -> dict:
    return json.loads(Elements(page_html([document], BOOK)).with_id("page-data"))["remarks"][0]


def test_remarks_say_what_a_document_is():
    """Guards a page without the code set, the model or what a score is, and "nothing to code" where nobody coded."""
    codes = (Assignment("I10", "", (), 0.82), Assignment("R52", "", (), 0.1))
    document = CodedDocument("n", "HTN", codes, edition="2027", coded_with={"calibration": "none", "model": "demo"})
    about = "ICD-10-CM edition 2027; model demo; score: the model's own, not calibrated"
    assert remarks_of(document) == {"about": about, "noCodes": "", "ownWarnings": []}
    remarks = remarks_of(check_document(filter_by_score(document, 0.5), BOOK))
    assert remarks["ownWarnings"] == ["left out, score below 0.5: R52 (0.10)"]
    left_out = remarks_of(filter_by_score(document, 0.9))["noCodes"]
    assert left_out == "no code is left: 2 scored below the threshold; --min-score 0 keeps all"
    assert remarks_of(dataclasses.replace(document, codes=()))["noCodes"] == "nothing to code was found"
    assert remarks_of(CodedDocument("n", "HTN")) == {"about": "", "noCodes": "", "ownWarnings": []}
