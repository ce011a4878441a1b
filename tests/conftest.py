"""Fixtures that several test files share: the embedded model, and commands called in this process, so that torch starts
once."""

import contextlib
import functools
import io
import os
import subprocess

import pytest

from minscl.cli import run_command


def call_command(main, *arguments, cwd=None) -> subprocess.CompletedProcess:
    """A command's `main`, called as `python -m` calls it; exit status, stdout and stderr as subprocess.run gives
    them."""
    argv, before = [str(argument) for argument in arguments], os.getcwd()
    stdout, stderr = io.StringIO(), io.StringIO()
    os.chdir(cwd or before)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            run_command(lambda: main(argv))
    except SystemExit as end:
        return subprocess.CompletedProcess(argv, end.code, stdout.getvalue(), stderr.getvalue())
    finally:
        os.chdir(before)
    raise AssertionError("run_command always exits")


@pytest.fixture(scope="session")
def embedded():
    """(model, tokenizer) of the embedded model with its adapter merged in. Loaded once: tests must not change it."""
    from minscl.config import DEMO
    from minscl.pretrained import load_pretrained

    return load_pretrained(str(DEMO))


@pytest.fixture(scope="session")
def generate():
    """generate(*arguments, cwd=None): `minscl.generate` in this process; the models that it loads are kept."""
    from minscl import generate as command

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_pretrained", functools.lru_cache(maxsize=2)(command.load_pretrained))
        yield functools.partial(call_command, command.main)
