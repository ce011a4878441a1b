"""The server of a review: the page, and what it asks for, on 127.0.0.1 and for nobody but the page itself.

    GET  /?token=...    the page               POST /api/log     decisions, kept on the disk before the answer
    GET  /api/entries   decisions so far       POST /api/open    one tab at a time decides about a note
    POST /api/code      the model's answer     POST /api/check   the Tabular List's rules for the codes as they are now

Any website that the coder visits may send requests here. It can neither know the token nor read an answer (no CORS),
and Host and Origin must be this server's. An error is one plain line without note text.

Read next: guard.py, what is refused; journal.py; coding.py.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timezone
from html import unescape
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.jsonl import decode_line
from minscl.data.record_checks import checked_record, checked_texts
from minscl.data.types import MAX_PHRASE, CodedDocument, Note
from minscl.errors import InputError, printable
from minscl.page.coding import Coding
from minscl.page.guard import Guard, Refused
from minscl.page.journal import Diverged, ReviewFolder

MAX_CODES = 1000  # of a document to be checked, and quotations to code from; the rules compare all pairs
CSP_META = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"')
MakePage = Callable[[dict[str, Any], list[dict[str, Any]]], str]  # what only a server says, the entries → the page


def make_app(
    folder: ReviewFolder,
    codebook: CodeBook,
    coding: Coding | None,
    make_page: MakePage,
    *,
    token: str,
    port: int,
    reviewer: str = "",
) -> Guard:
    """The ASGI application. `coding` None: there is no model. `port`: that of the Host header."""
    review = Review(folder, codebook, coding, make_page, token, reviewer)
    routes = [
        Route("/", review.page),
        Route("/api/entries", review.entries),
        Route("/api/open", review.open, methods=["POST"]),
        Route("/api/log", review.log, methods=["POST"]),
        Route("/api/check", review.check, methods=["POST"]),
        Route("/api/code", review.code, methods=["POST"]),
    ]
    return Guard(Router(routes), token=token, port=port)


class Review:
    """The answers to the page's requests."""

    def __init__(
        self,
        folder: ReviewFolder,
        codebook: CodeBook,
        coding: Coding | None,
        make_page: MakePage,
        token: str,
        reviewer: str,
    ):
        self.folder, self.codebook, self.coding, self.make_page = folder, codebook, coding, make_page
        self.token, self.reviewer = token, reviewer
        self.owners: dict[str, tuple[str, str]] = {}  # document → (the tab that decides about it, since when)
        self.last_error = ""

    async def page(self, request: Request) -> Response:
        """The page, with all decisions so far; its Content-Security-Policy is sent as a header, too."""
        html = await run_in_threadpool(self.render)
        policy = CSP_META.search(html)
        headers = {"Content-Security-Policy": f"{unescape(policy[1])}; frame-ancestors 'none'"} if policy else {}
        return HTMLResponse(html, headers=headers)

    def render(self) -> str:
        """The HTML of the page as things are now."""
        entries = [entry.to_dict() for entry in self.folder.entries()]
        server = {"token": self.token, "reviewer": self.reviewer, "canCode": self.coding is not None}
        return self.make_page({**server, "unwritten": self.folder.unwritten()}, entries)

    async def entries(self, request: Request) -> Response:
        """The decisions about a document; without `document`, about all that are shown."""
        name = request.query_params.get("document")
        entries = self.folder.entries(None if name is None else self.find(name).id)
        return JSONResponse({"entries": [entry.to_dict() for entry in entries]})

    async def open(self, request: Request) -> Response:
        """Make a tab the one that decides about a note, and about no other; tell it where another tab is that.

        `last`: the id of the last decision about the note, so that the tab knows whether it has seen all of them.
        """
        body = await read_body(request, {"document": str, "tab": str}, {"take": bool, "close": bool})
        name, tab = self.find(body["document"]).id, body["tab"]
        self.owners = {other: known for other, known in self.owners.items() if known[0] != tab}
        owner = self.owners.get(name)
        if owner and not body.get("take"):
            return JSONResponse({"owner": False, "since": owner[1], "last": self.folder.last(name)})
        if not body.get("close"):
            self.owners[name] = (tab, datetime.now(timezone.utc).isoformat(timespec="seconds"))
        return JSONResponse({"owner": True, "last": self.folder.last(name)})

    async def log(self, request: Request) -> Response:
        """Keep decisions; what is answered with 200 survives a kill. `after`: the last one that the tab has seen."""
        optional: dict[str, type] = {"reviewed": dict, "after": str}
        body = await read_body(request, {"document": str, "tab": str, "entries": list}, optional)
        name = self.find(body["document"]).id
        records, reviewed = await run_in_threadpool(self.folder.check, name, body["entries"], body.get("reviewed"))
        owner = self.owners.get(name, (body["tab"], datetime.now(timezone.utc).isoformat(timespec="seconds")))
        if records:  # else the tab only writes what a kill has kept from reviewed.jsonl
            self.owners[name] = owner
        if owner[0] != body["tab"]:
            raise Refused(409, "another tab decides about this note now; nothing of this tab is kept, reload it")
        try:
            await run_in_threadpool(self.folder.keep, name, records, reviewed, body.get("after"))
        except Diverged:
            line = "another tab has decided about this note since; nothing of this tab is kept, reload it"
            raise Refused(409, line) from None
        except InputError as error:
            line = " ".join(str(error).split())
            if line != self.last_error:  # the page tries again and again
                print(f"minscl: {printable(line)}", file=sys.stderr, flush=True)
            self.last_error = line
            raise Refused(507, line) from None
        self.last_error = ""
        return JSONResponse({"kept": len(records)})

    async def check(self, request: Request) -> Response:
        """Rules and assertions for the codes of a document as they are now, in the order sent."""
        body = await read_body(request, {"document": str, "codes": list}, {})
        return JSONResponse(await run_in_threadpool(self.checked, self.find(body["document"]), body["codes"]))

    def checked(self, document: CodedDocument, codes: list) -> dict[str, Any]:
        """The answer of check."""
        if len(codes) > MAX_CODES:
            raise InputError(f"{len(codes):,} codes; a note has at most {MAX_CODES:,}")
        items = [checked_record(item, CodedDocument, {"code": str, "evidence": list}, {}) for item in codes]
        record = {"id": document.id, "text": document.text, "codes": [{**item, "description": ""} for item in items]}
        result = check_document(CodedDocument.from_dict(record), self.codebook)
        remaining = list(result.codes)  # in code-first order
        answer = []
        for item in items:
            code = next(code for code in remaining if code.code == item["code"])
            remaining.remove(code)
            evidence = [quotation.to_dict() for quotation in code.evidence]
            answer.append({"code": code.code, "rules": list(code.rules or ()), "evidence": evidence})
        return {"codes": answer, "warnings": list(result.warnings or ())}

    async def code(self, request: Request) -> Response:
        """Have the model code a note, from human evidence if there is any; a stream of JSON lines."""
        body = await read_body(request, {"document": str}, {"evidence": list})
        document = self.find(body["document"])
        if self.coding is None:
            raise Refused(404, "there is no model; start the review with --model")
        quotations = checked_texts(body.get("evidence"), CodedDocument, "evidence")
        if quotations and len(quotations) > MAX_CODES:
            raise InputError(f"{len(quotations):,} quotations; give at most {MAX_CODES:,}")
        if not all(0 < len(text.strip()) <= MAX_PHRASE for text in quotations or ()):
            raise InputError(f"a quotation is blank or has more than {MAX_PHRASE:,} characters; remove it")
        loop, records = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()

        def emit(record: dict[str, Any] | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(records.put_nowait, record)

        evidence = None if quotations is None else list(quotations)
        run = self.coding.start(Note(document.id, document.text), evidence, emit)
        if run is None:
            raise Refused(429, "another note is being coded; try again when it is done")

        async def lines() -> AsyncIterator[bytes]:
            try:
                while (record := await records.get()) is not None:
                    yield json.dumps(record, ensure_ascii=False).encode() + b"\n"
            finally:  # also where the reader has gone away
                run.abandoned.set()

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    def find(self, name: str | None) -> CodedDocument:
        """The document with the id `name`. Raises Refused."""
        if name not in self.folder.documents:
            raise Refused(404, "no such document here; reload the page")
        return self.folder.documents[name]


async def read_body(request: Request, required: dict[str, type], optional: dict[str, type]) -> dict[str, Any]:
    """The JSON object of a request, its members checked. Raises InputError."""
    content = await request.body()
    return await run_in_threadpool(lambda: checked_record(decode_line(content), Request, required, optional))
