"""Records, prompts, samples and packs. Read types.py first, then prompts.py, samples.py, packing.py, loss.py."""

from minscl.data.sample_types import Sample, TextSample
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair

__all__ = ["Assignment", "CodedDocument", "Evidence", "Note", "Pair", "Sample", "TextSample", "pack"]


def __getattr__(name: str):
    """Import `pack` on first use: it imports torch, which takes seconds and which half of the commands do not need."""
    if name != "pack":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minscl.data.packing import pack

    return pack
