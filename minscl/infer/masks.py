"""Which cached keys each query of a pass attends to: masks that cache.py creates and model/ops.py applies.

Read next: model/ops.py, `attention` and `Segment`.
"""

import functools
from dataclasses import dataclass
from itertools import accumulate

from minscl.model.ops import Segment


@dataclass(frozen=True)
class PrefillMask:
    """A packed pass: `counts[i]` new tokens of slot `slots[i]`, which held `lengths[i]` tokens before; causal."""

    slots: tuple[int, ...]
    lengths: tuple[int, ...]
    counts: tuple[int, ...]

    @functools.cached_property
    def segments(self) -> tuple[Segment, ...]:
        """One Segment per slot, in the order of the queries."""
        return tuple(
            Segment(slice(end - count, end), slot, length + count)
            for slot, length, count, end in zip(
                self.slots, self.lengths, self.counts, accumulate(self.counts), strict=True
            )
        )

    def last_queries(self) -> "DecodeMask":
        """The mask of the last token of each slot only."""
        return DecodeMask(self.slots, tuple(segment.keys for segment in self.segments))


@dataclass(frozen=True)
class DecodeMask:
    """One query per slot: that of slot `slots[i]` attends to the first `lengths[i]` keys, its own being the last."""

    slots: tuple[int, ...]
    lengths: tuple[int, ...]

    @functools.cached_property
    def segments(self) -> tuple[Segment, ...]:
        """One Segment per slot, in the order of the queries."""
        return tuple(
            Segment(slice(index, index + 1), slot, length)
            for index, (slot, length) in enumerate(zip(self.slots, self.lengths, strict=True))
        )
