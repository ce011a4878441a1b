"""A language model for data expansion (Eq. 7, 8, 9): the local decoder, or a server that the user names.

Prompts hold patients' notes. So an address other than this machine's loopback is refused unless allowed, redirections
and proxies are not followed, and no error message contains a prompt.

Read next: engine.py; ../data/spans/asking.py, which calls `ask`.
"""

import ipaddress
import os
import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol
from urllib.parse import urlsplit

from minscl.errors import InputError
from minscl.infer import BATCH_SIZE
from minscl.infer.coder import slots_for
from minscl.infer.engine import Engine, Request

MAX_ANSWER_TOKENS = 256
API_KEY_VARIABLE = "MINSCL_API_KEY"  # of the environment; most local servers need no key


class LLM(Protocol):
    """What data expansion asks of a language model."""

    name: str  # stored with each answer, so that two models' answers are not mixed

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        """Yields (number of the prompt, answer), each once, as they complete; None for a prompt that is too long."""
        ...

    def token_counts(self) -> list[tuple[str, int]]:
        """(name, number) rows to print after the last answer."""
        ...


class LocalLLM:
    """minscl's own decoder. The prefix that prompts share, such as a note, is computed only once.

    Decodes `batch_size` answers together, or as many as fit into `memory` bytes of keys and values (None: no limit).
    """

    def __init__(self, model, tokenizer, name: str, batch_size: int = BATCH_SIZE, memory: int | None = None):
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.batch_size = batch_size
        self.memory = memory
        self.prompt_tokens = 0  # of all prompts answered so far
        self.computed_tokens = 0  # of these, those that were not in a shared prefix

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        """See LLM.ask. Greedy; an answer has at most MAX_ANSWER_TOKENS tokens."""
        longest = self.model.config.max_position_embeddings - MAX_ANSWER_TOKENS
        prompt_ids = [
            self.tokenizer.encode_chat([{"role": "user", "content": prompt}], add_generation_prompt=True)
            for prompt in prompts
        ]
        fitting = [number for number, ids in enumerate(prompt_ids) if len(ids) <= longest]
        yield from ((number, None) for number, ids in enumerate(prompt_ids) if len(ids) > longest)
        if not fitting:
            return
        length = max(len(prompt_ids[number]) for number in fitting) + MAX_ANSWER_TOKENS
        slots = max(1, slots_for(self.model, length, min(self.batch_size, len(fitting)), self.memory))
        engine = Engine(self.model, slots=slots, length=length, stop_ids=self.tokenizer.stop_ids)
        requests = (Request(prompt_ids[number], MAX_ANSWER_TOKENS) for number in fitting)
        for position, generation in engine.run(requests):
            yield fitting[position], self.tokenizer.decode(generation.ids)
        self.prompt_tokens += engine.prompt_tokens
        self.computed_tokens += engine.computed_tokens

    def token_counts(self) -> list[tuple[str, int]]:
        """See LLM.token_counts: prompt tokens, and how many of them were computed."""
        return [("prompt tokens asked", self.prompt_tokens), ("  of them computed", self.computed_tokens)]


class EndpointLLM:
    """An OpenAI-compatible server, such as vLLM or `transformers serve`.

    `concurrency` prompts are sent at a time. The client library repeats a request after 429, 5xx, a broken connection
    and `timeout` seconds of silence, `retries` times with growing pauses. Raises InputError for an address that
    check_address refuses, and without the client library.
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
    ):
        check_address(url, allow_remote)
        try:
            import openai
        except ImportError as error:
            raise InputError(
                f"--endpoint {url}: the client library is not installed; pip install 'minscl[endpoint]'"
            ) from error
        self.url = url
        self.model = model
        self.name = f"{model} at {url}"
        self.concurrency = concurrency
        self.openai = openai
        self.client = openai.OpenAI(
            base_url=url,
            api_key=os.environ.get(API_KEY_VARIABLE, "none"),
            timeout=timeout,
            max_retries=retries,
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=False),  # trust_env: proxies
        )

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        """See LLM.ask. Raises InputError once a request has failed for good.

        No further request is started then, and the answers to those in progress are yielded first.
        """
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                pending: dict[Future[str | None], int] = {
                    pool.submit(self._answer, prompt): number for number, prompt in enumerate(prompts)
                }
                while pending:
                    for future in wait(pending, return_when=FIRST_COMPLETED).done:
                        number, error = pending.pop(future), future.exception()
                        if error is None:
                            yield number, future.result()
                        failure = failure or error
                    if failure:
                        pending = {future: number for future, number in pending.items() if not future.cancel()}
            finally:
                pool.shutdown(cancel_futures=True)
        if failure:
            raise failure

    def token_counts(self) -> list[tuple[str, int]]:
        """See LLM.token_counts: no rows, because the server does not say how many tokens it computed."""
        return []

    def _answer(self, prompt: str) -> str | None:
        """The server's answer, None for a prompt that is too long. Raises InputError, never with the prompt in it."""
        try:
            reply = self.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0.0,
                max_tokens=MAX_ANSWER_TOKENS,
            )
            return reply.choices[0].message.content or ""
        except self.openai.BadRequestError as error:
            if "context" in str(error).lower() or "too long" in str(error).lower():
                return None
            raise InputError(
                f"--endpoint {self.url}: refused a prompt ({error.status_code}); is {self.model} the name of its model?"
            ) from error
        except self.openai.APIStatusError as error:
            raise InputError(
                f"--endpoint {self.url}: answers {error.status_code} for model {self.model}; see the server's log, "
                "then start again: the answers so far are kept"
            ) from error
        except self.openai.OpenAIError as error:
            raise InputError(
                f"--endpoint {self.url}: {type(error).__name__}; start the server, or give another address, then start "
                "again: the answers so far are kept"
            ) from error
        except (ValueError, TypeError, AttributeError, IndexError) as error:  # a reply that is no chat completion
            raise InputError(
                f"--endpoint {self.url}: the answer is no chat completion; name an OpenAI-compatible address that ends "
                "in /v1"
            ) from error


def check_address(url: str, allow_remote: bool) -> None:
    """Raises InputError for anything but an http address and, unless `allow_remote`, for any host but this machine."""
    host = _host(url)
    if not host:
        raise InputError(f"--endpoint {url}: not an address; give one like http://127.0.0.1:8000/v1")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not allow_remote:
        raise InputError(
            f"--endpoint {url}: {host} is another machine, and notes are patients' data; run the server here, or give "
            "--allow-remote where you are allowed to send them"
        )


def _host(url: str) -> str | None:
    """The host that an http address names; None for anything else."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.port != 0 and url.isprintable()
    except ValueError:  # a bracket that is not closed, a port that is no number up to 65535
        return None
    return parts.hostname if valid and not re.search(r"\][^:]", parts.netloc) else None
