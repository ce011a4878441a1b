"""A row codes the notes of a test, resumably: by system, and within a system by note.

`python -m minscl.generate --out TEST/ROW.jsonl` appends each note as it is coded and goes on where it was interrupted.
TEST/ROW.command.json records the command, the notes that it has coded to the end, and its seconds over all runs,
loading included. More notes, as with a larger --limit, are added to a file; another command's file is refused.

Read next: compare.py.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from minscl.data.jsonl import write_jsonl
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.files import replace_file


@dataclass(frozen=True)
class Record:
    """What is known of a row's file. `notes`: id → digest of the coded document of each note that has been coded."""

    command: list[str]
    notes: dict[str, str]
    seconds: float = 0.0

    @property
    def seconds_per_note(self) -> float:
        """Seconds over all runs, loading included, by the number of notes."""
        return self.seconds / max(len(self.notes), 1)


def record_path(predicted: Path) -> Path:
    """Where the record of a row's file is."""
    return predicted.with_suffix(".command.json")


def read_record(predicted: Path) -> Record | None:
    """The record of a row's file; None where there is none, or it is damaged."""
    try:
        saved = json.loads(record_path(predicted).read_text(encoding="utf-8"))
        return Record(list(saved["command"]), dict(saved["notes"]), float(saved["seconds"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_record(predicted: Path, record: Record) -> None:
    """Write the record of a row's file, atomically."""
    with replace_file(record_path(predicted)) as handle:
        json.dump(vars(record), handle)


def digest(document: CodedDocument) -> str:
    """A digest of a note with its codes and evidence."""
    return hashlib.sha256(json.dumps(document.to_dict()).encode()).hexdigest()[:16]


def earlier(predicted: Path, command: list[str], documents: Sequence[CodedDocument]) -> Record:
    """The record of the runs before this one, empty at the first.

    Raises InputError where the file was made by another command, or from another text or gold of one of the notes.
    """
    if not predicted.exists() or not predicted.stat().st_size:
        return Record(command, {})
    saved = read_record(predicted)
    digests = {document.id: digest(document) for document in documents}
    if saved and saved.command == command and all(saved.notes.get(id, value) == value for id, value in digests.items()):
        return saved
    raise InputError(
        f"{predicted}: made by another command or from other documents than now ({record_path(predicted)}); "
        "name another --out, or delete both files"
    )


def code_notes(predicted: Path, command: list[str], notes: Path, documents: Sequence[CodedDocument]) -> None:
    """Code `documents` into the file `predicted` by `command`, which reads them from `notes`, unless that is done.

    A note that generate skips, as too long, counts as coded, without codes. Raises InputError where generate fails.
    """
    record = earlier(predicted, command, documents)
    if record.notes.keys() >= {document.id for document in documents}:
        return
    write_jsonl(notes, documents)
    began = time.monotonic()
    write_record(predicted, record)
    try:
        status, last_line = run([sys.executable, "-m", *command])
    finally:
        record = replace(record, seconds=record.seconds + time.monotonic() - began)
        write_record(predicted, record)
    skipped = status == 2 and "notes were skipped" in last_line and predicted.stat().st_size > 0  # the others are coded
    if status and not skipped:
        raise InputError(
            f"{predicted.stem}: minscl.generate ended with status {status} ({last_line}); "
            "mend that and start again, it goes on where it was"
        )
    digests = {document.id: digest(document) for document in documents}
    write_record(predicted, replace(record, notes=record.notes | digests))


def run(command: list[str]) -> tuple[int, str]:
    """(exit status, last line of stderr) of a command, whose stderr is passed on as it comes."""
    tail = b""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        for piece in iter(lambda: process.stderr.read1(), b""):
            sys.stderr.buffer.write(piece)
            sys.stderr.buffer.flush()
            tail = (tail + piece)[-1000:]
    lines = tail.decode(errors="replace").strip().splitlines()
    return process.returncode, lines[-1].strip() if lines else ""
