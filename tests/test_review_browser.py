"""`python -m minscl.review` as a coder sees it: a real server, a real browser, the embedded model.

test_page_browser.py has what the page does without a server, test_review_server.py what others send.
"""

import dataclasses
import json
import os
import signal

import pytest

from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument
from tests.browser import REVIEWER
from tests.review_process import ReviewProcess

pytest.importorskip("uvicorn", reason="the review extra is not installed")
pytestmark = pytest.mark.browser

SAVED = "document.getElementById('kept').textContent === 'Saved'"


@pytest.fixture(scope="module")
def start(browser, packed_code_set, tmp_path_factory):
    """start(*arguments): a server of a review that all tests share. `browser`: without one nothing is built."""
    folder = tmp_path_factory.mktemp("review")
    return lambda *arguments: ReviewProcess(folder / "review", *arguments, "--reviewer", REVIEWER)


@pytest.fixture(scope="module")
def server(start, examples_page, tmp_path_factory):
    """A server of the examples, one without codes, with the embedded model."""
    coded = tmp_path_factory.mktemp("coded") / "coded.jsonl"
    first, *others = examples_page[0]
    warnings = (*(first.warnings or ()), "left out, score below 0.21: K21.00 (0.18)")
    write_jsonl(coded, [dataclasses.replace(first, warnings=warnings), *others])
    with start(coded) as process:
        yield process


def address_of(process, note=1) -> str:
    return f"http://127.0.0.1:{process.port}/?token={process.token}#{note}"


def journal(process) -> list[dict]:
    """The decisions on the disk."""
    return [json.loads(line) for line in (process.folder / "decisions.jsonl").read_text().splitlines()]


def test_a_note_is_coded_as_one_watches_and_again_from_the_coder_s_evidence(coder, server):
    """Guards an answer that shows only at its end, codes that cannot be undone, and evidence of the coder's that the
    model does not get; codes without edition and model on the page and in the log; an answer that is thrown away
    for want of a name, and evidence that needs a code."""
    page = coder(address_of(server, 3), has_codes=False)
    assert page.tab.locator("#note-title").inner_text() == "urinary_coronary.txt" and page.codes() == []
    answer = page.tab.locator(".answer")
    page.select("urinary")
    page.press("e")
    assert "urinary" in page.tab.locator("#own-evidence").inner_text()
    assert page.tab.get_by_role("button", name="Code again from my evidence").is_visible()
    page.press("u")
    assert page.state["evidence"] == [] and page.codes() == []
    page.tab.evaluate("() => { app.reviewer = ''; }")
    page.tab.get_by_role("button", name="Code this note").click()
    page.press("Escape")
    assert "needs a name" in page.message() and page.tab.evaluate("() => app.coding.abort === null")
    page.tab.evaluate("(name) => { app.reviewer = name; }", REVIEWER)
    page.tab.get_by_role("button", name="Code this note").click()
    page.wait("document.querySelector('.answer').textContent.length > 10")
    early = answer.inner_text()
    assert page.codes() == [] and page.tab.get_by_role("button", name="Stop").is_visible()
    page.wait(f"document.querySelector('.answer').textContent.length > {len(early) + 20}")
    page.wait("document.querySelector('#codes article') !== null")
    coded = page.codes()
    assert coded and not answer.is_visible()
    about = page.tab.locator("#note-about").inner_text()
    assert "ICD-10-CM edition 2027; model " in about and "score: " in about and "Not for clinical use" in about
    assert page.tab.locator("#progress").inner_text() == f"0 of {len(coded)} decided"
    page.press("u")
    assert page.codes() == []
    page.press("Shift+U")
    assert page.codes() == coded
    page.press("j", "a")
    kept = page.tab.locator("#codes .card-place.accepted h3 .code").all_inner_texts()
    page.select("urinary")
    page.press("e")
    sent = []
    page.tab.on("request", lambda request: sent.append(request.post_data_json) if "/api/code" in request.url else None)
    page.tab.get_by_role("button", name="Code again from my evidence").click()
    page.wait("currentNote().review.entries.at(-1).act === 'code-again' && currentNote().review.entries.length > 4")
    assert len(kept) == 1 and page.item(kept[0])["decision"] == "accepted"
    expected = {quotation["text"] for quotation in page.item(kept[0])["evidence"] if quotation["start"] is not None}
    assert expected and set(sent[0]["evidence"]) == expected
    page.wait(SAVED)
    assert {entry["who"] for entry in journal(server)} == {REVIEWER}
    [answer, *_] = [entry["after"]["answer"] for entry in journal(server) if entry["act"] == "code-again"]
    assert answer["edition"] == "2027" and answer["coded_with"]["model"] and answer["about"] in about


def test_rules_are_checked_again_after_a_change(coder, server):
    """Guards a finding that stays after its cause is rejected, and denied evidence of the coder's."""
    page = coder(address_of(server), has_codes=False)
    page.look_at("R32")
    assert "Excludes1" in page.card("R32").inner_text()
    page.look_at("N39.41")
    page.press("r")
    page.expect(page.card("R32")).not_to_contain_text("Excludes1: ")
    page.look_at("I10")
    page.select("dyspnea")
    page.press("e")
    page.expect(page.card("I10").locator("li", has_text="“dyspnea”")).to_contain_text("denied")
    page.expect(page.tab.locator("#warnings")).to_contain_text("K21.00")  # the machine's, which no check repeats
    page.press("u", "u")


def test_the_finished_note_is_a_file_before_the_page_says_saved(coder, server):
    """Guards a reviewed note that is written later or not at all, and one that stays there when it is opened again."""
    page = coder(address_of(server, 2), has_codes=False)
    page.press("a", "f")
    page.tab.get_by_role("button", name="Finish it").click()
    page.wait(f"currentNote().review.state.finished && {SAVED}")
    [reviewed] = read_jsonl(server.folder / "reviewed.jsonl", CodedDocument)
    assert reviewed.id == "diabetes_epilepsy.txt" and [code.code for code in reviewed.codes] == ["G40.909"]
    [machine] = read_jsonl(server.folder / "machine.jsonl", CodedDocument)
    assert machine.id == reviewed.id and machine.codes and reviewed.edition == "2027"
    page.press("f")
    page.wait(f"!currentNote().review.state.finished && {SAVED}")
    assert (server.folder / "reviewed.jsonl").read_text() == ""


def test_the_second_tab_is_told_and_takes_over_without_loss(coder, server):
    """Guards two tabs that decide about one note: the second only reads until it takes over."""
    first = coder(address_of(server), has_codes=False)
    first.press("a")
    first.wait(SAVED)
    second = coder(address_of(server), has_codes=False)
    notice = second.tab.locator("#notice")
    second.wait("!document.getElementById('notice').hidden")
    assert "open in another tab" in notice.inner_text()
    second.look_at("I11.0")
    second.press("r")
    assert second.item("I11.0")["decision"] == "accepted" and "Another tab" in second.message()
    for key in ("f", "/", "c"):  # asks nothing that it could not do
        second.tab.evaluate("() => say('')")
        second.press(key)
        assert second.tab.locator("dialog").count() == 0 and "Another tab" in second.message(), key
    first.press("j", "r")
    first.wait(SAVED)
    notice.get_by_role("button").click()
    second.wait("document.getElementById('notice').hidden")
    assert second.state == first.state  # with what the first tab has decided since
    second.press("p")
    second.wait(SAVED)
    before = len(journal(server))
    first.press("d")
    first.wait("!document.getElementById('notice').hidden")
    assert len(journal(server)) == before and "not" in first.tab.locator("#kept").inner_text().lower()
    first.forgives = True  # the browser reports the refusal, 409


def test_a_tab_left_open_shows_what_another_has_decided_before_it_decides(coder, server):
    """Guards decisions overwritten by a tab that was open on another note meanwhile, and a finished note that vanishes
    from the disk with its first key; a key pressed before the note is loaded decides nothing."""
    stale = coder(address_of(server, 3), has_codes=False)
    other = coder(address_of(server, 2), has_codes=False)
    other.press("a", "p", "f")
    other.wait(f"currentNote().review.state.finished && {SAVED}")
    other.press("b")
    other.wait("document.getElementById('note-title').textContent === 'note.txt'")
    other.tab.evaluate("() => app.opening")
    before = len(journal(server))
    [reviewed] = read_jsonl(server.folder / "reviewed.jsonl", CodedDocument)
    assert reviewed.id == "diabetes_epilepsy.txt"
    stale.tab.evaluate("() => { stepNote(-1); actOnCode('reject'); }")
    stale.wait("currentNote().review.state.finished")
    assert stale.tab.locator("#notice").is_hidden()
    assert stale.tab.locator("#progress").inner_text() == "Finished: 1 of 1 decided"
    assert stale.item("G40.909")["decision"] == "accepted" and stale.item("G40.909")["principal"]
    assert "another tab has decided" in stale.message().lower() and len(journal(server)) == before
    stale.press("f", "p")
    stale.wait(f"!currentNote().review.state.finished && {SAVED}")
    assert stale.item("G40.909")["decision"] == "accepted"
    assert journal(server)[-2]["act"] == "reopen"
    stale.press("u", "a")


def test_the_export_has_what_other_tabs_decided_in_notes_not_opened_here(coder, server):
    """Guards files of a tab that was opened earlier, without the decisions that others made meanwhile, a wrong count of
    finished notes, and no word of it where the server does not answer."""
    stale = coder(address_of(server, 3), has_codes=False)
    other = coder(address_of(server, 2), has_codes=False)
    other.press("d", "1", "a", "f")
    if other.tab.get_by_role("button", name="Finish it").count():
        other.tab.get_by_role("button", name="Finish it").click()
    other.wait(f"currentNote().review.state.finished && {SAVED}")
    stale.press("x")
    with stale.tab.expect_download() as download:
        stale.tab.locator("dialog button", has_text="Reviewed documents").click()
    [reviewed] = download.value.path().read_text().splitlines()
    assert json.loads(reviewed)["id"] == "diabetes_epilepsy.txt"
    assert "1 of 3 notes are finished" in stale.tab.locator("dialog").inner_text()
    with stale.tab.expect_download() as download:
        stale.tab.locator("dialog button", has_text="Decision log").click()
    exported = {json.loads(line)["entry"] for line in download.value.path().read_text().splitlines()}
    assert exported == {entry["entry"] for entry in journal(server)}
    stale.press("Escape")
    assert "finished" in stale.tab.locator("#documents option").nth(1).inner_text().split("– ")[1]
    stale.tab.route("**/api/entries", lambda route: route.abort())
    stale.press("x")
    assert "server does not answer" in stale.tab.locator("dialog [role=alert]").first.inner_text()
    stale.press("Escape")
    stale.tab.unroute_all()  # else it could not say goodbye
    stale.forgives = True  # the browser reports the request that failed
    other.press("f")
    other.wait(f"!currentNote().review.state.finished && {SAVED}")


def test_decisions_that_the_server_refuses_are_told_and_block_no_other_note(coder, server):
    """Guards one entry that the server refuses, after which nothing of any note is saved, and nobody is told why."""
    page = coder(address_of(server, 3), has_codes=False)
    page.wait(SAVED)
    page.tab.evaluate("""() => {
      const { review } = currentNote();
      const bad = { entry: "e-bad", at: "yesterday", document: review.document.id, before: {}, after: {} };
      app.store.keep(review, [bad]);
    }""")
    page.wait("!document.getElementById('notice').hidden")
    assert "urinary_coronary.txt are not saved" in page.tab.locator("#notice").inner_text()
    before = len(journal(server))
    page.press("b", "d")
    page.wait("document.getElementById('kept').textContent === 'Not saved (1): the server refuses them'")
    for _ in range(100):  # the line about the refused entry stands already; the good one is on its way
        if len(journal(server)) > before:
            break
        page.tab.wait_for_timeout(100)
    assert len(journal(server)) == before + 1 and page.tab.locator("#notice").is_visible()
    page.forgives = True  # the browser reports the refusal, 400


def test_a_killed_server_has_lost_nothing_and_the_page_says_so(coder, server, start):
    """Guards decisions that were called saved and are not there after kill -9, a finished note without its line in
    reviewed.jsonl, and a page that calls others saved."""
    page = coder(address_of(server, 2), has_codes=False)
    page.press("a", "p", "2", "f")
    if page.tab.get_by_role("button", name="Finish it").count():
        page.tab.get_by_role("button", name="Finish it").click()
    page.wait(f"currentNote().review.state.finished && {SAVED}")
    saved = page.state
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    (server.folder / "reviewed.jsonl").unlink()  # as where the kill came after the journal
    page.press("f")
    page.wait("document.getElementById('kept').textContent.startsWith('Not saved (1)')")
    assert page.tab.evaluate("() => app.isUnsaved")
    page.forgives = True  # connections that are refused
    with start() as again:
        other = coder(address_of(again, 2), has_codes=False)
        assert other.state == saved
        assert other.tab.locator("#codes .decision").all_inner_texts() == ["accepted"]
        other.wait(SAVED)
        [reviewed] = read_jsonl(server.folder / "reviewed.jsonl", CodedDocument)
        assert [code.code for code in reviewed.codes] == ["G40.909"]
        other.press("x")
        log = {"name": "decisions.jsonl", "mimeType": "application/x-ndjson"}
        page.press("x")
        with page.tab.expect_download() as download:
            page.tab.locator("dialog button", has_text="Decision log").click()
        log["buffer"] = download.value.path().read_bytes()  # the first page still has what it could not save
        other.tab.locator("dialog input[type=file]").set_input_files(log)
        other.wait(f"!document.querySelector('dialog') && {SAVED}")
        assert other.state == page.state
        assert journal(again)[-1]["act"] == "reopen"
        other.forgives = True  # its goodbye meets a server that is gone
