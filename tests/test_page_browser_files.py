"""What leaves the coder's page and comes back: names, files, the log, the browser's storage, paper. In a real browser
without a network. Read test_page_browser.py first.
"""

import csv
import json
import re

import pytest

from minscl import evaluate
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument
from tests.browser import REVIEWER, CoderPage
from tests.conftest import call_command

pytestmark = pytest.mark.browser


def export(page, button: str):
    """The text of the file that a button of the export dialog saves."""
    page.press("x")
    with page.tab.expect_download() as download:
        page.tab.locator("dialog button", has_text=button).click()
    page.press("Escape")
    return download.value.path().read_bytes().decode()


def test_the_name_is_asked_once_and_without_one_nothing_is_decided(coder, examples_page):
    """Guards a log that does not say who."""
    page = coder(examples_page[1], has_codes=False)
    page.press("a", "Escape")
    assert page.item("I11.0")["decision"] == "undecided" and "needs a name" in page.message()
    page.press("a")
    page.name_reviewer()
    page.press("j", "a")
    assert page.tab.locator("dialog").count() == 0
    assert [entry["who"] for entry in page.tab.evaluate("() => currentNote().review.entries")] == [REVIEWER] * 2


def finish(page):
    """Finish the note although codes are undecided, after a first answer that goes on."""
    page.press("f")
    assert "are undecided" in page.tab.locator("dialog").inner_text()
    page.press("Enter")  # the button in focus changes nothing
    assert not page.state["finished"]
    page.press("f")
    page.tab.get_by_role("button", name="Finish it").click()
    page.wait("currentNote().review.state.finished")


def test_files_are_read_by_evaluate_and_the_log_goes_on_elsewhere(page, coder, examples_page, tmp_path):
    """Guards files that nothing else reads, undecided codes in them, and a log whose import decides something else."""
    page.press("a", "p", "1", "j", "a", "j", "r")
    page.press("x")
    assert page.tab.get_by_role("button", name="Reviewed documents").is_disabled()
    page.press("Escape")
    finish(page)
    page.press("a")
    assert "is finished" in page.message()
    page.press("n")
    assert page.tab.locator("#note-title").inner_text() == "diabetes_epilepsy.txt"
    page.press("r", "b")
    (tmp_path / "reviewed.jsonl").write_text(export(page, "Reviewed documents"))
    [reviewed] = read_jsonl(tmp_path / "reviewed.jsonl", CodedDocument)
    assert [code.code for code in reviewed.codes] == ["I11.0", "I50.9"] and reviewed.text == examples_page[0][0].text
    (tmp_path / "machine.jsonl").write_text(export(page, "machine.jsonl"))
    write_jsonl(tmp_path / "batch.jsonl", examples_page[0])  # three notes, of which one is finished
    for arguments in (["machine.jsonl"], ["batch.jsonl", "--gold-notes-only"]):
        report = call_command(evaluate.main, "--gold", "reviewed.jsonl", "--pred", *arguments, cwd=tmp_path)
        assert report.returncode == 0, report.stderr
        # F1 of 2 codes, both among the machine's 8
        assert report.stdout.split("\n")[1].split()[:2] == ["micro", "40.0"]
    rows = list(csv.DictReader(export(page, "Codes as a table").removeprefix("\ufeff").splitlines()))
    assert [row["decision"] for row in rows[:3]] == ["accepted", "accepted", "rejected"]
    assert (rows[0]["principal"], rows[0]["present_on_admission"], rows[0]["reviewer"]) == ("yes", "Y", REVIEWER)
    assert rows[0]["evidence"].startswith("“Congestive heart failure” (")
    log = export(page, "Decision log")
    assert [json.loads(line)["act"] for line in log.splitlines()].count("accept") == 2
    other = coder(examples_page[1], has_codes=False)
    other.press("x")
    file = {"name": "decisions.jsonl", "mimeType": "application/x-ndjson", "buffer": log.encode()}
    other.tab.locator("dialog input[type=file]").set_input_files(file)
    other.wait("!document.querySelector('dialog')")
    assert other.state == page.state
    assert "finished" in other.tab.locator("#documents option").first.inner_text()


def test_the_browser_keeps_the_log_only_when_that_is_switched_on(coder, examples_page):
    """Guards patient text that stays on a machine unasked, and decisions lost by a reload although it was asked for."""
    page = coder(examples_page[1], has_codes=False)
    page.set_reviewer()
    page.press("a")
    assert page.tab.evaluate("() => localStorage.length") == 0
    page.press("x")
    dialog = page.tab.locator("dialog")
    assert "keeps patient text" in dialog.inner_text()
    dialog.get_by_label("Keep my decisions in this browser").check()
    page.press("Escape", "j", "r")
    decided = page.state
    page.tab.reload()
    assert page.state == decided and page.tab.locator("#reviewer").inner_text() == f"Reviewer: {REVIEWER}"
    page.press("x")
    dialog.get_by_label("Keep my decisions in this browser").uncheck()
    assert page.tab.evaluate("() => localStorage.length") == 0


def test_an_imported_log_comes_out_in_its_order_and_leads_to_the_same_state(page, coder, examples_page):
    """Guards a log sorted by time: an older reject that was imported after a later accept would flip to accepted."""
    page.press("r")
    older = export(page, "Decision log")
    page.start_again()
    page.press("a")
    import_log(page, older)
    assert page.item("I11.0")["decision"] == "rejected"
    log = export(page, "Decision log")
    assert [json.loads(line)["act"] for line in log.splitlines()] == ["accept", "reject"]
    other = coder(examples_page[1], has_codes=False)
    import_log(other, log)
    assert other.state == page.state


def import_log(page, log: str):
    """Choose a decision log in the export dialog; the dialog closes where it is taken."""
    page.press("x")
    file = {"name": "decisions.jsonl", "mimeType": "application/x-ndjson", "buffer": log.encode()}
    page.tab.locator("dialog input[type=file]").set_input_files(file)
    page.wait("!document.querySelector('dialog') || document.querySelector('dialog .problem').textContent")


def test_a_log_of_other_codes_is_refused(page):
    """Guards codes of the machine that are replaced by those of another run, as decided, without a word; and a message
    that is an exception of the program's."""
    page.press("j", "a")
    entry = json.loads(export(page, "Decision log"))
    page.start_again()
    before = page.state
    changed = json.dumps(entry).replace("I50.9", "I50.20")
    for log, message in ((changed, "other codes"), (json.dumps(entry).replace('"start"', '"begin"'), "cannot read")):
        import_log(page, log)
        assert message in page.tab.locator("dialog .problem").inner_text()
        page.press("Escape")
        assert page.state == before


def keep_in_browser(page):
    """Switch the browser's storage on, or off."""
    page.press("x")
    page.tab.locator("dialog").get_by_label("Keep my decisions in this browser").click()
    page.press("Escape")


def test_of_two_tabs_that_keep_decisions_in_the_browser_one_decides(coder, examples_page):
    """Guards two tabs that write over each other's decisions in the browser's storage: the second is told on opening,
    only reads, and takes over with all that was decided; the first is told then."""
    first = coder(examples_page[1], has_codes=False)
    first.set_reviewer()
    apart = CoderPage(first.tab.context, examples_page[1])  # opened before the storage is on: it cannot know
    keep_in_browser(first)
    keep_in_browser(apart)
    assert "another tab" in apart.tab.locator("#notice").inner_text()
    first.press("a")
    second = CoderPage(first.tab.context, examples_page[1])
    second.wait("!document.getElementById('notice').hidden")
    second.press("j", "r")
    assert second.item("I50.9")["decision"] == "undecided" and "Another tab" in second.message()
    first.press("j", "r")
    with second.tab.expect_navigation():
        second.tab.locator("#notice button").click()
    assert second.tab.locator("#notice").is_hidden()
    assert second.tab.evaluate("() => currentNote().review.entries.length") == 2
    first.wait("!document.getElementById('notice').hidden")
    second.set_reviewer()
    second.look_at("R32")
    second.press("r")
    first.press("d")
    assert first.item("I50.9")["decision"] == "rejected" and "Another tab" in first.message()
    second.tab.reload()
    assert [second.item(code)["decision"] for code in ("I11.0", "I50.9", "R32")] == ["accepted", "rejected", "rejected"]
    keep_in_browser(second)
    first.wait("document.getElementById('notice').hidden")
    apart.wait("document.getElementById('notice').hidden && !app.readOnly.size")
    assert first.tab.evaluate("() => localStorage.length") == 0
    assert first.complaints == second.complaints == apart.complaints == []


def test_a_full_storage_is_emptied_and_told(coder, examples_page):
    """Guards patient text that stays in the browser although the page says that its storage is off, and decisions that
    are lost by closing the tab without a question."""
    page = coder(examples_page[1], has_codes=False)
    page.set_reviewer()
    keep_in_browser(page)
    page.press("a")
    page.tab.reload()
    page.tab.evaluate(
        "() => localStorage.setItem('other', 'x'.repeat(5_242_880 - 2000 - JSON.stringify(localStorage).length))"
    )
    page.press("j", "r", "a", "r", "a", "r")
    notice = page.tab.locator("#notice")
    assert "takes no more" in notice.inner_text() and "download the log" in notice.inner_text()
    assert page.tab.evaluate("() => Object.keys(localStorage)") == ["other"]
    assert page.tab.locator("#kept").inner_text() == "6 decisions not downloaded" and page.tab.evaluate("app.isUnsaved")
    page.press("n")
    assert notice.is_visible()
    page.press("x")
    assert not page.tab.locator("dialog").get_by_label("Keep my decisions in this browser").is_checked()


def test_search_adds_no_code_for_one_that_is_not_listed(page):
    """Guards T32.99 that Enter added for "I50.99", and left-out codes without their descriptions."""
    page.wait("app.search")
    before = page.codes()
    page.press("/")
    page.tab.keyboard.type("I50.99")
    page.press("Enter")
    assert page.tab.locator("dialog .hit-count").inner_text() == "No code is found."
    page.press("Escape")
    assert page.codes() == before
    warning = "left out, score below 0.21: K21.00 (0.18)"
    listed = page.tab.evaluate("(warning) => newWarnings([warning]).textContent", warning)
    assert "K21.00 Gastro-esophageal reflux disease" in listed


def test_paper_has_a_summary_with_a_signature_and_the_note(page):
    """Guards a printout with the screen's buttons, without the note, or without a line to sign."""
    page.press("a", "j", "r")
    page.tab.emulate_media(media="print")
    page.tab.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    sheet = page.tab.locator("#print .sheet").inner_text()
    assert "I11.0" in sheet and "Signature:" in sheet and f"Reviewer: {REVIEWER}" in sheet
    assert "Review not finished: 2 of 8 codes decided" in sheet
    assert page.tab.locator("#note").is_visible() and not page.tab.locator("#hints").is_visible()
    pdf = page.tab.pdf(prefer_css_page_size=True)
    page.tab.emulate_media(media="screen")
    assert 2 <= len(re.findall(rb"/Type /Page\b", pdf)) <= 4
