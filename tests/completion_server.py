"""Servers of the completions API as vLLM, SGLang, llama.cpp and transformers answer it, for test_served.py.

`answer(prompt ids, max_tokens)` → Generation is what their model writes; `script` holds faults, one a request, as
test_endpoint.Faulty has them.
"""

import contextlib
import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from minscl.infer.completions import PROBE_ANSWER
from minscl.infer.sequence import Generation

# style → the field in which a server takes a grammar
GRAMMAR_FIELD = {"vllm": "structured_outputs", "old vllm": "guided_grammar", "sglang": "ebnf", "llama.cpp": "grammar"}
STANDARD = {"model", "prompt", "temperature", "frequency_penalty", "max_tokens"}


class CompletionHandler(BaseHTTPRequestHandler):
    """One request. Its server has `style`, `tokenizer`, `answer`, `script`, and keeps `requests`."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        is_probe = request["max_tokens"] in (1, 32)
        if not is_probe:
            server.requests.append(request)
        fault = server.script.pop(0) if server.script and not is_probe else None
        if fault == "hang":
            time.sleep(server.pause)
        elif isinstance(fault, int):
            self.reply(fault, b"{}")
        elif isinstance(fault, bytes):
            self.reply(200, fault)
        else:
            self.reply(*(fault or self.complete(request)))

    def complete(self, request) -> tuple[int, bytes]:
        """(status, body) as the server of this style answers."""
        server, prompt = self.server, request["prompt"]
        if server.style == "transformers":
            if not isinstance(prompt, str):
                return 400, b'{"detail": "prompt must be a string."}'
            if request.keys() - STANDARD:
                return 422, b'{"detail": "unexpected"}'
            ids = encode_with_special(server.tokenizer, prompt)
        else:
            ids = prompt
        grammar = request.get(GRAMMAR_FIELD.get(server.style, ""))
        if grammar is not None and PROBE_ANSWER in str(grammar):
            text, choice = PROBE_ANSWER, {}
        else:
            generation = server.answer(ids, request["max_tokens"])
            text = server.tokenizer.decode(generation.ids)
            choice = self.tokens_of(generation) if request.get("logprobs") else {}
            choice["finish_reason"] = "stop" if generation.stopped else "length"
        usage = {"prompt_tokens": len(ids)}
        return 200, json.dumps({"choices": [{"index": 0, "text": text, **choice}], "usage": usage}).encode()

    def tokens_of(self, generation) -> dict:
        """The fields of a choice that hold the tokens, the stop token included, as vLLM has it."""
        stop = [self.server.tokenizer.stop_ids[0]] * generation.stopped
        ids = [*generation.ids, *stop]
        logs = [math.log(probability) for probability in [*generation.probabilities, *([0.9] * len(stop))]]
        if self.server.style == "llama.cpp":
            return {"logprobs": {"content": [{"id": id, "logprob": log} for id, log in zip(ids, logs, strict=True)]}}
        return {"token_ids": ids, "logprobs": {"token_logprobs": logs}}

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def encode_with_special(tokenizer, text: str) -> list[int]:
    """The tokens of `text` as servers read a text: the names of special tokens become these tokens."""
    ids, rest = [], text
    special = {
        tokenizer.decode([id], skip_special=False): id for id, piece in enumerate(tokenizer.pieces()) if piece is None
    }
    while rest:
        places = [(rest.find(name), name) for name in special if name and name in rest]
        place, name = min(places, default=(len(rest), ""))
        ids += tokenizer.encode(rest[:place]) if place else []
        ids += [special[name]] if name else []
        rest = rest[place + len(name) :]
    return ids


@contextlib.contextmanager
def completion_server(tokenizer, answer, style="vllm", script=()):
    """A server on this machine, as a context manager; `address` ends in /v1."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), CompletionHandler)
    server.daemon_threads = True
    server.style, server.tokenizer, server.answer, server.script = style, tokenizer, answer, list(script)
    server.requests, server.pause = [], 3.0
    server.address = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def written(tokenizer, text: str, stopped=True) -> Generation:
    """A model's answer `text`, each token with probability 0.9."""
    ids = tokenizer.encode_answer_start(text)
    return Generation(ids, [0.9] * len(ids), stopped, forwards=1)
