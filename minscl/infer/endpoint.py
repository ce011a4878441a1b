"""A language model behind an OpenAI-compatible server that the user names: for data expansion (Eq. 7, 8, 9) and coding.

Prompts hold patients' notes. So an address other than this machine's loopback is refused unless allowed
(endpoint_address.py), redirections and proxies are not followed, and no error message contains a prompt or an answer.
Imports no torch, which a client does not need. Read next: llm.py, whose LLM this is; ../data/spans/asking.py;
completions.py, prompts as token ids.
"""

import contextlib
import json
import logging
import queue
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from minscl.errors import InputError, describe_value
from minscl.infer import BATCH_SIZE, MAX_ANSWER_TOKENS
from minscl.infer.endpoint_address import check_address, read_api_key

MAX_ANSWER_CHARACTERS = 4_000  # kept of a server's answer of MAX_ANSWER_TOKENS tokens, which are fewer in words
MAX_REPLY_BYTES = 2**22  # read of a server's reply
KEPT = "what --out has is not asked again"  # generate codes without --out too, and then keeps nothing
Task = TypeVar("Task")
Answer = TypeVar("Answer")


class EndpointLLM:
    """An OpenAI-compatible server, such as vLLM or `transformers serve`.

    `concurrency` prompts are sent at a time; an answer has at most `max_tokens` tokens. The client library repeats a
    request after 429, 5xx, a broken connection and `timeout` seconds of silence, `retries` times with growing pauses.
    Raises InputError for an address that check_address refuses, a key that read_api_key refuses, and without the
    client library.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int = BATCH_SIZE,
        timeout: float = 120.0,
        retries: int = 5,
        allow_remote: bool = False,
        max_tokens: int = MAX_ANSWER_TOKENS,
    ):
        check_address(url, allow_remote)
        try:
            import openai
        except ImportError as error:
            raise InputError(
                f"--endpoint {url}: the client library is not installed; pip install 'minscl[endpoint]'"
            ) from error
        logging.getLogger("openai").setLevel(logging.WARNING)  # OPENAI_LOG=debug would print prompts
        if not model.isprintable():  # not UTF-8 either, where the shell's bytes were not
            raise InputError("--model: not the name of a model: it has control characters or is not UTF-8")
        self.url = url
        self.model = model
        self.name = f"{model} at {url}"
        self.concurrency, self.max_tokens = concurrency, max_tokens
        self.max_characters = MAX_ANSWER_CHARACTERS * max_tokens // MAX_ANSWER_TOKENS
        self.truncated: set[int] = set()  # numbers of the prompts of the last `ask` whose answers were cut off
        self.openai = openai
        key = read_api_key()
        try:
            self.client = openai.OpenAI(
                base_url=url,
                api_key=key,
                timeout=timeout,
                max_retries=retries,
                http_client=_bounded_client(openai.DefaultHttpxClient),
            )
        except Exception as error:  # the client library's own reader of addresses raises classes of its own
            raise InputError(f"--endpoint {url}: not an address; give one like http://127.0.0.1:8000/v1") from error

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        """See LLM.ask. Raises InputError as `run` does."""
        self.truncated = set()
        return self.run(list(enumerate(prompts)), lambda task: self._answer(*task))

    def run(self, tasks: Sequence[Task], answer: Callable[[Task], Answer]) -> Iterator[tuple[int, Answer]]:
        """Yields (number of the task, its answer) as they complete; `answer` runs in `concurrency` threads.

        Raises what `answer` raises first, such as InputError once a request has failed for good. No further request is
        started then, and the answers to those in progress are yielded before. After Ctrl-C, nothing is waited for: the
        answers that are there are yielded, and KeyboardInterrupt is raised.
        """
        queued: queue.SimpleQueue[tuple[int, Task]] = queue.SimpleQueue()
        for task in enumerate(tasks):
            queued.put(task)
        results: queue.SimpleQueue[tuple[int, Answer] | BaseException | None] = queue.SimpleQueue()
        stop = threading.Event()
        running = min(self.concurrency, len(tasks))
        for _ in range(running):
            # Daemon threads, and not an executor's, which the interpreter joins at its exit: a request to a silent
            # server lasts until its timeout.
            threading.Thread(target=_work, args=(answer, queued, results, stop), daemon=True).start()
        failure: BaseException | None = None
        try:
            while running:
                result = results.get()
                if result is None:
                    running -= 1
                elif isinstance(result, BaseException):
                    failure = failure or result
                else:
                    yield result
        except KeyboardInterrupt:
            while not results.empty():
                result = results.get()
                if isinstance(result, tuple):
                    yield result
            raise
        finally:
            stop.set()
        if failure:
            raise failure

    def token_counts(self) -> list[tuple[str, int]]:
        """See LLM.token_counts: no rows, because the server does not say how many tokens it computed."""
        return []

    def _answer(self, number: int, prompt: str) -> str | None:
        """The server's answer, None for a prompt that is too long. Raises InputError, never with the prompt in it."""
        with self.one_line():
            try:
                reply = self.client.chat.completions.with_raw_response.create(
                    model=self.model,
                    messages=[{"role": "user", "content": prompt}],
                    temperature=0.0,
                    max_tokens=self.max_tokens,
                )
            except self.openai.BadRequestError as error:
                if is_too_long(error):
                    return None
                raise
            text, is_truncated = read_completion(reply.http_response.content, self.max_characters)
        if is_truncated:
            self.truncated.add(number)
        return text

    @contextlib.contextmanager
    def one_line(self) -> Iterator[None]:
        """Turns whatever a request may raise into an InputError, without the prompt in it."""
        try:
            yield
        except self.openai.BadRequestError as error:
            raise InputError(
                f"--endpoint {self.url}: refused a prompt ({error.status_code}); is {self.model} the name of its model?"
            ) from error
        except self.openai.APIStatusError as error:
            raise InputError(
                f"--endpoint {self.url}: answers {error.status_code} for model {self.model}; see the server's log, "
                f"then start again: {KEPT}"
            ) from error
        except InputError as error:
            raise InputError(
                f"--endpoint {self.url}: {error}; name an OpenAI-compatible address that ends in /v1; {KEPT}"
            ) from error
        except (self.openai.OpenAIError, ValueError) as error:  # ValueError: a host name that cannot be looked up
            raise InputError(
                f"--endpoint {self.url}: {type(error).__name__}; start the server, or give another address, then start "
                f"again: {KEPT}"
            ) from error


def _work(
    answer: Callable[[Task], Answer], tasks: queue.SimpleQueue, results: queue.SimpleQueue, stop: threading.Event
) -> None:
    """A thread: puts the answers to `tasks`, or a failure, into `results`; None at the end."""
    while not stop.is_set():
        try:
            number, task = tasks.get_nowait()
            results.put((number, answer(task)))
        except queue.Empty:
            break
        except BaseException as error:
            stop.set()
            results.put(error)
    results.put(None)


def is_too_long(error: Exception) -> bool:
    """Whether the server refuses a prompt for its length."""
    return "context" in str(error).lower() or "too long" in str(error).lower()


def read_completion(reply: bytes, max_characters: int) -> tuple[str, bool]:
    """(the text of a chat completion, empty where its content is null; whether it ends at a length limit).

    An unpaired surrogate, such as half an emoji before the length limit, becomes U+FFFD: it cannot be written as UTF-8.
    Raises InputError, without the text in it, for a reply that is no chat completion.
    """
    with reply_errors(reply, "chat completion"):
        choice = json.loads(reply)["choices"][0]
        content, reason = choice["message"]["content"], choice.get("finish_reason")
    if content is not None and not isinstance(content, str):
        raise InputError(f"the reply is no chat completion: its content is {describe_value(content)}, not a string")
    text = content or ""
    is_truncated = reason == "length" or len(text) > max_characters
    return without_surrogates(text[:max_characters]), is_truncated


@contextlib.contextmanager
def reply_errors(reply: bytes, expected: str) -> Iterator[None]:
    """Turns what reading a reply of another form may raise into an InputError, without its text in it."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ArithmeticError) as error:
        size = f"over {MAX_REPLY_BYTES:,}" if len(reply) > MAX_REPLY_BYTES else f"{len(reply):,}"
        raise InputError(f"the reply of {size} bytes is no {expected}") from error


def without_surrogates(text: str) -> str:
    """`text` with U+FFFD for unpaired surrogates, which cannot be written as UTF-8."""
    return re.sub("[\ud800-\udfff]", "\ufffd", text)


def _bounded_client(client_class: Any):
    """A client of the HTTP library's `client_class` that reads little more than MAX_REPLY_BYTES of a reply.

    It follows no redirection, and no proxy that the environment names.
    """

    class BoundedClient(client_class):
        def send(self, request, **options):
            """As the library's `send`: the reply, read, of which what exceeds MAX_REPLY_BYTES is left out."""
            response = super().send(request, **{**options, "stream": True})
            body = bytearray()
            try:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_REPLY_BYTES:
                        break
            finally:
                response.close()
            encodings = ("content-encoding", "content-length", "transfer-encoding")  # undone by iter_bytes
            headers = {name: value for name, value in response.headers.items() if name not in encodings}
            content = bytes(body[: MAX_REPLY_BYTES + 1])
            return type(response)(response.status_code, headers=headers, content=content, request=request)

    return BoundedClient(follow_redirects=False, trust_env=False)
