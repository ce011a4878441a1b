"""minscl: Span-Centric Learning for evidence-based ICD-10-CM coding, from scratch in PyTorch.

Two entry points: `train.py` (samples, packs, loss, adapter) and `generate.py` (note, tokens, text, codes).
"""

import os
import signal
import sys

__version__ = "0.3.0.dev0"


def _leave(number, frame):
    """Ctrl-C while a command imports torch: a line, not the traceback of an import."""
    os.write(2, b"minscl: interrupted\n")
    os._exit(130)


# True only in `python -m minscl.COMMAND`, before its module runs; command.run_command takes over from there.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
