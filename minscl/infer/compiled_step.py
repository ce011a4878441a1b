"""Decoding passes of few tokens on a CPU, compiled once by torch's AOTInductor and kept on disk.

    row_step.py → torch.export → C++ → a .pt2 file in the cache folder → called for every block and for the output head

One block is compiled, not the model: all blocks have one shape, and weights are arguments. So compiling takes the same
half a minute for 8 blocks and for 80, a file serves every model of that shape, and the next start loads it in
milliseconds. A file's name is the digest of all that its code depends on: this file and row_step.py, torch's version,
the processor, the number of threads, shapes and dtypes. Its first line is the digest of the rest, for torch would run
damaged code. Passes have 1, 4 or 8 rows (tokens of all sequences, drafts included); fewer are filled up with rows that
write to the cache's scratch position. Longer passes are eager.

Everything is torch's documented interface (torch.export, torch._inductor.aoti_compile_and_package and
aoti_load_package). Where there is no C++ compiler, the log says so once and passes are eager.

Letters: N rows, C hidden, V vocabulary, S cached positions.
Read next: row_step.py, the functions that are compiled.
"""

import functools
import hashlib
import inspect
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from minscl.data.icd.cache import cache_folder, read_checked, write_checked
from minscl.errors import InputError
from minscl.files import read_text
from minscl.infer import row_step
from minscl.infer.cache import KVCache

ROWS = (1, 4, 8)  # tokens of a compiled pass
TOKENS_PER_ANSWER = 300  # of a long answer, roughly; with the next two, the seconds that compiling saves
BYTES_PER_SECOND = 1e10  # that one core reads from memory, roughly
SHARE_SAVED = 0.3  # of the time of an eager pass that a compiled one saves, roughly
COMPILE_SECONDS = 60  # of the shapes that a run uses, at most
LOG = logging.getLogger("minscl")


class BlockRows(nn.Module):
    """row_step.block_rows as the module that torch.export takes."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps

    def forward(self, weights, x, cos, sin, slots, positions, keys, values):
        """As block_rows."""
        return row_step.block_rows(weights, x, cos, sin, slots, positions, keys, values, self.eps)


class HeadRows(nn.Module):
    """row_step.head_rows as a module."""

    def __init__(self, eps: float):
        super().__init__()
        self.eps = eps

    def forward(self, weights, x):
        """As head_rows."""
        return row_step.head_rows(weights, x, self.eps)


class CompiledStep:
    """Compiled passes over the sequences of `cache`, at most 8 tokens each. The model's projections must be fused.

    A shape is loaded when a pass first needs it; where it is not on disk it is compiled, and the log says so.
    """

    def __init__(self, model, cache: KVCache):
        self.model, self.cache, self.eps = model, cache, model.config.rms_norm_eps
        self.blocks = [tensors_of(block) for block in model.model.layers]
        self.head = {f"norm.{name}": tensor for name, tensor in tensors_of(model.model.norm).items()}
        self.head |= {f"lm_head.{name}": tensor for name, tensor in tensors_of(model.lm_head).items()}
        self.passes: dict[int, tuple[Callable, Callable] | None] = {}  # rows → (block, head), or None: eager

    def __call__(self, pending: list[list[int]], drafts: list[list[int]]) -> list[torch.Tensor] | None:
        """As passes.decode_step: append to slot b its pending tokens and its draft; float32 logits (1 + draft, V) each.

        None, with nothing appended, for a pass that is not compiled: one of more than 8 tokens, or no compiler.
        """
        parts = [tokens + draft for tokens, draft in zip(pending, drafts, strict=True)]
        counts = [len(part) for part in parts]
        N = next((rows for rows in ROWS if rows >= sum(counts)), None)
        if N is None or (functions := self.functions(N)) is None:
            return None
        starts = self.cache.reserve(parts)
        spare = N - sum(counts)
        tokens = [token for part in parts for token in part] + [0] * spare
        slots = [slot for slot, count in enumerate(counts) for _ in range(count)] + [0] * spare
        positions = [start + offset for start, count in zip(starts, counts, strict=True) for offset in range(count)]
        logits = self.compute(functions, tokens, slots, positions + [self.cache.scratch] * spare)
        rows, end = [], 0
        for count, draft in zip(counts, drafts, strict=True):
            end += count
            rows.append(logits[end - 1 - len(draft) : end])
        return rows

    def compute(self, functions, tokens: list[int], slots: list[int], positions: list[int]) -> torch.Tensor:
        """One pass over N rows → float32 logits (N, V)."""
        block, head = functions
        x = self.model.model.embed_tokens(torch.tensor(tokens))  # (N, C)
        position_ids = torch.tensor(positions)
        cos, sin = (angles[0, 0, :, None] for angles in self.model.model.rope_cos_sin(position_ids[None], x.dtype))
        slot_ids = torch.tensor(slots) if len(self.cache.ids) > 1 else None
        for weights, keys, values in zip(self.blocks, self.cache.keys, self.cache.values, strict=True):
            x = block(weights, x, cos, sin, slot_ids, position_ids, keys, values)
        return head(self.head, x)

    def functions(self, rows: int) -> tuple[Callable, Callable] | None:
        """The compiled block and output head for passes of `rows` tokens; None where they cannot be compiled."""
        if rows not in self.passes:
            try:
                block, head = self.pieces(rows)
                self.passes[rows] = load(*block), load(*head)
            except Exception as error:  # whatever torch's compiler raises, such as for a compiler that is not there
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                LOG.warning("minscl: decoding is not compiled, which makes it slower (%s)", reason[:200])
                self.passes = dict.fromkeys(ROWS)
        return self.passes[rows]

    def pieces(self, rows: int) -> list[tuple[nn.Module, tuple]]:
        """(module, example arguments) of the block and of the head, for passes of `rows` tokens."""
        config, keys = self.model.config, self.cache.keys[0]
        slots = torch.zeros(rows, dtype=torch.int64) if len(keys) > 1 else None
        x = torch.zeros(rows, config.hidden_size, dtype=keys.dtype)
        angles = torch.zeros(rows, 1, config.head_dim, dtype=keys.dtype)
        cached = torch.zeros(min(len(keys), 2), keys.shape[1], 1024, keys.shape[3], dtype=keys.dtype)
        positions = torch.zeros(rows, dtype=torch.int64)
        # no tensor twice: torch.export would make one argument of the two
        block = (self.blocks[0], x, angles, angles.clone(), slots, positions, cached, cached.clone())
        return [(BlockRows(self.eps), block), (HeadRows(self.eps), (self.head, x))]


def tensors_of(module: nn.Module) -> row_step.Weights:
    """Parameters and buffers of `module` by name."""
    return {name: tensor.detach() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}


def choose_compile(choice: str, model, answers: int, slots: int) -> bool:
    """What --compile means for `answers` answers, `slots` at a time: "auto" compiles where that saves time.

    On a GPU, CUDA graphs for several answers at a time; one at a time has draft tokens instead. On a CPU, by the size
    of the weights and the number of passes. Projections that LoRA wraps are not compiled. Raises InputError for "on" on
    another device.
    """
    weight = model.model.embed_tokens.weight
    if weight.device.type == "cuda":
        return choice == "on" or choice == "auto" and slots > 1
    fused = all(block.self_attn.is_fused and block.mlp.is_fused for block in model.model.layers)
    if weight.device.type != "cpu" or weight.dtype == torch.float64 or not fused:
        if choice == "on":
            raise InputError(
                f"--compile on: not for {weight.device.type}, {weight.dtype} and LoRA that is not merged; leave it out"
            )
        return False
    weights = sum(tensor.nbytes for tensor in tensors_of(model.model.layers).values())
    passes = answers * TOKENS_PER_ANSWER / min(slots, ROWS[-1])
    saved = passes * SHARE_SAVED * weights / BYTES_PER_SECOND  # seconds
    return choice == "on" or choice == "auto" and saved > COMPILE_SECONDS


def load(module: nn.Module, arguments: tuple) -> Callable:
    """The compiled `module`: from the cache folder, or else compiled now. Raises what torch's compiler raises."""
    folder = cache_folder()
    path = folder / f"step-{fingerprint(module, arguments)}.pt2" if folder else None
    content = read_checked(path) if path and is_own_file(path) else None
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "step.pt2"
        if content is not None:
            package.write_bytes(content)
            return torch._inductor.aoti_load_package(str(package))
        began = time.monotonic()
        compile_package(module, arguments, package)
        seconds, remark = time.monotonic() - began, "kept for later runs"
        if path:
            try:
                write_checked(path, package.read_bytes())
            except InputError as error:
                remark = f"for this run only: {error}"
        LOG.warning("minscl: compiled %s in %.0f s; %s", type(module).__name__, seconds, remark)
        return torch._inductor.aoti_load_package(str(package))


def compile_package(module: nn.Module, arguments: tuple, path: Path) -> None:
    """Compile `module` into the file `path`; only the cache's numbers of slots and of positions may vary in calls."""
    S, B = torch.export.Dim("S", min=4, max=2**30), torch.export.Dim("B", min=2, max=2**20)
    dynamic = [dict.fromkeys(argument) if isinstance(argument, dict) else None for argument in arguments]
    if isinstance(module, BlockRows):
        slots = arguments[4]
        dynamic[-2:] = [{2: S} if slots is None else {0: B, 2: S}] * 2  # keys and values
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, arguments, dynamic_shapes=tuple(dynamic))
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def is_own_file(path: Path) -> bool:
    """Whether `path` is a file that nobody but this user can have written: it is run as code."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def fingerprint(module: nn.Module, arguments: tuple) -> str:
    """A digest of everything that the compiled code of `module` depends on."""
    sources = [inspect.getsource(source) for source in (row_step, sys.modules[__name__])]
    code = sources, type(module).__name__, vars(module).get("eps")
    machine = torch.__version__, torch.get_num_threads(), processor()
    facts = code, [describe(argument) for argument in arguments], machine
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def describe(argument):
    """Shapes and dtypes in an argument: a tensor, a dict of tensors, or None."""
    if isinstance(argument, dict):
        return [(name, describe(tensor)) for name, tensor in sorted(argument.items())]
    return argument if argument is None else (tuple(argument.shape), str(argument.dtype))


@functools.cache
def processor() -> str:
    """The processor's model and instructions: code is compiled for exactly these."""
    try:
        lines = read_text("/proc/cpuinfo").splitlines()
    except InputError:
        lines = []
    model = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()} {model}"
