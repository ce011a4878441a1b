"""docs/benchmarks.md: one section a benchmark, each written by its own command, which leaves the others as they are.

Read next: train.py.
"""

import os
import platform
import re
import shlex
import sys
import textwrap
from datetime import date
from importlib import metadata
from pathlib import Path

from minscl.files import replace_file

OUT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def provenance(*packages: str) -> str:
    """The command line that is running, then the machine."""
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
    return f"`{command}`. {machine(*packages)}"


def machine(*packages: str) -> str:
    """Cores, processor, GPU where there is one, versions of Python, torch and `packages`, date."""
    import torch

    processors = []
    if Path("/proc/cpuinfo").exists():
        processors = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = f"{os.cpu_count()} cores, {processors[0] if processors else platform.machine()}"
    gpu = f"; {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}" if torch.cuda.is_available() else ""
    versions = [f"torch {torch.__version__}", *(f"{name} {metadata.version(name)}" for name in packages)]
    return f"{processor}{gpu}; Python {platform.python_version()}, {', '.join(versions)}; {date.today()}"


def describe_error(error: Exception) -> str:
    """An error's kind and message on one short line, for a cell of a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:250]}"


def write_section(title: str, lines: list[str]) -> None:
    """Replace the section `title` of docs/benchmarks.md by `lines`, or append it where there is none."""
    head, *sections = re.split(r"(?m)^(?=## )", OUT.read_text(encoding="utf-8"))
    titles = [section.splitlines()[0].removeprefix("## ") for section in sections]
    index = titles.index(title) if title in titles else len(sections)
    sections[index : index + 1] = ["\n".join([f"## {title}", "", *lines])]
    with replace_file(OUT) as file:
        file.write("\n\n".join(part.rstrip() for part in (head, *sections)) + "\n")


def write_marked(page: Path, name: str, lines: list[str]) -> None:
    """Put `lines` between the marks of `name` on `page`, prose in lines of at most 120 characters.

    Raises ValueError where the page has no such marks.
    """
    wrapped = [
        part for line in lines for part in ([line] if line.startswith("|") else textwrap.wrap(line, 120) or [""])
    ]
    text, begin, end = page.read_text(encoding="utf-8"), f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, after = text.index(begin) + len(begin), text.index(end)
    with replace_file(page) as file:
        file.write(text[:before] + "\n".join(wrapped) + "\n" + text[after:])
