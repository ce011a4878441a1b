"""A language model that answers questions in words, for data expansion (Eq. 7, 8, 9): the local decoder, or a server that the user names.

    ask(prompts) → the answers in order, each as soon as it and those before it are there; None for a question that is too long

Questions about notes hold patients' words. So an address that is not this machine's own is refused unless allowed, redirections and proxies
are not followed, and an error message never holds a prompt.

Read next: engine.py; data/silver.py and data/synthetic.py, which ask.
"""

import ipaddress
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from urllib.parse import urlsplit

from minscl.errors import InputError
from minscl.infer.engine import Engine, Request

ANSWER_TOKENS = 256
KEY = "MINSCL_API_KEY"  # environment variable; a server on this machine mostly needs none


class LLM(Protocol):
    name: str  # kept in journals, so that two models' answers are not mixed

    def ask(self, prompts: list[str]) -> Iterator[str | None]: ...


class LocalLLM:
    """minscl's own decoder. What questions begin with in common, such as a note, is read once: `computed` of `asked` prompt tokens."""

    def __init__(self, model, tokenizer, name: str, slots: int = 16):
        self.model, self.tokenizer, self.name, self.slots, self.asked, self.computed = model, tokenizer, name, slots, 0, 0

    def ask(self, prompts: list[str]) -> Iterator[str | None]:
        room = self.model.config.max_position_embeddings - ANSWER_TOKENS
        ids = [self.tokenizer.encode_chat([{"role": "user", "content": prompt}], add_generation_prompt=True) for prompt in prompts]
        fits = [number for number, one in enumerate(ids) if len(one) <= room]
        answers: dict[int, str | None] = {number: None for number in range(len(ids)) if len(ids[number]) > room}
        given = 0
        if fits:
            length = max(len(ids[number]) for number in fits) + ANSWER_TOKENS
            engine = Engine(self.model, slots=min(self.slots, len(fits)), length=length, stop_ids=self.tokenizer.stop_ids)
            for number, answer in engine.run(Request(ids[one], ANSWER_TOKENS) for one in fits):
                answers[fits[number]] = self.tokenizer.decode(answer.ids)
                while given in answers:
                    yield answers[given]
                    given += 1
            self.asked += engine.asked
            self.computed += engine.computed
        yield from (answers[number] for number in range(given, len(ids)))


class EndpointLLM:
    """An OpenAI-compatible server, such as vLLM or `transformers serve`. Raises InputError when it cannot be reached or goes on failing.

    `concurrency` questions are under way at a time; the client library repeats after 429, 5xx, a broken connection and `timeout` seconds of
    silence, `retries` times with growing pauses.
    """

    def __init__(self, url: str, model: str, *, concurrency: int = 16, timeout: float = 120.0, retries: int = 5, allow_remote: bool = False):
        check_address(url, allow_remote)
        try:
            import openai
        except ImportError as error:
            raise InputError(f"--endpoint {url}: the client library is not installed; pip install 'minscl[endpoint]'") from error
        self.errors, self.url, self.model, self.concurrency = openai, url, model, concurrency
        self.name = f"{model} at {url}"
        http = openai.DefaultHttpxClient(follow_redirects=False, trust_env=False)  # no proxy from the environment either
        self.client = openai.OpenAI(base_url=url, api_key=os.environ.get(KEY, "none"), timeout=timeout, max_retries=retries, http_client=http)

    def ask(self, prompts: list[str]) -> Iterator[str | None]:
        with ThreadPoolExecutor(self.concurrency) as pool:
            try:
                yield from pool.map(self._answer, prompts)
            finally:
                pool.shutdown(cancel_futures=True)

    def _answer(self, prompt: str) -> str | None:
        try:
            reply = self.client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": prompt}], temperature=0.0,
                                                        max_tokens=ANSWER_TOKENS)
            return reply.choices[0].message.content or ""
        except self.errors.BadRequestError as error:
            if "context" in str(error).lower() or "too long" in str(error).lower():
                return None
            raise InputError(f"--endpoint {self.url}: refused a question ({error.status_code}); is {self.model} the name of its model?") from error
        except self.errors.APIStatusError as error:
            raise InputError(f"--endpoint {self.url}: answers {error.status_code} for model {self.model}; look at the server's log, then start again: "
                             "what was answered is kept") from error
        except self.errors.OpenAIError as error:
            raise InputError(f"--endpoint {self.url}: {type(error).__name__}; start the server, or give another address, then start again: "
                             "what was answered is kept") from error
        except (ValueError, TypeError, AttributeError, IndexError) as error:  # an answer of another kind
            raise InputError(f"--endpoint {self.url}: the answer is no chat completion; name an OpenAI-compatible address that ends in /v1") from error


def check_address(url: str, allow_remote: bool) -> None:
    """Refuse what is no http address, and, unless allowed, every machine but this one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--endpoint {url}: not an address; give one like http://127.0.0.1:8000/v1")
    try:
        local = ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        local = parts.hostname == "localhost"
    if not local and not allow_remote:
        raise InputError(f"--endpoint {url}: {parts.hostname} is another machine, and notes are patients' data; run the server here, or give --allow-remote "
                         "where you are allowed to send them")
