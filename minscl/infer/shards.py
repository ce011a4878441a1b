"""The files in which several processes code the notes of one `generate --out coded.jsonl`, and how they become one.

    coded.jsonl.rank0-of-4         what process 0 of 4 has coded, an AnswerLog
    coded.jsonl.rank0-of-4.done    it has coded its whole share: {"notes": digest of all notes, "skipped": [ids of those
                                   that cannot be coded]}

The process that finishes last appends all documents to coded.jsonl, in the order of the notes, and removes these files.
No process waits for another, so none hangs when one dies: coded.jsonl is then not written, and a later run, of any
number of processes, codes the notes that no file has. A run of one process that finds such files writes a journal too,
and then joins them all.

The order of reads and writes makes this safe where a file system has no locks: documents are on the disk before .done
is, and coded.jsonl is read back before anything is removed.

Read next: processes.py, which process this is; ../data/answer_log.py; ../data/resuming.py.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from minscl.data.answer_log import AnswerLog, read_log
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.files import InUse, list_folder, path_kind, read_text, remove_file, replace_file
from minscl.infer.processes import Process

DONE = ".done"
APPENDED_TOGETHER = 1000  # documents, between two waits for the disk
LOCK_SECONDS = 60.0  # how long another process may take to append everything
# (documents of a file, its path) → those documents by id; raises InputError where they are not of this run's settings
Checked = Callable[[Iterable[CodedDocument], str], dict[str, CodedDocument]]


class Shards:
    """The files of one process among those that write `out`. `is_split`: whether it has a journal of its own."""

    def __init__(self, out: str, process: Process):
        self.out, self.process = Path(out), process
        self.is_split = process.size > 1 or bool(self._files())
        self.log = self._journal(process.rank) if self.is_split else self.out

    def start(self, log: AnswerLog, checked: Checked) -> dict[str, CodedDocument]:
        """What any process of this or an earlier run has coded, by id; `log` is this process's own file, opened.

        An earlier run's .done is removed. Raises InputError as `checked` does, and for a file that is not such a log.
        """
        if not self.is_split:
            return checked(log.records, str(self.out))
        remove_file(self._done(self.process.rank))
        return self._all_documents(checked)

    @property
    def promise(self) -> str:
        """What becomes of the files, and how to go on where a process dies."""
        return f"the last to finish writes {self.out}; if one dies, start again, with any number of processes"

    def finish(
        self, notes: Sequence[Note], skipped: list[str], checked: Checked
    ) -> tuple[dict[str, CodedDocument], list[str]] | None:
        """Record that this process's share is coded, except the `skipped` ids; the last process also writes `out`.

        Returns (all documents by id, all skipped ids) in the process that has written it, None in the others. Raises
        InputError where `out` cannot be written; the journals are kept then.
        """
        with replace_file(self._done(self.process.rank)) as file:
            json.dump({"notes": digest_of(notes), "skipped": skipped}, file)
        all_skipped = self._all_skipped(digest_of(notes))
        documents = self._all_documents(checked) if all_skipped is not None else {}
        if all_skipped is None or any(note.id not in documents and note.id not in all_skipped for note in notes):
            return None
        with self._locked_out() as log:
            if self._all_skipped(digest_of(notes)) is None:
                return None  # another process was as fast, and has written it
            written = {document.id for document in log.records}
            # in the order of the notes; then those of earlier runs, which may have had other notes
            order = dict.fromkeys([*(note.id for note in notes if note.id in documents), *documents])
            pending = [documents[id] for id in order if id not in written]
            for first in range(0, len(pending), APPENDED_TOGETHER):
                log.append(pending[first : first + APPENDED_TOGETHER])
            on_disk = {document.id for document in read_log(self.out, CodedDocument)} if pending else written
            if any(document.id not in on_disk for document in pending):
                raise InputError(f"{self.out}: replaced by another run while it was written; start again")
            for path in self._files():
                remove_file(path)
        return documents, all_skipped

    def _all_documents(self, checked: Checked) -> dict[str, CodedDocument]:
        """The documents of all files. Journals first: a journal that vanishes meanwhile has been appended to `out`."""
        documents: dict[str, CodedDocument] = {}
        for path in [*(file for file in self._files() if file.suffix != DONE), self.out]:
            try:
                records = read_log(path, CodedDocument) if path_kind(path) != "missing" else []
            except InputError:
                if path_kind(path) != "missing":
                    raise
                continue
            documents |= checked(records, str(path))
        return documents

    def _all_skipped(self, notes: str) -> list[str] | None:
        """The ids that the processes skipped; None unless all of them are done with the notes of that digest."""
        ids: list[str] = []
        for rank in range(self.process.size):
            path = self._done(rank)
            if path_kind(path) == "missing":
                return None
            try:
                done = {"notes": ""} | json.loads(read_text(path))
                if done["notes"] != notes:
                    return None  # of an earlier run
                ids += done["skipped"]
            except (ValueError, TypeError, LookupError) as error:  # ValueError: an InputError of a file that vanished
                if path_kind(path) == "missing":
                    return None
                raise InputError(f"{path}: not a file of generate; remove it and start again") from error
        return ids

    def _locked_out(self) -> AnswerLog:
        """`out`, opened to be appended to, as soon as another process that appends the same has done so."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return AnswerLog(self.out, CodedDocument)
            except InUse:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def _files(self) -> list[Path]:
        """The journals and .done files of runs of any number of processes, sorted."""
        if path_kind(self.out.parent) == "missing":
            return []
        pattern = re.compile(re.escape(self.out.name) + r"\.rank\d+-of-\d+(\.done)?")
        return [path for path in list_folder(self.out.parent) if pattern.fullmatch(path.name)]

    def _journal(self, rank: int) -> Path:
        return self.out.with_name(f"{self.out.name}.rank{rank}-of-{self.process.size}")

    def _done(self, rank: int) -> Path:
        return self.out.with_name(f"{self._journal(rank).name}{DONE}")


def digest_of(notes: Sequence[Note]) -> str:
    """A digest of the ids and texts of `notes`."""
    return hashlib.sha256(json.dumps([(note.id, note.text) for note in notes]).encode()).hexdigest()[:32]
