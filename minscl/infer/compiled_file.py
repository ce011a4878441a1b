"""Compiled functions as files: compiled once by torch's AOTInductor, kept in the cache folder, loaded in milliseconds.

    module, example tensors → step-DIGEST.pt2: loaded if it is there and whole, else compiled

A file's name is the digest of all that its code depends on: the sources of module and functions, the versions of torch
and of the C library, the processor, the number of threads, shapes and dtypes. Its first line is the digest of the rest,
for torch would run damaged code.

Everything but one class (open_package) is torch's documented interface: torch.export,
torch._inductor.aoti_compile_and_package and aoti_load_package.

Read next: row_step.py, the functions that are compiled.
"""

import functools
import hashlib
import inspect
import logging
import os
import platform
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from minscl.data.icd.cache import cache_folder, checked_content, write_checked
from minscl.errors import InputError
from minscl.files import make_folders, remove_file
from minscl.hardware import processor
from minscl.infer import row_step
from minscl.model import ops

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
    path = kept_file(digest)
    content = checked_content(read_own(path) or b"") if path else None
    with tempfile.TemporaryDirectory() as name:
        package = Path(name) / "step.pt2"
        if content is not None:
            package.write_bytes(content)
            try:
                return open_package(package)
            except RuntimeError as error:
                reason = (str(error).splitlines() or ["no reason given"])[0]
                LOG.warning("minscl: %s cannot be opened (%s); remove it if this is repeated", path, reason[:200])
        if not may_compile:
            return None
        began = time.monotonic()
        compile_package(module, arguments, dynamic, package)
        seconds, remark = time.monotonic() - began, "for this run only: no private cache folder"
        if path:
            try:
                remove_file(path)  # a file that read_own refuses would pass on its owner and mode
                write_checked(path, package.read_bytes())
                remark = "kept for later runs"
            except InputError as error:
                remark = f"for this run only: {error}"
        LOG.warning("minscl: compiled %s in %.0f s; %s", type(module).__name__, seconds, remark)
        return open_package(package)


def open_package(path: Path) -> Callable:
    """The code of the file `path` as a function that returns a sequence of tensors.

    The class behind torch's aoti_load_package is not documented. But the function imports the compiler, which takes two
    seconds, and the callable that it returns parses the arguments' structure on every call, of which a token makes one
    a block. Where the class is not as expected, that function opens the file.
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


def kept_file(digest: str) -> Path | None:
    """Where the code of a fingerprint is kept, in a folder that only this user can write; None where there is none."""
    if (cache := cache_folder()) is None:
        return None
    folder = cache / "compiled"
    try:
        make_folders(folder, 0o700)
        return folder / f"step-{digest}.pt2" if is_own(folder.stat()) else None
    except OSError:
        return None


def read_own(path: Path) -> bytes | None:
    """The content of a file that nobody but this user can have written, since it is run as code; None for others.

    No symlink; and it is checked once it is open, so that nothing can take its place in between.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # not waiting for a pipe's writer
    except OSError:
        return None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        return file.read() if is_own(status) and stat.S_ISREG(status.st_mode) else None


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder is this user's, and nobody else can write it."""
    return status.st_uid == os.getuid() and not status.st_mode & 0o022


def fingerprint(module: nn.Module, arguments: tuple) -> str:
    """A digest of everything that the compiled code of `module` depends on."""
    files = row_step, ops, sys.modules[type(module).__module__], sys.modules[__name__]
    settings = type(module).__name__, vars(module).get("names"), vars(module).get("eps")
    code = [source(file) for file in files], settings
    machine = torch.__version__, platform.libc_ver(), torch.get_num_threads(), processor()
    facts = code, [(tuple(tensor.shape), str(tensor.dtype)) for tensor in arguments], machine
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


@functools.cache
def source(module) -> str:
    """The source of a Python module."""
    return inspect.getsource(module)
