"""docs/benchmarks.md: one section a benchmark, each written by its own command and no other's touched.

Read next: train.py.
"""

import os
import platform
import re
import shlex
import sys
from datetime import date
from pathlib import Path

import torch

from minscl.errors import replace_file

OUT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each section names its command, which anyone can run again. Peers ran in the same run, on the same machine and data.

Not measured, no GPU being at hand: everything on one. That is Llama-3.1-8B's tokens/s, share of the matmul rate, memory and the paper's epoch in training; its
decoding, prefill and the engine against transformers; FlexAttention and CUDA graphs.
"""


def source(*packages) -> str:
    """The command that is running, as one types it, then the machine."""
    return (
        f"`{shlex.join(['python', '-m', 'benchmarks.' + Path(sys.argv[0]).stem, *sys.argv[1:]])}`. {machine(*packages)}"
    )


def machine(*packages) -> str:
    """Cores, processor, GPU where there is one, packages with versions, date."""
    names = (
        re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if Path("/proc/cpuinfo").exists()
        else []
    )
    versions = ", ".join(f"{one.__name__} {one.__version__}" for one in (torch, *packages))
    gpu = f"; {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
    processor = f"{os.cpu_count()} cores, {names[0] if names else platform.machine()}"
    return f"{processor}{gpu}; Python {platform.python_version()}, {versions}; {date.today()}"


def reason(error: Exception) -> str:
    """An error's kind and message on one short line, for a cell of a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:250]}"


def write_section(title: str, lines: list[str]) -> None:
    """Put `lines` under the heading `title`, in place of what stood there."""
    text = OUT.read_text(encoding="utf-8") if OUT.exists() else HEAD
    parts = re.split(r"(?m)^(?=## )", text)
    kept = [part for part in parts if not part.startswith(f"## {title}\n")]
    with replace_file(OUT) as out:
        out.write("".join(part.rstrip() + "\n\n" for part in kept) + "\n".join([f"## {title}", "", *lines, ""]))
