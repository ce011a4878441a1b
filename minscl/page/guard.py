"""What the review's server refuses before it looks at a request, and how it says so: one plain line.

Host: another name that leads here (DNS rebinding) is refused. Origin: so is another website's page, where the browser
says so. Token: so is whoever was not given the start address. The others are limited in size and rate, and headers tell
the browser to keep nothing, to send the address nowhere and to load nothing from elsewhere.

Read next: server.py.
"""

import hmac
import time
from collections import deque

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minscl.errors import InputError, printable
from minscl.page.coding import report_failure

MAX_BODY = 5_000_000  # bytes
MAX_REQUESTS = 100  # a second
TOO_LARGE = f"more than {MAX_BODY / 1e6:g} MB; send fewer decisions at a time"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refused(Exception):
    """A request that is answered with `status` and one line."""

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status = status


class Guard:
    """ASGI middleware around the server's `app`."""

    def __init__(self, app: ASGIApp, *, token: str, port: int):
        self.app, self.token = app, token.encode()
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self.times: deque[float] = deque(maxlen=MAX_REQUESTS)  # of the last requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: by `app`, or with a line where it is refused or fails."""
        started, body = False, Body(receive)

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self.check(scope)
            await self.app(scope, body.limited, send_with_headers)
            return
        except ClientDisconnect:
            return
        except Refused as error:
            status, line = error.status, str(error)
            if status == 413:
                await body.drain()
        except InputError as error:
            status, line = 400, str(error)
        except Exception as error:
            report_failure(error)
            status, line = 500, f"the program failed ({type(error).__name__}); the terminal says where"
        if not started:
            response = PlainTextResponse(printable(" ".join(line.split())) + "\n", status)
            await response(scope, receive, send_with_headers)

    def check(self, scope: Scope) -> None:
        """Raises Refused."""
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            raise Refused(403, "use the address that is printed in the terminal")
        if origin is not None and origin != f"http://{host}":
            raise Refused(403, "a request of another website")
        self.check_token(scope, headers)
        now = time.monotonic()
        if len(self.times) == MAX_REQUESTS and now - self.times[0] < 1:
            raise Refused(429, f"more than {MAX_REQUESTS} requests a second; wait a moment")
        self.times.append(now)  # not what strangers send: they must not be able to shut the page out
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > MAX_BODY:
            raise Refused(413, TOO_LARGE)

    def check_token(self, scope: Scope, headers: Headers) -> None:
        """Raises Refused. What is neither the page nor the API is nothing here, and needs no token."""
        if scope["path"] == "/":
            sent = QueryParams(scope["query_string"]).get("token", "")
            line = "use the address that is printed in the terminal; it has a token that is new at each start"
        elif scope["path"].startswith("/api/"):
            sent = headers.get("x-minscl-token", "")
            line = "the review was started anew; open the address that is printed in the terminal"
        else:
            return
        if not hmac.compare_digest(sent.encode(), self.token):
            raise Refused(403, line)


class Body:
    """The messages of a request, its body limited to MAX_BODY, whatever its headers say."""

    def __init__(self, receive: Receive):
        self.receive, self.bytes, self.ended = receive, 0, False

    async def limited(self) -> Message:
        """The next message. Raises Refused."""
        message = await self.next()
        if self.bytes > MAX_BODY:
            raise Refused(413, TOO_LARGE)
        return message

    async def next(self) -> Message:
        """The next message, of any size."""
        message = await self.receive()
        self.bytes += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read the rest, up to ten times what is allowed: a browser that still sends would not see the answer."""
        while not self.ended and self.bytes < 10 * MAX_BODY:
            await self.next()
