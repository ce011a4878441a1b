"""The flags of `generate` for a head, checked before torch is imported.

Read next: predict.py.
"""

from collections.abc import Collection
from dataclasses import dataclass

from minscl.config import HEADS, PLM_CA
from minscl.errors import InputError

ATTENTION, ATT_IN_GRAD = "attention", "attingrad"
ATTRIBUTIONS = (ATTENTION, ATT_IN_GRAD)
FLAGS = ("--heads", "--attribution")
VERIFIER_FLAGS = ("--adapter", "--weights")  # of the model that --verify asks
OTHER_FLAGS = (*VERIFIER_FLAGS, "--evidence", "--grounded", "--free", "--no-calibration", "--passage", "--compile")


@dataclass(frozen=True)
class HeadChoice:
    """What of `generate`'s flags decides how a head codes.

    `attribution`: "" for default_attribution's; `min_score`: None for the head's own threshold.
    """

    folder: str
    model: str
    system: str
    attribution: str = ""
    min_score: float | None = None


def default_attribution(system: str) -> str:
    """What the system's authors publish: AttInGrad for plm-ca, else the attention."""
    return ATT_IN_GRAD if system == PLM_CA else ATTENTION


def check_head_flags(system: str, flags: Collection[str]) -> None:
    """Raises InputError where `flags`, those that the user gave, do not go with `system`."""
    if system not in HEADS:
        for name in FLAGS:
            if name in flags:
                raise InputError(f"{name}: only --system {', '.join(HEADS)} reads it; leave it out, or name the system")
        return
    if "--heads" not in flags:
        raise InputError(
            f"--system {system}: needs a trained head; give --heads DIR, made by "
            f"python -m minscl.train --system {system}"
        )
    for name in OTHER_FLAGS:
        if name in flags and not (name in VERIFIER_FLAGS and "--verify" in flags):
            raise InputError(f"--system {system} {name}: a head has no answer to generate; leave {name} out")
