"""Timed decoding by minscl's engine and by transformers' `generate`, on the same weights and prompts.

Read next: decode.py, gpu_decoding.py.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from minscl.data.types import Note
from minscl.infer.constrained import Guide
from minscl.infer.engine import Engine, Request
from minscl.infer.jobs import note_prompt
from minscl.model import load_model
from minscl.model.config import INT8

PEER_SCRIPT = Path(__file__).parent / "decode_peers.py"
GROUNDED_TOKENS = 700  # of the answers with which grounded decoding is timed


@torch.no_grad()
def lay_ring(model) -> None:
    """Set embeddings and output head so that greedy decoding walks one ring through the vocabulary, by a wide margin.

    So no answer loops or stops, and rounding does not decide which token comes next: both sides write the same tokens.
    """
    embedding = model.model.embed_tokens.weight
    ring = torch.randperm(len(embedding), device=embedding.device)
    embedding.normal_(std=1.0)
    model.lm_head.weight[ring.roll(-1)] = embedding[ring]


def run_engine(engine: Engine, prompts: list[list[int]], new_tokens: int) -> tuple[list[list[int]], float]:
    """(answers in the prompts' order, seconds)."""
    began = time.perf_counter()
    answers = dict(engine.run(Request(prompt, new_tokens) for prompt in prompts))
    return [answers[number].ids for number in range(len(prompts))], time.perf_counter() - began


def run_peer(
    model, prompts: list[list[int]], new_tokens: int, batch_size: int, **settings
) -> tuple[list[list[int]], float]:
    """(answers in the prompts' order, seconds) of `generate`: longest prompts first, padded on the left by batch."""
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    answers: dict[int, list[int]] = {}
    began = time.perf_counter()
    for first in range(0, len(order), batch_size):
        numbers = order[first : first + batch_size]
        longest = len(prompts[numbers[0]])
        padding = [longest - len(prompts[number]) for number in numbers]
        rows = [[0] * pad + prompts[number] for pad, number in zip(padding, numbers, strict=True)]
        mask = [[0] * pad + [1] * (longest - pad) for pad in padding]
        with torch.inference_mode():
            output = model.generate(
                torch.tensor(rows, device=model.device),
                attention_mask=torch.tensor(mask, device=model.device),
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
                **settings,
            )
        answers.update(zip(numbers, output[:, longest:].tolist(), strict=True))
    return [answers[number] for number in range(len(prompts))], time.perf_counter() - began


def measure_read_bandwidth(device="cpu", size: int = 2**28) -> list[float]:
    """Bytes a second read from memory, in each of several sums over `size` float32 numbers; of a CPU by all its cores.

    For a CPU use the median and not the best: on a shared host memory is fast in one second and slow in the next, and
    an answer takes longer than either.
    """
    x, rates = torch.randn(size, device=device), []
    for _ in range(6):
        began = time.perf_counter()
        x.sum().item()  # waits for a GPU
        rates.append(x.numel() * x.element_size() / (time.perf_counter() - began))
    return rates


def time_grounding(model, tokenizer, note: str, rounds: int, *, warm_up: bool = True, cuda_graphs: bool = False) -> str:
    """A sentence: what a pass and a token take after the prompt for `note`, free and grounded; medians of `rounds`.

    warm_up: one more round, not counted, which fills the vocabulary's trie and records a GPU's graphs.
    """
    prompt = note_prompt(model, tokenizer, Note("note", note))
    length = len(prompt) + GROUNDED_TOKENS
    engine = Engine(model, slots=1, length=length, stop_ids=(), compile="on" if cuda_graphs else "off")

    def run(new_tokens: int, grounded: bool):
        guide = Guide(tokenizer, note, GROUNDED_TOKENS) if grounded else None
        began = time.perf_counter()
        [(_, answer)] = engine.run([Request(prompt, new_tokens, guide)])
        return time.perf_counter() - began, answer

    pass_times: dict[bool, list[float]] = {False: [], True: []}  # grounded → seconds, by round
    token_times: dict[bool, list[float]] = {False: [], True: []}
    for grounded in (False, True) * (rounds + warm_up):
        prefill_seconds = run(1, False)[0]
        seconds, answer = run(GROUNDED_TOKENS, grounded)
        pass_times[grounded].append((seconds - prefill_seconds) / (answer.forwards - 1))
        token_times[grounded].append((seconds - prefill_seconds) / (len(answer.ids) - 1))
    free_pass, grounded_pass = (1e3 * statistics.median(pass_times[key][warm_up:]) for key in (False, True))
    grounded_token = 1e3 * statistics.median(token_times[True][warm_up:])
    return (
        f"a pass takes {free_pass:.1f} ms free and {grounded_pass:.1f} ms grounded "
        f"({100 * (grounded_pass / free_pass - 1):+.0f}%), a token {free_pass:.1f} ms free and {grounded_token:.1f} ms "
        "grounded, where forced tokens come without a pass of their own."
    )


def write_peer_model(folder: Path, weights: str, texts: list[str]) -> None:
    """WEIGHTS.gguf for llama.cpp; for int8 its own tool quantises it (decode_peers.py).

    A tokenizer of GPT-2's kind, with ChatML's special tokens, is trained on `texts` for it, because llama.cpp cannot
    load minscl's; no text is tokenised.
    """
    from tokenizers import ByteLevelBPETokenizer

    from minscl.gguf_export import write_gguf

    own, config = folder / "gpt2", json.loads((folder / "config.json").read_text())
    if not own.exists():
        own.mkdir()
        for name in ("config.json", "model.safetensors"):
            (own / name).symlink_to(folder / name)
        tokenizer = ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(
            texts, vocab_size=config["vocab_size"], special_tokens=["<|im_start|>", "<|im_end|>"]
        )
        tokenizer.save(str(own / "tokenizer.json"))
    dtype = torch.bfloat16 if weights == INT8 else getattr(torch, weights)
    write_gguf(load_model(own, dtype=dtype), own, folder / f"{weights}.gguf")


def run_peers(python: str, folder: Path, task: dict, rounds: int) -> Iterator[tuple[str, dict, list[float]]]:
    """llama.cpp and OpenVINO, each in a process of `python`: (name with version, its measurements, memory bandwidths).

    `task`: prompts, new_tokens, weights. A peer that fails is named on stderr and left out.
    """
    path = folder / "job.json"
    path.write_text(json.dumps(task | {"threads": torch.get_num_threads(), "rounds": rounds}))
    for side, model in (("llama.cpp", folder / f"{task['weights']}.gguf"), ("openvino", folder)):
        before = measure_read_bandwidth()
        run = subprocess.run([python, str(PEER_SCRIPT), side, str(model), str(path)], capture_output=True, text=True)
        if run.returncode:
            print(f"{side}: failed\n{run.stderr[-2000:]}", file=sys.stderr)
            continue
        result = json.loads(run.stdout.splitlines()[-1])
        yield result["version"], result, [statistics.median(before + measure_read_bandwidth())] * rounds
