"""One token's pass prepared beforehand (`generate --compile`): on a CPU its blocks are compiled, on a GPU the whole is recorded as a CUDA graph.

On a CPU torch's compiler, which needs a C++ compiler, makes a few loops of a block's forty operations, the same code for every layer. It serves one
answer at a time, and packed.py's RowLinear is what it reads weights with.

A CUDA graph does the same work on the same addresses every time, started with one call instead of several hundred. So tokens, positions and slots have
tensors of their own that are written before each replay, and a pass looks at a fixed number of places of the cache, the slots' longest rounded up to
EXTENT, masked where nothing stands yet. One graph is recorded for each number of slots and each such width, when it is first needed.

The log says how long each took. Letters: B slots, S places, C hidden, V vocabulary.
Read next: engine.py, which asks for passes.
"""

import contextlib
import functools
import logging
import time

import torch

from minscl.errors import InputError
from minscl.infer.cache import KVCache, Layer
from minscl.model.ops import rope_frequencies

EXTENT = 512  # places
WARM_UPS = 3  # passes before a recording, in which libraries set themselves up
OPTIONS = {
    "size_asserts": False,
    "cpp.enable_floating_point_contract_flag": "fast",
}  # sizes stay what they are; a product and its sum in one instruction
LOG = logging.getLogger("minscl")


def one_block(block, x, cos, sin, position, seen, keys, values):
    """x (1, 1, C) at `position` (1, 1) → (1, 1, C). cos and sin: every place's; `seen`: as long as what is seen; keys and values: the layer's."""
    cos, sin = cos[:, :, position[0]], sin[:, :, position[0]]  # (1, 1, 1, D)
    layer = Layer(
        keys, values, torch.zeros_like(position), slice(1), slice(len(seen))
    )  # slot 0, what stands there: no mask
    return block(x, cos, sin, position, None, layer)


def norm_and_head(model, x):
    """x (1, 1, C) → float32 logits (1, V)."""
    return model.lm_head(model.model.norm(x))[0].float()


@contextlib.contextmanager
def noted():
    """A list that fills with the calls of what torch's compiler wrote: C++ loops and their arguments, which are kept and so stay where they are."""
    from torch._inductor.codecache import PyCodeCache  # not at the top: it takes seconds

    def note(loops, *arguments):
        calls.append((loops, list(arguments)))
        loops(*arguments)

    calls, modules = (
        [],
        getattr(PyCodeCache, "modules", ()),
    )  # not public: where it is missing nothing is noted, which Compiled finds out
    found = [
        (module, name, loops)
        for module in modules
        for name, loops in vars(module).items()
        if name.startswith("cpp_fused")
    ]
    for module, name, loops in found:
        setattr(module, name, functools.partial(note, loops))
    try:
        yield calls
    finally:
        for module, name, loops in found:
            setattr(module, name, loops)


class Compiled:
    """Passes over slot 0 as the loops that torch's compiler wrote, one C++ function a block; weights, keys and values must stay where they are.

    What the compiler puts around a function costs more than it looks: checks of all arguments, forty tensors made anew. After a pass over the weights
    nothing of what that touches is left in the processor's caches, and it would take a quarter of the time in which they are read. So one pass is
    noted, and the others repeat its calls, on the same tensors, with another width.
    """

    def __init__(self, model, cache: KVCache):
        """`model`: laid out in RowLinear. Raises InputError where torch's compiler does not work, or calls more than loops of its own."""
        self.model, self.cache = model, cache
        self.position = torch.full((1, 1), cache.spare)  # at first the spare place, where it does no harm
        self.angles = model.model.angles(
            torch.arange(cache.spare + 1)[None], model.model.embed_tokens.weight.dtype
        )  # cos and sin, (1, 1, S, D)
        self.x = torch.zeros_like(model.model.embed_tokens.weight[None, :1])  # (1, 1, C)
        began = time.monotonic()
        try:
            with torch.inference_mode():
                self.record()
        except RuntimeError as error:
            raise InputError(
                f"--compile: torch's compiler does not work here ({str(error).strip().splitlines()[0]}); install a C++ compiler such as g++, "
                "or leave the flag out"
            ) from error
        LOG.warning("minscl: a token's pass was compiled in %.1f s", time.monotonic() - began)

    def __call__(self, tokens: list[int]) -> list[torch.Tensor] | None:
        """Slot b reads tokens[b]; gives float32 logits (1, V) a slot, as engine.read_tokens does, good until the next pass; None, and nothing read,
        where there are several."""
        if len(tokens) > 1:
            return None
        place = self.cache.take([tokens])[0]
        self.position.fill_(place)
        self.x.copy_(self.model.model.embed_tokens.weight[tokens[0]])
        return [self.repeat(place + 1)]

    def repeat(self, width: int) -> torch.Tensor:
        """A pass that sees `width` places."""
        for loops, arguments, widths in self.calls:
            for one in widths:
                arguments[one] = width
            loops(*arguments)
        return self.logits

    def record(self) -> None:
        """Sets `calls`, of each the loops, their arguments and where among these the width is, and `logits`, which they fill."""
        torch.compiler.reset()  # what it remembers of another model's sizes
        run_block, run_head = (
            torch.compile(one, fullgraph=True, dynamic=False, options=OPTIONS) for one in (one_block, norm_and_head)
        )
        seen, cache, trunk = torch.arange(self.cache.spare), self.cache, self.model.model
        torch._dynamo.mark_dynamic(seen, 0, min=2, max=len(seen))  # code that would ask more of the width is refused

        def run(seen) -> list[torch.Tensor]:
            xs = [self.x]
            for block, keys, values in zip(trunk.layers, cache.keys, cache.values, strict=True):
                xs.append(run_block(block, xs[-1], *self.angles, self.position, seen, keys, values))
            return [*xs, run_head(self.model, xs[-1])]

        run(seen)  # compiles
        with noted() as calls:
            xs = run(seen)  # over the whole width, so that what it needs is large enough for any
        given = {
            one.untyped_storage().data_ptr()
            for one in (
                *self.model.parameters(),
                *self.model.buffers(),
                *self.angles,
                self.position,
                *cache.keys,
                *cache.values,
                *xs,
            )
        }
        share_scratch(calls, given)
        self.logits = xs[-1]
        self.calls = [
            (loops, arguments, [place for place, one in enumerate(arguments) if isinstance(one, int)])
            for loops, arguments in calls
        ]
        place = len(cache.ids[0])  # the next token's, written over before it is seen
        self.position.fill_(place)
        self.x.copy_(trunk.embed_tokens.weight[0])
        if not torch.equal(
            run(seen[: max(2, place + 1)])[-1], self.repeat(max(2, place + 1))
        ):  # not the numbers and the width that were noted
            raise InputError(
                f"--compile: what torch {torch.__version__} compiles gives other numbers when it is repeated; leave the flag out"
            )


def share_scratch(calls: list[tuple], given: set[int]) -> None:
    """Let calls of the same loops work in the first one's tensors, so that these stay in the processor's caches; not in those at `given` addresses."""
    first = {}
    for loops, arguments in calls:
        for place, one in enumerate(arguments):
            if isinstance(one, torch.Tensor) and one.untyped_storage().data_ptr() not in given:
                arguments[place] = first.setdefault((loops, place), one)


class Graph:
    """One token of each of slots 0 .. B-1, in tensors that stay where they are."""

    def __init__(self, model, cache: KVCache, slots: int, extent: int, pool=None):
        device, config = cache.device, model.config
        self.model, self.cache, self.extent, self.graph, self.logits = model, cache, extent, None, None
        self.tokens = torch.zeros(slots, 1, dtype=torch.int64, device=device)  # (B, 1)
        self.positions = torch.full(
            (slots, 1), cache.spare, device=device
        )  # (B, 1); at first the spare place, where warm-ups do no harm
        self.slots = torch.arange(slots, device=device)[:, None]  # (B, 1)
        self.places = torch.arange(extent, device=device)  # (S,)
        # The recording knows this tensor by its address alone, so it is held here too.
        self.frequencies = rope_frequencies(
            config.rope, config.head_dim, config.max_position_embeddings, self.tokens.device
        )
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
    """The recorded passes of one engine, by number of slots and places."""

    def __init__(self, model, cache: KVCache):
        self.model, self.cache, self.graphs = model, cache, {}
        self.pool = (
            torch.cuda.graph_pool_handle() if torch.device(cache.device).type == "cuda" else None
        )  # elsewhere computed, which tests do

    def __call__(self, tokens: list[int]) -> list[torch.Tensor]:
        """Slot b reads tokens[b]; gives float32 logits (1, V) a slot, as engine.read_tokens does."""
        positions = self.cache.take([[one] for one in tokens])
        extent = min(-(-(max(positions) + 1) // EXTENT) * EXTENT, self.cache.max_length)
        key = len(tokens), extent
        if key not in self.graphs:
            began = time.monotonic()
            self.graphs[key] = Graph(self.model, self.cache, *key, self.pool)
            LOG.warning(
                "minscl: the pass of %d answers over %d places was recorded in %.1f s", *key, time.monotonic() - began
            )
        return list(self.graphs[key](tokens, positions)[:, None])


def prepared(model, cache: KVCache) -> Compiled | Graphs:
    """What reads one token a slot, for the device of `cache`."""
    return Graphs(model, cache) if torch.device(cache.device).type == "cuda" else Compiled(model, cache)
