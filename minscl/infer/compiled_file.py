"""Compiled functions as files: compiled once by torch's AOTInductor, kept in the cache folder, loaded in milliseconds.

    module, example tensors → step-DIGEST.pt2: loaded if it is there and whole, else compiled

A file's name is the digest of all that its code depends on: the sources of module and functions, torch's version, the
processor, the number of threads, shapes and dtypes. Its first line is the digest of the rest, for torch would run
damaged code.

Everything but one class (open_package) is torch's documented interface: torch.export,
torch._inductor.aoti_compile_and_package and aoti_load_package.

Read next: row_step.py, the functions that are compiled.
"""

import functools
import hashlib
import inspect
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from minscl.data.icd.cache import cache_folder, read_checked, write_checked
from minscl.errors import InputError
from minscl.hardware import processor
from minscl.infer import row_step

OPTIONS = {"cpp.enable_floating_point_contract_flag": "fast"}  # of torch's compiler: a product and a sum as one
LOG = logging.getLogger("minscl")

Dynamic = tuple[dict[int, str] | None, ...]  # of each argument: dimension → its letter, where it may vary
VARYING = {"B": 2, "S": 4}  # letter of a dimension that may vary → the least that it can be
LARGEST = 2**30
_opened: dict[str, Callable] = {}  # fingerprint → what a process has opened


def load(
    module: nn.Module, arguments: tuple[torch.Tensor, ...], dynamic: Dynamic, may_compile: bool = True
) -> Callable | None:
    """The compiled `module`: opened before, from the cache folder, or compiled now. Raises what the compiler raises.

    It can be called with tensors like the examples `arguments`, larger or smaller where they are `dynamic`, and returns
    a sequence of tensors. may_compile False: None where it is not in the cache folder.
    """
    digest = fingerprint(module, arguments)
    if digest not in _opened:
        if (function := read_or_compile(digest, module, arguments, dynamic, may_compile)) is None:
            return None
        _opened[digest] = function
    return _opened[digest]


def read_or_compile(
    digest: str, module: nn.Module, arguments: tuple[torch.Tensor, ...], dynamic: Dynamic, may_compile: bool
) -> Callable | None:
    """The compiled `module` of that fingerprint; other arguments as for load."""
    folder = cache_folder()
    path = folder / f"step-{digest}.pt2" if folder else None
    content = read_checked(path) if path and is_own_file(path) else None
    if content is None and not may_compile:
        return None
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "step.pt2"
        if content is not None:
            package.write_bytes(content)
            return open_package(package)
        began = time.monotonic()
        compile_package(module, arguments, dynamic, package)
        seconds, remark = time.monotonic() - began, "kept for later runs"
        if path:
            try:
                write_checked(path, package.read_bytes())
            except InputError as error:
                remark = f"for this run only: {error}"
        LOG.warning("minscl: compiled %s in %.0f s; %s", type(module).__name__, seconds, remark)
        return open_package(package)


def open_package(path: Path) -> Callable:
    """The code of the file `path` as a function that returns a sequence of tensors.

    The class behind torch's aoti_load_package is not documented. But the function imports the compiler, which takes two
    seconds, and what it returns reads the arguments' structure anew in each call, of which a token takes one a block.
    Where the class is not as expected, that function opens the file.
    """
    try:
        run = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1).run
    except (AttributeError, TypeError):
        return torch._inductor.aoti_load_package(str(path))
    return lambda *tensors: run(list(tensors))


def compile_package(module: nn.Module, arguments: tuple[torch.Tensor, ...], dynamic: Dynamic, path: Path) -> None:
    """Compile `module` into the file `path`; arguments as for load."""
    varying = {letter: torch.export.Dim(letter, min=least, max=LARGEST) for letter, least in VARYING.items()}
    shapes = tuple(sizes and {axis: varying[letter] for axis, letter in sizes.items()} for sizes in dynamic)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, arguments, dynamic_shapes=(shapes,))
        torch._inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs={**OPTIONS})


def is_own_file(path: Path) -> bool:
    """Whether `path` is a file that nobody but this user can have written: it is run as code."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def fingerprint(module: nn.Module, arguments: tuple) -> str:
    """A digest of everything that the compiled code of `module` depends on."""
    files = row_step, sys.modules[type(module).__module__], sys.modules[__name__]
    settings = type(module).__name__, vars(module).get("names"), vars(module).get("eps")
    code = [source(file) for file in files], settings
    machine = torch.__version__, torch.get_num_threads(), processor()
    facts = code, [(tuple(tensor.shape), str(tensor.dtype)) for tensor in arguments], machine
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


@functools.cache
def source(module) -> str:
    """The source of a Python module."""
    return inspect.getsource(module)
