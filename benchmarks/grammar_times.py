"""The times of grounded decoding by part, minscl's and llguidance's alike, as rows of one table.

Read next: grammar.py.
"""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field

VOCABULARY = 128_256
ROWS = 32  # of random logits, in turn, so that none is in the fastest cache
PREFERENCE = 30.0  # added to the logit of the gold answer's token
PARTS = ("forced", "allowed", "choose", "log-sum-exp")


@dataclass
class Times:
    """Seconds that each token chosen took, by part; tokens: of all answers, forced ones included."""

    parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens: int = 0

    def row(self, name: str) -> str:
        """A row of the table."""
        choices = len(self.parts["choose"])
        sums = sorted(map(sum, zip(*self.parts.values(), strict=True)))
        medians = " | ".join(f"{1e6 * statistics.median(self.parts[part]):.0f}" for part in PARTS)
        spread = f"{1e6 * sums[int(0.95 * choices)]:.0f} | {1e6 * statistics.mean(sums):.0f}"
        return (
            f"| {name} | {self.tokens:,} | {choices:,} | {medians} | {1e6 * statistics.median(sums):.0f} | {spread} |"
        )
