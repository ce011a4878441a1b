"""Records, prompts, samples and packs. Read types.py first, then prompts.py, samples.py, packing.py, loss.py."""

from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair, Sample, TextSample

__all__ = ["Assignment", "CodedDocument", "Evidence", "Note", "Pair", "Sample", "TextSample", "pack"]


def __getattr__(name: str):
    """`pack` when it is asked for: it brings torch, which takes seconds to import and which half of the commands do without."""
    if name != "pack":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minscl.data.packing import pack

    return pack
