"""Decoding passes of few tokens on a CPU, compiled once by torch's AOTInductor and kept on disk.

    row_step.py → torch.export → C++ → a .pt2 file in the cache folder → called for every block and for the output head

One block is compiled, not the model: all blocks have one shape, and weights are arguments. So compiling takes the same
half a minute for 8 blocks and for 80, and a file serves every model of that shape (compiled_file.py). Passes have 1, 4,
8 or 16 rows (tokens of all sequences, drafts included); fewer are filled up with rows that write to the cache's scratch
position. Longer passes are eager. Where there is no C++ compiler, the log says so once and all passes are.

Letters: N rows, C hidden, V vocabulary, B slots, S cached positions.
Read next: row_step.py, the functions that are compiled; compiled_file.py.
"""

import itertools
import logging
from collections.abc import Callable, Sequence

import torch
from torch import nn

from minscl.errors import InputError
from minscl.infer import row_step
from minscl.infer.cache import KVCache
from minscl.infer.compiled_file import Dynamic, load
from minscl.infer.sequence import Summary

ROWS = (1, 4, 8, 16)  # tokens of a compiled pass
MAX_SLOTS = 8  # answers at a time; with the tokens that a grammar forces, their passes have more rows
TOKENS_PER_ANSWER = 300  # in a long answer, roughly; this and the next two estimate the seconds that compiling saves
BYTES_PER_SECOND = 1e10  # that one core reads from memory, roughly
SHARE_SAVED = 0.3  # of the time of an eager pass that a compiled one saves, roughly
COMPILE_SECONDS = 60  # of the shapes that a run uses, at most
LOG = logging.getLogger("minscl")


class BlockRows(nn.Module):
    """row_step.block_rows as the module that torch.export takes, of tensors alone: the weights `names`, then others."""

    def __init__(self, names: tuple[str, ...], eps: float):
        super().__init__()
        self.names, self.eps = names, eps

    def forward(self, *tensors):
        """Weights, x, cos, sin, positions, keys, values, and slots where there are several, as for block_rows."""
        x, cos, sin, positions, keys, values, *slots = tensors[len(self.names) :]
        weights = dict(zip(self.names, tensors, strict=False))
        own = slots[0] if slots else None
        return (row_step.block_rows(weights, x, cos, sin, own, positions, keys, values, self.eps),)


class HeadRows(nn.Module):
    """row_step.head_rows as a module."""

    def __init__(self, names: tuple[str, ...], eps: float):
        super().__init__()
        self.names, self.eps = names, eps

    def forward(self, *tensors):
        """Weights and x, as for head_rows."""
        return row_step.head_rows(dict(zip(self.names, tensors, strict=False)), tensors[-1], self.eps)


class CompiledStep:
    """Compiled passes over the sequences of `cache`, at most 16 tokens each. The model's projections must be fused.

    A shape is loaded when a pass first needs it; where it is not on disk it is compiled, and the log says so.
    may_compile False: passes of such a shape are eager.
    """

    def __init__(self, model, cache: KVCache, may_compile: bool = True):
        self.model, self.cache, self.eps = model, cache, model.config.rms_norm_eps
        self.may_compile = may_compile
        self.blocks = [tensors_of(block) for block in model.model.layers]
        self.head = {f"norm.{name}": tensor for name, tensor in tensors_of(model.model.norm).items()}
        self.head |= {f"lm_head.{name}": tensor for name, tensor in tensors_of(model.lm_head).items()}
        every = torch.arange(cache.max_length + 1)[None]
        angles = model.model.rope_cos_sin(every, model.model.embed_tokens.weight.dtype)
        self.cos, self.sin = (table[0, 0, :, None] for table in angles)  # (positions, 1, D), as block_rows reads them
        self.passes: dict[int, tuple[Callable, Callable] | None] = {}  # rows → (block, head), or None: eager

    def __call__(self, pending: list[list[int]], drafts: list[list[int]]) -> tuple[list[torch.Tensor], Summary] | None:
        """As passes.decode_step: append to slot b its pending tokens and its draft; float32 logits (1 + draft, V) each.

        And the summary of all their rows. None, with nothing appended, for a pass that is not compiled.
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
        logits, *summary = self.compute(functions, tokens, slots, positions + [self.cache.scratch] * spare)
        log_sums, best, values = (numbers.tolist() for numbers in summary)
        rows: list[int] = []  # whose logits are asked for
        for end, draft in zip(itertools.accumulate(counts), drafts, strict=True):
            rows += range(end - 1 - len(draft), end)
        asked = Summary([log_sums[row] for row in rows], [(best[row], values[row]) for row in rows])
        return list(logits[rows].split([1 + len(draft) for draft in drafts])), asked

    def compute(self, functions, tokens: list[int], slots: list[int], positions: list[int]) -> Sequence[torch.Tensor]:
        """One pass over N rows → what row_step.head_rows returns."""
        block, head = functions
        x = self.model.model.embed_tokens(torch.tensor(tokens))  # (N, C)
        position_ids = torch.tensor(positions)
        cos, sin = self.cos[position_ids], self.sin[position_ids]
        slot_ids = [torch.tensor(slots)] if len(self.cache.ids) > 1 else []
        for weights, keys, values in zip(self.blocks, self.cache.keys, self.cache.values, strict=True):
            [x] = block(*weights.values(), x, cos, sin, position_ids, keys, values, *slot_ids)
        return head(*self.head.values(), x)

    def functions(self, rows: int) -> tuple[Callable, Callable] | None:
        """The compiled block and output head for passes of `rows` tokens; None where there is no compiled one."""
        if rows not in self.passes:
            try:
                block, head = (load(*piece, self.may_compile) for piece in self.pieces(rows))
                self.passes[rows] = (block, head) if block and head else None
            except Exception as error:  # whatever torch's compiler raises, such as for a compiler that is not there
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                LOG.warning("minscl: decoding is not compiled, which makes it slower (%s)", reason[:200])
                self.passes = dict.fromkeys(ROWS)
        return self.passes[rows]

    def pieces(self, rows: int) -> list[tuple[nn.Module, tuple[torch.Tensor, ...], Dynamic]]:
        """compiled_file.load's arguments for the block and for the head, for passes of `rows` tokens.

        Only the cache's numbers of slots and of positions may vary in calls.
        """
        config, keys = self.model.config, self.cache.keys[0]
        several = len(keys) > 1
        x = torch.zeros(rows, config.hidden_size, dtype=keys.dtype)
        angles = torch.zeros(rows, 1, config.head_dim, dtype=keys.dtype)
        positions = torch.zeros(rows, dtype=torch.int64)
        cached = torch.zeros(2 if several else 1, keys.shape[1], 1024, keys.shape[3], dtype=keys.dtype)
        varies = {0: "B", 2: "S"} if several else {2: "S"}
        # no tensor twice: torch.export would make one argument of the two
        others = [x, angles, angles.clone(), positions, cached, cached.clone()]
        dynamic = [None] * (len(self.blocks[0]) + 4) + [varies, varies]
        if several:
            others.append(positions.clone())
            dynamic.append(None)
        block, head = BlockRows(tuple(self.blocks[0]), self.eps), HeadRows(tuple(self.head), self.eps)
        return [
            (block, (*self.blocks[0].values(), *others), tuple(dynamic)),
            (head, (*self.head.values(), x), (None,) * (len(self.head) + 1)),
        ]


def tensors_of(module: nn.Module) -> row_step.Weights:
    """Parameters and buffers of `module` by name."""
    return {name: tensor.detach() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}


def choose_compile(choice: str, model, answers: int, slots: int) -> str:
    """What --compile means for `answers` answers, `slots` at a time: "on", "off" or "kept", what is on disk already.

    "auto" compiles where that saves time: on a CPU by the size of the weights and the number of passes; on a GPU, CUDA
    graphs for several answers at a time; one at a time has draft tokens instead. Projections that LoRA wraps are not
    compiled. Raises InputError for "on" on another device.
    """
    weight = model.model.embed_tokens.weight
    if weight.device.type == "cuda":
        return "on" if choice == "on" or choice == "auto" and slots > 1 else "off"
    fused = all(block.self_attn.is_fused and block.mlp.is_fused for block in model.model.layers)
    if weight.device.type != "cpu" or weight.dtype == torch.float64 or not fused:
        if choice == "on":
            reason = "LoRA that is not merged" if not fused else f"{weight.dtype} on {weight.device.type}"
            raise InputError(f"--compile on: not available with {reason}; leave it out")
        return "off"
    weights = sum(tensor.nbytes for tensor in tensors_of(model.model.layers).values())
    passes = answers * TOKENS_PER_ANSWER / min(slots, MAX_SLOTS)
    saved = passes * SHARE_SAVED * weights / BYTES_PER_SECOND  # seconds
    if choice == "auto":
        return "on" if saved > COMPILE_SECONDS else "kept"
    return choice
