"""Decoding passes of one token per slot, recorded as CUDA graphs (`generate --compile` on a GPU).

A CUDA graph replays the same kernels on the same addresses with one launch instead of several hundred. So tokens and
positions have tensors of their own, written before each replay, and a pass reads a fixed number of cache positions: the
longest slot's, rounded up to WIDTH_STEP, masked where nothing is stored yet. One graph is recorded for each number of
slots and each width when it is first needed; the log says how long each took. Without a GPU passes are computed
eagerly, which the tests use.

Letters: B slots, S cached positions, C hidden, V vocabulary.
Read next: passes.py, the same pass without a recording.
"""

import logging
import time

import torch

from minscl.infer.cache import KVCache
from minscl.model.ops import rope_frequencies

WIDTH_STEP = 512  # cached positions
WARM_UPS = 3  # passes before a recording, in which libraries initialise themselves
LOG = logging.getLogger("minscl")


class Graph:
    """A pass of one token for each of slots 0 .. B-1 over `width` cached positions, in tensors at fixed addresses.

    pool: memory pool of the recording, from torch.cuda.graph_pool_handle; None computes the pass eagerly.
    """

    def __init__(self, model, cache: KVCache, slots: int, width: int, pool=None):
        device, config = cache.device, model.config
        self.model, self.cache, self.width = model, cache, width
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits = torch.empty(0)
        self.tokens = torch.zeros(slots, 1, dtype=torch.int64, device=device)  # (B, 1)
        # (B, 1); initially the scratch position, so that warm-ups overwrite nothing
        self.positions = torch.full((slots, 1), cache.scratch, device=device)
        self.slots = torch.arange(slots, device=device)[:, None]  # (B, 1)
        self.key_positions = torch.arange(width, device=device)  # (S,)
        # The graph refers to this cached tensor by its address, so keep it alive.
        self.frequencies = rope_frequencies(
            config.rope, config.head_dim, config.max_position_embeddings, self.tokens.device
        )
        if pool is not None:
            with torch.cuda.device(self.tokens.device):
                self.record(pool)

    def compute(self) -> None:
        """Set `logits`, float32 (B, V), after `tokens` at `positions`."""
        self.cache.select(self.slots, slice(len(self.slots)), slice(self.width))
        mask = (self.key_positions <= self.positions)[:, None, None]  # (B, 1, 1, S)
        hidden = self.model.model(self.tokens, positions=self.positions, mask=mask, cache=self.cache)  # (B, 1, C)
        self.logits = self.model.lm_head(hidden[:, 0]).float()

    def record(self, pool) -> None:
        """Warm up and capture on a side stream, as torch.cuda.graph requires.

        All recordings share one pool, since the logits of each are consumed before the next is replayed.
        """
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.compute()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            self.compute()
        self.graph = graph

    def __call__(self, tokens: list[int], positions: list[int]) -> torch.Tensor:
        """Slot b reads tokens[b] at positions[b]; returns float32 logits (B, V), overwritten by the next call."""
        self.tokens.copy_(torch.tensor(tokens)[:, None])
        self.positions.copy_(torch.tensor(positions)[:, None])
        if self.graph is not None:
            self.graph.replay()
        else:
            self.compute()
        return self.logits


class Graphs:
    """The recorded passes of one engine, by (slots, width)."""

    def __init__(self, model, cache: KVCache):
        self.model, self.cache = model, cache
        self.graphs: dict[tuple[int, int], Graph] = {}
        on_gpu = torch.device(cache.device).type == "cuda"
        self.pool = torch.cuda.graph_pool_handle() if on_gpu else None  # None: computed eagerly

    def __call__(self, tokens: list[int]) -> list[torch.Tensor]:
        """Slot b reads tokens[b]; returns float32 logits (1, V) per slot, as passes.decode_step does."""
        positions = self.cache.reserve([[token] for token in tokens])
        width = min(-(-(max(positions) + 1) // WIDTH_STEP) * WIDTH_STEP, self.cache.max_length)
        key = len(tokens), width
        if key not in self.graphs:
            began = time.monotonic()
            self.graphs[key] = Graph(self.model, self.cache, *key, self.pool)
            LOG.warning(
                "minscl: recorded a pass of %d sequences over %d positions in %.1f s", *key, time.monotonic() - began
            )
        return list(self.graphs[key](tokens, positions)[:, None])
