"""The folder of a review: what coders decided, on the disk before they are told that it is kept.

    documents.jsonl   the documents as they were first shown, so that a later start goes on
    decisions.jsonl   the journal: one Entry a line, appended and fsynced
    reviewed.jsonl    finished documents with their accepted codes, for `evaluate` and `train`; replaced with each
    machine.jsonl     what the machine had coded them with, for `evaluate`; replaced with it

One server has the folder open (lock), nothing outside it is written, and the files are private. A kill can leave only
the journal's last line incomplete, and that one was never answered.

Read next: entry.py, an entry; server.py, which is told of them by the page.
"""

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from minscl import temporary
from minscl.data.answer_log import AnswerLog
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.files import list_folder, lock_folder, path_kind, remove_file
from minscl.page.answer import is_coded, machine_document
from minscl.page.entry import Entry, Item, check_evidence

LOG = logging.getLogger("minscl")
DOCUMENTS, JOURNAL, REVIEWED = "documents.jsonl", "decisions.jsonl", "reviewed.jsonl"
MACHINE = "machine.jsonl"
START = "start.html"  # while the server runs: leads the browser to it, so that the token is in no list of processes


class Diverged(Exception):
    """The journal has decisions about a document that the page which sent others has not seen."""


class ReviewFolder:
    """The folder `path` open for a review of `documents`, to be used as a context manager.

    Without `documents`, the review of all those in the folder goes on. `documents`: id → document as the page shows it,
    which is as it was first shown where a decision about it is in the journal. Raises InputError where the folder is
    open elsewhere, cannot be written or read, has another machine.jsonl, and where a document's text has changed since.
    """

    def __init__(self, path: str | Path, documents: Sequence[CodedDocument] = ()):
        self.path = Path(path)
        self._lock = threading.Lock()
        if not documents and path_kind(self.path / DOCUMENTS) == "missing":
            raise InputError(f"{path}: no review to go on with; name notes or coded documents, or another --out")
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_folder(path))
            self._clean()
            self._log = stack.enter_context(AnswerLog(self.path / JOURNAL, Entry))
            if self._log.cut_incomplete():
                LOG.warning("minscl: %s: the last line was incomplete and is cut off", self.path / JOURNAL)
            self._entries: dict[str, Entry] = {entry.entry: entry for entry in self._log.records}
            stored, self._reviewed = self._read(DOCUMENTS), self._read(REVIEWED)
            self._check_decisions()
            first_shown = self._merge(stored, documents)
            if first_shown != stored:
                write_jsonl(self.path / DOCUMENTS, first_shown.values())
            shown = [document.id for document in documents] or list(first_shown)
            self.documents = {name: first_shown[name] for name in shown}
            self._first_shown, self._order = first_shown, list(first_shown)
            self._machine = self._read_machine()
            machine = list(self._machine_documents(self._reviewed))
            if machine != list(self._machine.values()):  # removed, or a kill came between it and reviewed.jsonl
                write_jsonl(self.path / MACHINE, machine)
            self._stack = stack.pop_all()

    def __enter__(self) -> "ReviewFolder":
        return self

    def __exit__(self, *_) -> None:
        self._stack.close()

    def entries(self, document: str | None = None) -> list[Entry]:
        """The entries about the document with that id, None: about all that are shown, in the journal's order."""
        with self._lock:
            names = self.documents if document is None else {document}
            return [entry for entry in self._entries.values() if entry.document in names]

    def last(self, document: str) -> str | None:
        """The id of the last entry about the document with that id."""
        entries = self.entries(document)
        return entries[-1].entry if entries else None

    def unwritten(self) -> list[str]:
        """Ids of documents of which reviewed.jsonl lacks what the journal has: that they are finished or reopened, or
        which codes are accepted. A kill or a full disk came between."""
        finished: dict[str, bool] = {}
        items: dict[str, dict[str, Item | None]] = {}  # document → key → the item with a code, None: removed
        with self._lock:
            for entry in self._entries.values():
                items.setdefault(entry.document, {}).update(entry.after.get("codes", {}))
                if "finished" in entry.after:
                    finished[entry.document] = entry.after["finished"]
            written = {name: sorted(code.code for code in document.codes) for name, document in self._reviewed.items()}
        accepted = {
            name: sorted(item["code"] for item in items[name].values() if item and item["decision"] == "accepted")
            for name, is_finished in finished.items()
            if is_finished
        }
        return [name for name in finished if name in self.documents and accepted.get(name) != written.get(name)]

    def check(self, document: str, entries: Iterable, reviewed) -> tuple[list[Entry], CodedDocument | None]:
        """JSON objects that a page sent about `document` as records. Raises InputError where they are not of it."""
        text, records = self.documents[document].text, []
        for value in entries:
            entry = Entry.from_dict(value)
            if entry.document != document:
                raise InputError("Entry: of another document; send each document's by itself")
            check_evidence(entry, text)
            records.append(entry)
        result = None if reviewed is None else CodedDocument.from_dict(reviewed)
        if result and (result.id, result.text) != (document, text):
            raise InputError("CodedDocument: its id or text is not that of the document; reload the page")
        return records, result

    def keep(
        self, document: str, entries: Iterable[Entry], reviewed: CodedDocument | None, after: str | None = None
    ) -> None:
        """Return once both are on the disk; entries that the journal has already are left out.

        `reviewed` None: `document` is not finished, or not any more. `after`: the id of the last entry about it that
        the sender has seen, None: there was none. Raises InputError where writing fails, Diverged where the journal has
        others since; calling it again with the same is safe.
        """
        with self._lock:
            sent = {entry.entry: entry for entry in entries}
            seen = [name for name, entry in self._entries.items() if entry.document == document and name not in sent]
            if (seen[-1] if seen else None) != after:
                raise Diverged
            new = {name: entry for name, entry in sent.items() if name not in self._entries}
            if new:
                self._log.append(new.values())
                self._entries |= new
            if self._reviewed.get(document) != reviewed:
                changed = {name: record for name, record in self._reviewed.items() if name != document}
                changed |= {document: reviewed} if reviewed else {}
                # a document of an earlier review whose record in documents.jsonl is gone stays, at the end
                order = dict.fromkeys([*(name for name in self._order if name in changed), *changed])
                write_jsonl(self.path / MACHINE, self._machine_documents(order))
                write_jsonl(self.path / REVIEWED, (changed[name] for name in order))
                self._reviewed = changed

    def _check_decisions(self) -> None:
        """Raises InputError where the journal has no decision about a reviewed document: the next would remove it."""
        decided = {entry.document for entry in self._entries.values()}
        if number := len(self._reviewed.keys() - decided):
            raise InputError(
                f"{self.path / JOURNAL}: has no decisions about {number} of the documents in {REVIEWED}; "
                "put the journal back, or name another --out"
            )

    def _machine_documents(self, names: Iterable[str]) -> Iterator[CodedDocument]:
        answers: dict[str, list[dict]] = {}
        for entry in self._entries.values():
            if answer := entry.after.get("answer"):
                answers.setdefault(entry.document, []).append(answer)
        for name in names:
            if name in self._first_shown:
                document = machine_document(self._first_shown[name], answers.get(name, ()))
            else:
                document = self._machine.get(name)
            if document:
                yield document

    def _read_machine(self) -> dict[str, CodedDocument]:
        """machine.jsonl by id. Raises InputError for one that this review has not written and would overwrite."""
        try:
            machine = self._read(MACHINE)
        except InputError as error:
            raise InputError(f"{error}; or remove {MACHINE}, which is then made anew") from error
        for name in machine:
            if name not in self._first_shown and name not in self._reviewed:
                raise InputError(
                    f"{self.path / MACHINE}: {show_id(name)} is none of this review's documents; move the file, "
                    "which a review replaces, or name another --out"
                )
        return machine

    def _read(self, name: str) -> dict[str, CodedDocument]:
        path = self.path / name
        records = [] if path_kind(path) == "missing" else read_jsonl(path, CodedDocument)
        return {document.id: document for document in records}

    def _merge(self, stored: dict[str, CodedDocument], documents: Sequence[CodedDocument]) -> dict[str, CodedDocument]:
        """Id → the document as it was first shown, which one without decisions yet was not."""
        merged, begun = dict(stored), {entry.document for entry in self._entries.values()}
        for document in documents:
            name, known = document.id, stored.get(document.id)
            reviewed = self._reviewed.get(name, document)
            if document.text != (known or document).text or document.text != reviewed.text:
                raise InputError(
                    f"{self.path}: {show_id(name)} was reviewed with another text; name another --out, or give it a "
                    "new id"
                )
            if known is None or (name not in begun and is_coded(document)):
                merged[name] = document
            elif is_coded(document) and document.codes != known.codes:
                LOG.warning(
                    "minscl: %s: %s had other codes when its review began, which goes on with those; another --out "
                    "begins anew",
                    self.path,
                    show_id(name),
                )
        return merged

    def _clean(self) -> None:
        """Remove what a kill has left of files.replace_file. Raises InputError for a link out of the folder."""
        for name in (DOCUMENTS, JOURNAL, REVIEWED, MACHINE, START):
            if (self.path / name).is_symlink():
                raise InputError(f"{self.path / name}: a link; a review writes nothing outside its folder, remove it")
        for path in list_folder(self.path):
            if path.match(temporary.NAMES):
                remove_file(path)
