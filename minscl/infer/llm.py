"""A language model that answers questions in words, for data expansion (Eq. 7, 8, 9): the local decoder, or a server that the user names.

    ask(prompts) → (number of the prompt, its answer) as they come, each once; None for a question that is too long

Questions about notes hold patients' words. So an address that is not this machine's own is refused unless allowed, redirections and proxies
are not followed, and an error message never holds a prompt.

Read next: engine.py; data/silver.py and data/synthetic.py, which ask.
"""

import ipaddress
import os
import re
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Protocol
from urllib.parse import urlsplit

from minscl.errors import InputError
from minscl.infer.coder import slots_for
from minscl.infer.engine import Engine, Request

ANSWER_TOKENS = 256
KEY = "MINSCL_API_KEY"  # environment variable; a server on this machine mostly needs none


class LLM(Protocol):
    name: str  # kept in journals, so that two models' answers are not mixed

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]: ...


class LocalLLM:
    """minscl's own decoder. What questions begin with in common, such as a note, is read once: `computed` of `asked` prompt tokens.

    `slots` answers at a time, or as many as fit into `memory` bytes of keys and values.
    """

    def __init__(self, model, tokenizer, name: str, slots: int = 16, memory: int | None = None):
        self.model, self.tokenizer, self.name, self.slots, self.memory, self.asked, self.computed = (
            model,
            tokenizer,
            name,
            slots,
            memory,
            0,
            0,
        )

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        room = self.model.config.max_position_embeddings - ANSWER_TOKENS
        ids = [
            self.tokenizer.encode_chat([{"role": "user", "content": prompt}], add_generation_prompt=True)
            for prompt in prompts
        ]
        fits = [number for number, one in enumerate(ids) if len(one) <= room]
        yield from ((number, None) for number, one in enumerate(ids) if len(one) > room)
        if fits:
            length = max(len(ids[number]) for number in fits) + ANSWER_TOKENS
            slots = max(1, slots_for(self.model, length, min(self.slots, len(fits)), self.memory))
            engine = Engine(self.model, slots=slots, length=length, stop_ids=self.tokenizer.stop_ids)
            for number, answer in engine.run(Request(ids[one], ANSWER_TOKENS) for one in fits):
                yield fits[number], self.tokenizer.decode(answer.ids)
            self.asked += engine.prompt_tokens
            self.computed += engine.computed_tokens


class EndpointLLM:
    """An OpenAI-compatible server, such as vLLM or `transformers serve`. Raises InputError when it cannot be reached or goes on failing.

    `concurrency` questions are under way at a time; the client library repeats after 429, 5xx, a broken connection and `timeout` seconds of
    silence, `retries` times with growing pauses. After a question that fails for good no other is begun; those under way are still answered.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        concurrency: int = 16,
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
        self.errors, self.url, self.model, self.concurrency = openai, url, model, concurrency
        self.name = f"{model} at {url}"
        http = openai.DefaultHttpxClient(
            follow_redirects=False, trust_env=False
        )  # no proxy from the environment either
        self.client = openai.OpenAI(
            base_url=url, api_key=os.environ.get(KEY, "none"), timeout=timeout, max_retries=retries, http_client=http
        )

    def ask(self, prompts: list[str]) -> Iterator[tuple[int, str | None]]:
        failure = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                waiting = {pool.submit(self._answer, prompt): number for number, prompt in enumerate(prompts)}
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        number, failed = waiting.pop(future), future.exception()
                        if not failed:
                            yield number, future.result()
                        failure = failure or failed
                    if failure:
                        waiting = {future: number for future, number in waiting.items() if not future.cancel()}
            finally:
                pool.shutdown(cancel_futures=True)
        if failure:
            raise failure

    def _answer(self, prompt: str) -> str | None:
        try:
            reply = self.client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=0.0,
                max_tokens=ANSWER_TOKENS,
            )
            return reply.choices[0].message.content or ""
        except self.errors.BadRequestError as error:
            if "context" in str(error).lower() or "too long" in str(error).lower():
                return None
            raise InputError(
                f"--endpoint {self.url}: refused a question ({error.status_code}); is {self.model} the name of its model?"
            ) from error
        except self.errors.APIStatusError as error:
            raise InputError(
                f"--endpoint {self.url}: answers {error.status_code} for model {self.model}; look at the server's log, then start again: "
                "what was answered is kept"
            ) from error
        except self.errors.OpenAIError as error:
            raise InputError(
                f"--endpoint {self.url}: {type(error).__name__}; start the server, or give another address, then start again: "
                "what was answered is kept"
            ) from error
        except (ValueError, TypeError, AttributeError, IndexError) as error:  # an answer of another kind
            raise InputError(
                f"--endpoint {self.url}: the answer is no chat completion; name an OpenAI-compatible address that ends in /v1"
            ) from error


def check_address(url: str, allow_remote: bool) -> None:
    """Refuse what is no http address, and, unless allowed, every machine but this one."""
    host = _host(url)
    if not host:
        raise InputError(f"--endpoint {url}: not an address; give one like http://127.0.0.1:8000/v1")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and not allow_remote:
        raise InputError(
            f"--endpoint {url}: {host} is another machine, and notes are patients' data; run the server here, or give --allow-remote "
            "where you are allowed to send them"
        )


def _host(url: str) -> str | None:
    """The machine that an http address names; None for anything else."""
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and parts.port != 0 and url.isprintable()
    except ValueError:  # a bracket that is not closed, a port that is no number up to 65535
        return None
    return parts.hostname if fits and not re.search(r"\][^:]", parts.netloc) else None
