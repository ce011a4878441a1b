"""ICD-10-CM, records, prompts, samples and packs. Read types.py first, then prompts.py, samples.py, packing.py, loss.py."""

from minscl.data.gold import gold_pairs
from minscl.data.icd import CodeBook
from minscl.data.packing import pack
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair, Sample, TextSample

__all__ = ["Assignment", "CodeBook", "CodedDocument", "Evidence", "Note", "Pair", "Sample", "TextSample", "gold_pairs", "pack"]
