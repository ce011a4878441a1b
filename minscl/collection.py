"""Garbage collection, paused while hundreds of thousands of objects are made that all stay."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Without garbage collection, which scans all new objects again and again: half the time. A decorator, too.

    One collection at the end, so that none is due soon after.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
            gc.collect()
