"""The model behind the page: loaded when first asked, in one worker thread, one note at a time, the answer as it grows.

The server's event loop never waits for it: records of the stream are handed over as they come, and a run whose reader
has gone away ends with its next token.

Read next: server.py, which streams them; ../review.py, which loads the model.
"""

import queue
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.page.answer import answer_of

OnAnswer = Callable[[int, str], None]  # (number of the passage, its answer so far)
CodeNote = Callable[[Note, list[str] | None, OnAnswer], CodedDocument]
Emit = Callable[[dict[str, Any] | None], None]  # a record of the stream; None: there are no more


class Abandoned(Exception):
    """Nobody reads the answer any more."""


class Run:
    """One note being coded. `evidence`: human quotations, or None. `emit` is called in the worker thread."""

    def __init__(self, note: Note, evidence: list[str] | None, emit: Emit):
        self.note, self.evidence, self.emit = note, evidence, emit
        self.abandoned = threading.Event()
        self._passage, self._sent = 0, ""

    def on_answer(self, passage: int, text: str) -> None:
        """Emit what is new in the answer to `passage`; passages are shown one below the other. Raises Abandoned."""
        if self.abandoned.is_set():
            raise Abandoned
        text = text.rstrip("\ufffd")  # a character whose last bytes are still to come
        new_passage = "\n" if passage != self._passage else ""
        if new_passage:
            self._passage, self._sent = passage, ""
        if text.startswith(self._sent) and len(text) > len(self._sent):
            self.emit({"text": new_passage + text[len(self._sent) :]})
            self._sent = text


class Coding:
    """Codes notes with what `load()` returns; `load` is called in the worker thread when the first note comes."""

    def __init__(self, load: Callable[[], CodeNote]):
        self._load = load
        self._code: CodeNote | None = None
        self._busy = threading.Lock()
        self._runs: queue.SimpleQueue[Run] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._current: Run | None = None

    def start(self, note: Note, evidence: list[str] | None, emit: Emit) -> Run | None:
        """Begin to code `note`: `emit` gets {"text": ...} records, then {"document", "answer"} or {"error"}, then
        None.

        Returns None where another note is being coded.
        """
        if not self._busy.acquire(blocking=False):
            return None
        if self._worker is None:  # a daemon: Ctrl-C need not wait for a model that loads
            self._worker = threading.Thread(target=self._work, daemon=True)
            self._worker.start()
        run = self._current = Run(note, evidence, emit)
        self._runs.put(run)
        return run

    def stop(self, seconds: float = 5) -> None:
        """End the run in progress, if any, and wait for that at most so long."""
        if self._current:
            self._current.abandoned.set()
        if self._busy.acquire(timeout=seconds):
            self._busy.release()

    def _work(self) -> None:
        while True:
            run = self._runs.get()
            record = self._answer(run)
            self._busy.release()  # before the last record, after which the page may ask again
            run.emit(record)
            run.emit(None)

    def _answer(self, run: Run) -> dict[str, Any]:
        """The last record of a run's stream."""
        try:
            if self._code is None:
                self._code = self._load()
            document = self._code(run.note, run.evidence, run.on_answer)
            return {"document": document.to_dict(), "answer": answer_of(document)}
        except InputError as error:
            return {"error": " ".join(str(error).split())}
        except Abandoned:
            return {"error": "stopped"}
        except Exception as error:  # the thread must live on; a message may quote the note, so only its place is told
            report_failure(error)
            return {"error": f"the program failed ({type(error).__name__}); the terminal says where"}


def report_failure(error: Exception) -> None:
    """Print where `error` was raised on stderr, without its message, which may have note text."""
    place = "".join(traceback.format_tb(error.__traceback__))
    print(f"minscl: {type(error).__name__} in\n{place}", end="", file=sys.stderr)
