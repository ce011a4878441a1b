"""The best validation of a run so far, and when the run should stop: what a checkpoint keeps of `--validate`.

The best has the highest code F1: codes are what the adapter is for, and the held-out loss often rises, as the model
grows more certain, while its codes still improve. Of equal F1, and where no document is coded, the lowest loss.

Read next: validation.py, which makes the scores.
"""

import dataclasses
import math
from dataclasses import dataclass

from minscl.errors import InputError
from minscl.settings import Settings


@dataclass(frozen=True)
class BestValidation:
    """`last_step`: of the newest validation; `best_step` with its `loss` and `code_f1` (-1: no document was coded).

    `since`: validations after the best one. Steps count from 1; 0: none yet.
    """

    last_step: int = 0
    best_step: int = 0
    loss: float = math.inf
    code_f1: float = -1.0
    since: int = 0

    def after(self, step: int, scores: dict) -> "BestValidation":
        """The best after the validation of `step`, whose `scores` are those of metrics.jsonl."""
        loss, code_f1 = scores["loss"], scores.get("code_f1", -1.0)
        if (code_f1, -loss) > (self.code_f1, -self.loss):
            return BestValidation(step, step, loss, code_f1)
        return dataclasses.replace(self, last_step=step, since=self.since + 1)

    def is_over(self, patience: int) -> bool:
        """Whether `patience` validations in a row were not the best; 0: never."""
        return 0 < patience <= self.since

    def __str__(self) -> str:
        coded = f"code F1 {self.code_f1:.3f}, " if self.code_f1 >= 0 else ""
        return f"step {self.best_step:,} ({coded}loss {self.loss:.3f})"

    def to_dict(self) -> dict:
        """For a checkpoint's state.json; {} before the first validation."""
        return dataclasses.asdict(self) if self.last_step else {}

    @classmethod
    def from_dict(cls, content: dict, source: str) -> "BestValidation":
        """What to_dict wrote. Raises InputError naming `source` and the key."""
        state = Settings(content, source, "begin again with another --out")
        if not content:
            return cls()
        return cls(
            state.integer("last_step", minimum=1),
            state.integer("best_step", minimum=1),
            state.number("loss"),
            state.number("code_f1", minimum=-1, maximum=1),
            state.integer("since"),
        )


def check_finite(scores: dict) -> None:
    """Raises InputError for a held-out loss that is not finite: it cannot be compared."""
    if not math.isfinite(scores["loss"]):
        raise InputError(f"--validate: the held-out loss is {scores['loss']}; train with a smaller --lr")
