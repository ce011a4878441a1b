"""Command: a coder's review of notes and coded documents, on a page that this machine serves to itself.

    python -m minscl.review [note.txt | notes.jsonl | coded.jsonl ...] [--model DIR] [--adapter DIR] [--out DIR]
                            [--port N] [--no-browser] [--edition 2026] [--date 2026-09-30] [--reviewer NAME]

It prints the address, opens the browser, and serves until Ctrl-C. Every decision is on the disk, in --out, before the
page is told that it is kept; without arguments the review in --out goes on. The model is loaded when the page first
asks for codes. Nothing leaves the machine: the server listens on 127.0.0.1 only, and no module opens a connection.

Read next: page/server.py; page/journal.py, what is kept; page/build.py, the page.
"""

import contextlib
import dataclasses
import importlib.util
import logging
import os
import secrets
import socket
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from minscl.cli import flag, parse_flags, positional, require
from minscl.command import run_command
from minscl.config import DEMO
from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.notes import read_notes
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.edition_flags import date_flag, edition_flag, load_codebook
from minscl.errors import InputError
from minscl.files import remove_file, replace_file
from minscl.page.entry import MAX_NAME
from minscl.page.journal import START, ReviewFolder

if TYPE_CHECKING:
    from minscl.page.coding import CodeNote

MAX_NOTE = 2_000_000  # bytes; the page sends a note with its codes in one request, which server.py limits
NO_MODEL = "none"


@dataclass(frozen=True)
class ReviewConfig:
    """Settings of `review`; each is a flag."""

    documents: tuple[str, ...] = positional(
        "text files, one note each, or .jsonl files of notes or coded documents; none: go on with those in --out",
        "DOCUMENTS",
        role="input",
        count="*",
    )
    model: str = flag(
        str(DEMO),
        f"model folder, for notes to be coded; {NO_MODEL}: without one; the embedded model is a demonstration, not for "
        "clinical use",
        role="input",
    )
    adapter: str = flag("", "LoRA adapter folder (the embedded model has its own); none: the model alone", role="input")
    out: str = flag(
        "review",
        "folder of the review: decisions.jsonl, reviewed.jsonl, machine.jsonl and documents.jsonl; nothing is written "
        "outside it",
        role="output folder",
    )
    port: int | None = flag(None, "port of 127.0.0.1; none: a free one", metavar="N", minimum=1024, maximum=65535)
    no_browser: bool = flag(False, "print the address only")
    edition: str = edition_flag()
    date: str = date_flag()
    reviewer: str = flag("", "who decides, for the log; none: the page asks", metavar="NAME")


def main(argv=None) -> int:
    """Parse the flags and serve the page until Ctrl-C; returns the exit status, 0."""
    config = parse_flags(ReviewConfig, "review", "Review coded notes in the browser, and have notes coded.", argv)
    check_config(config)
    codebook = load_codebook(config)
    documents = read_documents(config.documents, codebook)
    with listen(config.port) as server_socket, ReviewFolder(config.out, documents) as folder:
        serve(config, folder, codebook, server_socket)
    print(f"stopped; everything is in {config.out}")
    return 0


def check_config(config: ReviewConfig) -> None:
    """Raises InputError for what would fail only once a coder is at work."""
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise InputError("review: starlette and uvicorn are not installed; pip install 'minscl[review]'")
    if len(config.reviewer) > MAX_NAME:
        raise InputError(f"--reviewer: a name of {len(config.reviewer)} characters; give one of at most {MAX_NAME}")
    if config.model != NO_MODEL:
        require(config.model, "--model")
    if config.adapter not in ("", "none"):
        require(config.adapter, "--adapter")


class DocumentRecord:
    """A line of a .jsonl file: a coded document, or a note, which is one without codes."""

    @classmethod
    def from_dict(cls, record) -> CodedDocument:
        """The document in `record`; raises InputError."""
        return CodedDocument.from_dict({"codes": [], **record} if isinstance(record, dict) else record)


def read_documents(paths: tuple[str, ...], codebook: CodeBook) -> list[CodedDocument]:
    """The documents of all files, in order; coded ones of another code set are checked against this one.

    Raises InputError for what cannot be read, a repeated id and a note that is too long.
    """
    documents: dict[str, CodedDocument] = {}
    for path in paths:
        if Path(path).suffix.lower() == ".jsonl":
            records = read_jsonl(path, DocumentRecord)
        else:
            records = [CodedDocument(note.id, note.text) for note in read_notes([path])]
        for document in records:
            if document.id in documents:
                raise InputError(f"{show_id(document.id)}: two documents have this id; give each its own")
            if len(document.text.encode()) > MAX_NOTE:
                raise InputError(f"{show_id(document.id)}: longer than {MAX_NOTE / 1e6:g} MB; split the note")
            date = str(codebook.date) if codebook.date else None
            if document.codes and (document.edition, document.date) != (codebook.edition.id, date):
                document = check_document(document, codebook)
            documents[document.id] = document
    if paths and not documents:
        raise InputError(f"{', '.join(paths)}: no note to review; a .jsonl file has one object per line")
    return list(documents.values())


@contextlib.contextmanager
def listen(port: int | None) -> Iterator[socket.socket]:
    """A socket that listens on `port` of this machine's own address, or a free one. Raises InputError."""
    try:
        server_socket = socket.create_server(("127.0.0.1", port or 0))
    except OSError as error:
        raise InputError(
            f"--port {port}: cannot be used ({os.strerror(error.errno or 0)}); name another, or leave the flag out"
        ) from error
    with server_socket:
        yield server_socket


def serve(config: ReviewConfig, folder: ReviewFolder, codebook: CodeBook, server_socket: socket.socket) -> None:
    """Serve the page until Ctrl-C."""
    import uvicorn

    from minscl.page.build import page_html
    from minscl.page.coding import Coding
    from minscl.page.server import make_app

    about = f"{codebook.label}: {codebook.edition.about}"
    coding = None if config.model == NO_MODEL else Coding(lambda: load_coder(config, codebook))
    port, token = server_socket.getsockname()[1], secrets.token_urlsafe(32)

    def make_page(server: dict, entries: list[dict]) -> str:
        return page_html(folder.documents.values(), codebook, about=about, server=server, entries=entries)

    app = make_app(folder, codebook, coding, make_page, token=token, port=port, reviewer=config.reviewer)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # guard.py reports failures, without note text
    server_config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,  # seconds; an answer that streams is given up
    )
    address = f"http://127.0.0.1:{port}/?token={token}"
    number = len(folder.documents)
    print(f"review of {number:,} document{'s' * (number != 1)}, kept in {config.out}; Ctrl-C stops it")
    print(address, flush=True)
    with start_page(folder.path / START, address, not config.no_browser):
        try:
            uvicorn.Server(server_config).run(sockets=[server_socket])
        except KeyboardInterrupt:  # uvicorn raises it again after an orderly end
            pass
        finally:
            if coding:
                coding.stop()


@contextlib.contextmanager
def start_page(path: Path, address: str, opens: bool) -> Iterator[None]:
    """Open the browser at `address`, if it `opens`, by a private file that leads there."""
    if not opens:
        yield
        return
    with replace_file(path) as handle:
        handle.write(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={escape(address)}"><title>minscl</title>'
        )
    # the socket listens already, and some browsers return only when they are closed
    threading.Thread(target=webbrowser.open, args=(path.resolve().as_uri(),), daemon=True).start()
    try:
        yield
    finally:
        remove_file(path)


def load_coder(config: ReviewConfig, codebook: CodeBook) -> "CodeNote":
    """Load the model, which takes seconds to minutes; returns the function that codes a note as `generate` does."""
    from minscl.data.resuming import evidence_setting
    from minscl.generate_config import GenerateConfig, settings_of
    from minscl.hardware import choose_device, default_cache_bytes, memory_errors
    from minscl.infer.coder import code_notes
    from minscl.infer.linear import prepare_for_inference
    from minscl.pretrained import describe_weights, load_calibration, load_pretrained

    weights = describe_weights(config.model, config.adapter)
    own_calibration = load_calibration(config.model, config.adapter)
    device, _ = choose_device("auto", "auto")
    with memory_errors("a smaller model"):
        model, tokenizer = load_pretrained(config.model, config.adapter)
        prepare_for_inference(model)

    def code(note: Note, quotations: list[str] | None, on_answer) -> CodedDocument:
        evidence = None if quotations is None else {note.id: quotations}
        calibration = own_calibration if quotations is None else None  # fitted on codes from the model's own evidence
        with memory_errors("a smaller model, or split the note"):
            [document] = code_notes(
                model,
                tokenizer,
                [note],
                evidence=evidence,
                grounded=True,
                batch_size=1,  # the answer to one passage after another, as they are shown
                memory=default_cache_bytes(device),
                codebook=codebook,
                calibration=calibration,
                on_tokens=lambda passage, ids: on_answer(passage, tokenizer.decode(ids)),
            )
        settings = settings_of(GenerateConfig(model=config.model), weights, codebook, calibration)
        return dataclasses.replace(document, coded_with=settings | evidence_setting(evidence, note.id))

    return code


if __name__ == "__main__":
    run_command(main)
