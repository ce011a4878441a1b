"""Which notes an earlier run of `generate --out` has coded, and that it coded them in the same way.

Documents that were made with different settings must not end up in one file unnoticed: scores of the file would be
those of no system. So each document carries its settings (CodedDocument.coded_with), and a file with others is refused.

Read next: answer_log.py, the file itself.
"""

import hashlib
import json
import logging
from collections.abc import Iterable

from minscl.data.icd import CodeBook
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError

LOG = logging.getLogger("minscl")
EDITION = "edition"  # the setting with the code set; versions before 0.3.0 had only one
EVIDENCE = "evidence"  # the setting with a digest of a note's human evidence
Quotations = dict[str, list[str]]  # human evidence by note id


def code_set_settings(codebook: CodeBook) -> dict[str, str]:
    """The settings with the edition, and with the date of service where one was named."""
    return {EDITION: codebook.edition.id} | ({"date": str(codebook.date)} if codebook.date else {})


def already_coded(
    documents: Iterable[CodedDocument],
    notes: list[Note],
    path: str,
    settings: dict[str, str],
    evidence: Quotations | None = None,
) -> dict[str, CodedDocument]:
    """The `documents` of an earlier run, from `path`, by id.

    Raises InputError where a note's text or its human evidence has changed since, and where a document was coded with
    other `settings`. Documents that do not say (those of versions before 0.2.0) are used with a line in the log.
    """
    texts = {note.id: note.text for note in notes}
    coded, silent = {}, 0
    for document in documents:
        if texts.get(document.id, document.text) != document.text:
            raise InputError(
                f"{path}: {show_id(document.id)} was coded from another text; name another --out or give it a new id"
            )
        if document.coded_with is None:
            silent += 1
        else:
            known = evidence_setting(evidence, document.id) if document.id in texts else {}
            _compare(path, document, settings | known, ignore=EVIDENCE if document.id not in texts else "")
        coded[document.id] = document
    if silent:
        number = "1 document does" if silent == 1 else f"{silent:,} documents do"
        LOG.warning("minscl: %s: %s not say with what settings; their codes are kept", path, number)
    return coded


def evidence_setting(evidence: Quotations | None, note_id: str) -> dict[str, str]:
    """{"evidence": digest of the note's human quotations}; {} without any."""
    if evidence is None:
        return {}
    quotations = json.dumps(evidence[note_id]).encode()
    return {EVIDENCE: hashlib.sha256(quotations).hexdigest()[:16]}


def _compare(path: str, document: CodedDocument, settings: dict[str, str], ignore: str) -> None:
    """Raises InputError naming the first setting in which `document` differs."""
    before = document.coded_with or {}
    for name in [*settings, *(name for name in before if name not in settings)]:
        then, now = before.get(name, "none"), settings.get(name, "none")
        if name == EDITION and then == "none":
            raise InputError(
                f"{path}: {show_id(document.id)} was coded before 0.3.0, with the code set of April 2026; "
                "name another --out"
            )
        if name != ignore and then != now:
            raise InputError(
                f"{path}: {show_id(document.id)} was coded with {name} {then}, now {now}; name another "
                "--out, or use the same settings"
            )
