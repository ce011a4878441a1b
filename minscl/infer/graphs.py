"""On a GPU, one token's pass as a CUDA graph: recorded once, then started with one call instead of several hundred (`generate --graphs`).

A graph does the same work on the same addresses every time. So tokens, positions and slots have tensors of their own that are written
before each replay, and a pass looks at a fixed number of places of the cache, the slots' longest rounded up to EXTENT, masked where nothing stands yet.
One graph is recorded for each number of slots and each such width, when it is first needed, and the log says what that took.
On a CPU the same pass is simply computed, which is how tests hold it to the engine's ordinary one.

Read next: engine.py, which asks for it.
"""

import logging
import time

import torch

from minscl.infer.cache import KVCache
from minscl.model.ops import rope_frequencies

EXTENT = 512  # places
WARM_UPS = 3  # passes before the recording, in which libraries set themselves up
LOG = logging.getLogger("minscl")


class Pass:
    """One token of each of slots 0 .. B-1, in tensors that stay where they are."""

    def __init__(self, model, cache: KVCache, slots: int, extent: int, pool=None):
        device, config = cache.device, model.config
        self.model, self.cache, self.extent, self.graph, self.logits = model, cache, extent, None, None
        self.tokens = torch.zeros(slots, 1, dtype=torch.int64, device=device)  # (B, 1)
        self.positions = torch.full((slots, 1), cache.spare, device=device)  # (B, 1); at first the spare place, where warm-ups do no harm
        self.slots = torch.arange(slots, device=device)[:, None]  # (B, 1)
        self.places = torch.arange(extent, device=device)  # (S,)
        # The recording knows this tensor by its address alone, so it is held here too.
        self.frequencies = rope_frequencies(config.rope, config.head_dim, config.max_position_embeddings, self.tokens.device)
        if pool is not None:
            with torch.cuda.device(self.tokens.device):
                self.record(pool)

    def compute(self) -> None:
        """`logits` (B, V) after `tokens` at `positions`."""
        self.cache.look(self.slots, slice(len(self.slots)), slice(self.extent))
        mask = (self.places <= self.positions)[:, None, None]  # (B, 1, 1, S)
        hidden = self.model.model(self.tokens, positions=self.positions, mask=mask, cache=self.cache)  # (B, 1, C)
        self.logits = self.model.lm_head(hidden[:, 0]).float()

    def record(self, pool) -> None:
        """On a stream of its own, as torch.cuda.graph asks; all recordings work in one `pool` of memory, since each one's logits are used up before the
        next is replayed."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.compute()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool, stream=stream):
            self.compute()

    def __call__(self, tokens: list[int], positions: list[int]) -> torch.Tensor:
        self.tokens.copy_(torch.tensor(tokens)[:, None])
        self.positions.copy_(torch.tensor(positions)[:, None])
        if self.graph is not None:
            self.graph.replay()
        else:
            self.compute()
        return self.logits


class Graphs:
    """The passes of one engine, by number of slots and places."""

    def __init__(self, model, cache: KVCache):
        self.model, self.cache, self.passes = model, cache, {}
        self.pool = torch.cuda.graph_pool_handle() if torch.device(cache.device).type == "cuda" else None

    def __call__(self, tokens: list[int]) -> list[torch.Tensor]:
        """Slot b reads tokens[b]; gives float32 logits (1, V) a slot, as engine.read_tokens does."""
        positions = self.cache.take([[one] for one in tokens])
        extent = min(-(-(max(positions) + 1) // EXTENT) * EXTENT, self.cache.max_length)
        key = len(tokens), extent
        if key not in self.passes:
            began = time.monotonic()
            self.passes[key] = Pass(self.model, self.cache, *key, self.pool)
            LOG.warning("minscl: the pass of %d answers over %d places was prepared in %.1f s", *key, time.monotonic() - began)
        return list(self.passes[key](tokens, positions)[:, None])
