"""The systems of the paper's Table 1 that generate (system.py)."""

from minscl.infer.systems.system import SYSTEMS, System, vote

__all__ = ["SYSTEMS", "System", "vote"]
