"""Pictures that a user asks for with --plot: matplotlib, with one line where it is missing, and an atomic file.

    with figure(path, figsize=(8, 4)) as picture:
        axes = picture.subplots()

matplotlib searches the machine's fonts and keeps a list of them under HOME; here it keeps it in a temporary folder,
unless the user has set MPLCONFIGDIR. Training, which nobody asked for a picture, draws without it
(training/loss_plot.py).

Of minscl, this module imports errors.py and files.py only. Read next: score/plots.py.
"""

import contextlib
import importlib.util
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minscl.errors import InputError
from minscl.files import output_path, replace_file

SUFFIXES = (".png", ".svg", ".pdf")


def check_figure_path(path: str) -> None:
    """Raises InputError naming --plot where no figure could be written to `path`; call it before hours of work."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: name a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    if importlib.util.find_spec("matplotlib") is None:
        raise InputError(
            f"--plot {path}: matplotlib is not installed; pip install 'minscl[plots]', or leave --plot out"
        )
    output_path(path)


@contextlib.contextmanager
def figure(path: str, **settings: Any) -> Iterator[Any]:
    """A matplotlib figure, made with `settings`, which is written to `path` on success.

    Raises InputError where check_figure_path does, and where writing fails; `path` then stays as it was.
    """
    check_figure_path(path)
    with _private_cache():
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context({"text.parse_math": False}):  # the name of a system may have a $
            picture = Figure(**settings)
            yield picture
            content = io.BytesIO()
            picture.savefig(content, format=Path(path).suffix.lower().removeprefix("."))
    with replace_file(path, "wb") as file:
        file.write(content.getvalue())


@contextlib.contextmanager
def _private_cache() -> Iterator[None]:
    """Let matplotlib keep its font cache in a temporary folder, unless the user has named one."""
    if "MPLCONFIGDIR" in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="minscl-") as folder:
        os.environ["MPLCONFIGDIR"] = folder
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]
