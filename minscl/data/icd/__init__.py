"""ICD-10-CM: the Tabular List as a code book (codebook.py), and the Alphabetic Index (alphabetic_index.py)."""

from minscl.data.icd.codebook import CodeBook

__all__ = ["CodeBook"]
