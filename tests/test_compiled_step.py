"""Compiled decoding passes: the functions against the eager decoder, the engine's answers, and the files on disk."""

import functools
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from minscl.data.icd.cache import write_checked
from minscl.errors import InputError
from minscl.infer import compiled_file, compiled_step
from minscl.infer.compiled_file import fingerprint, open_package
from minscl.infer.compiled_step import CompiledStep, choose_compile
from minscl.infer.engine import Engine, Request
from minscl.lora import add_lora
from tests.test_engine import ForcingGuide, make_prompts
from tests.tiny_models import V, decoder


@pytest.fixture
def uncompiled(monkeypatch):
    """The functions of row_step.py as they are, in place of compiled ones."""
    monkeypatch.setattr(compiled_step, "load", lambda module, *others: module)


def fused(family, dtype=torch.float32):
    model = decoder(family, dtype)
    model.fuse_projections()
    return model


class WrongDrafts:
    """Drafts of 0 to 6 tokens, some of them right: those of `answer`."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, ids):
        start, length = len(ids), len(ids) % 7
        return [
            token if index % 3 else (token + 1) % V for index, token in enumerate(self.answer[start : start + length])
        ]


def answers_of(model, slots, compile="off", drafts=None):
    """{request: (ids, passes)} of five prompts, some of them with tokens that a guide forces, some with drafts."""
    requests = []
    for index, (prompt, limit) in enumerate(zip(make_prompts((3, 30, 12, 25, 7)), (20, 5, 30, 12, 25), strict=True)):
        guide = ForcingGuide() if index % 2 else None
        drafter = WrongDrafts(drafts[index]) if drafts and not guide else None
        requests.append(Request(prompt, limit, guide, drafter))
    engine = Engine(model, slots=slots, length=60, stop_ids=(3,), compile=compile)
    return {index: answer.ids for index, answer in engine.run(requests)}


@pytest.mark.parametrize("family", ["llama3.1", "qwen2", "qwen3"])  # without biases, with, with norms of each head
@pytest.mark.parametrize("slots", [1, 3])
def test_row_passes_give_the_answers_of_eager_ones(family, slots, uncompiled):
    """Guards: a row that attends to another sequence or past itself, a spare row that overwrites a key, logits of the
    wrong rows after a draft, forced tokens left out, a bias or a head's norm left out, a cache that grows."""
    model = fused(family)
    eager = answers_of(model, slots)
    assert answers_of(model, slots, "on") == eager
    assert answers_of(model, slots, "on", eager) == eager


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_row_logits_equal_eager_logits(dtype, tolerance, uncompiled):
    """Guards: RoPE by halves with a wrong sign, scores divided twice, a head's keys given to another head."""
    model = fused("llama3.1", dtype)
    logits = {}
    for compile in ("off", "on"):
        engine, rows = Engine(model, slots=2, length=60, stop_ids=(), compile=compile), []
        settle = engine._settle
        engine._settle = lambda logits, *others, settle=settle, rows=rows: (
            rows.extend(logits.values()) or settle(logits, *others)
        )
        list(engine.run(Request(prompt, 6) for prompt in make_prompts((30, 7))))
        logits[compile] = torch.cat(rows).float()
    assert (logits["on"] - logits["off"]).norm() <= tolerance * logits["off"].norm()


def test_auto_compiles_where_it_saves_time():
    """Guards: a minute of compiling for one short note, or for answers that share their passes; a large model, or
    float32, that is never compiled; LoRA's update lost."""
    model = fused("llama3.1")
    powers = (10**power for power in range(9))
    answers = next(number for number in powers if choose_compile("auto", model, answers=number, slots=1) == "on")
    assert answers > 10**3  # of a tiny model
    assert choose_compile("auto", model, answers=answers // 10 + 1, slots=1) == "kept"
    assert choose_compile("auto", model, answers=answers * 8, slots=32) == "on"
    assert choose_compile("auto", model, answers=answers // 2, slots=32) == "kept"
    assert choose_compile("auto", fused("llama3.1", torch.bfloat16), answers=10**8, slots=1) == "on"
    assert choose_compile("off", model, answers=10**7, slots=1) == "off"
    assert choose_compile("on", model, answers=1, slots=1) == "on"
    with_lora = decoder()
    add_lora(with_lora, rank=2)
    with_lora.fuse_projections()
    assert choose_compile("auto", with_lora, answers=10**7, slots=1) == "off"
    with pytest.raises(InputError, match="--compile on: not available with LoRA"):
        choose_compile("on", with_lora, answers=1, slots=1)


def test_without_a_compiler_passes_are_eager(monkeypatch, caplog):
    """Guards: a traceback, a line for each shape, and answers that differ, where there is no C++ compiler."""

    def fail(*arguments):
        raise RuntimeError("no working C++ compiler\nsecond line")

    monkeypatch.setattr(compiled_file, "compile_package", fail)
    monkeypatch.setattr(compiled_file, "cache_folder", lambda: None)
    model = fused("llama3.1")
    with caplog.at_level(logging.WARNING, "minscl"):
        assert answers_of(model, 3, "on") == answers_of(model, 3)
    assert caplog.messages == ["minscl: decoding is not compiled, which makes it slower (no working C++ compiler)"]


def test_a_file_serves_only_the_code_it_was_compiled_for(monkeypatch, tmp_path):
    """Guards: code of another shape, dtype, number of threads or processor taken from disk."""
    model = fused("llama3.1")

    def digest(rows=1, slots=1, dtype=torch.float32, **changes):
        step = CompiledStep(fused("llama3.1", dtype), Engine(model, slots=slots, length=9, stop_ids=()).cache)
        return fingerprint(*step.pieces(rows)[0][:2])

    digests = {digest(), digest(rows=4), digest(slots=2), digest(dtype=torch.bfloat16)}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    digests.add(digest())
    monkeypatch.setattr(compiled_file, "processor", lambda: "another")
    digests.add(digest())
    assert len(digests) == 6 and digest() == digest(slots=1)


def test_code_that_another_user_may_have_written_is_not_read(monkeypatch, tmp_path):
    """Guards: a stranger's code, run out of a cache folder or a file that others can write, or behind a symlink."""
    path, link, pipe = (tmp_path / name for name in ("step.pt2", "link.pt2", "pipe.pt2"))
    assert compiled_file.read_own(path) is None
    path.write_bytes(b"code")
    link.symlink_to(path)
    os.mkfifo(pipe, 0o600)
    assert compiled_file.read_own(link) is None and compiled_file.read_own(pipe) is None
    for mode, content in ((0o600, b"code"), (0o644, b"code"), (0o620, None), (0o666, None)):
        path.chmod(mode)
        assert compiled_file.read_own(path) == content
    monkeypatch.setattr(compiled_file, "cache_folder", lambda: tmp_path / "cache")
    kept = compiled_file.kept_file("digest")
    assert kept.name == "step-digest.pt2" and kept.parent.stat().st_mode & 0o777 == 0o700
    kept.parent.chmod(0o770)
    assert compiled_file.kept_file("digest") is None


def test_a_kept_file_that_cannot_be_used_is_replaced(monkeypatch, tmp_path, caplog):
    """Guards: eager passes for good after a file that another C++ library compiled; a minute of compiling at each start
    for a file with the wrong mode, which its successor inherits."""
    monkeypatch.setattr(compiled_file, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(compiled_file, "compile_package", lambda *arguments: arguments[-1].write_bytes(b"code"))

    def open_package(path):
        if path.read_bytes() == b"foreign":
            raise RuntimeError("version `GLIBCXX_3.4.32' not found\nmore")
        return path.read_bytes()

    monkeypatch.setattr(compiled_file, "open_package", open_package)
    path = compiled_file.kept_file("digest")
    write_checked(path, b"foreign")
    load = functools.partial(compiled_file.read_or_compile, "digest", torch.nn.Identity(), (), ())
    assert load(False) is None
    assert f"{path} cannot be opened (version `GLIBCXX_3.4.32' not found); remove it" in caplog.text
    assert load(True) == b"code" == load(False)
    path.chmod(0o660)
    assert load(False) is None and load(True) == b"code" and path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_file_is_never_run(monkeypatch, tmp_path, caplog):
    """Guards: a flipped bit in the cache folder that ends Python with a segmentation fault, or changes answers; "kept
    for later runs" where the folder cannot be written."""
    monkeypatch.setattr(compiled_file, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(compiled_file, "compile_package", lambda *arguments: arguments[-1].write_bytes(b"code"))
    monkeypatch.setattr(compiled_file, "open_package", Path.read_bytes)
    module = torch.nn.Identity()

    def load(may_compile=True):
        return compiled_file.read_or_compile("digest", module, (), (), may_compile)

    assert load(may_compile=False) is None
    assert load() == b"code" and "kept for later runs" in caplog.text
    [path] = (tmp_path / "cache" / "compiled").iterdir()
    content = path.read_bytes()
    assert content.endswith(b"\ncode")
    caplog.clear()
    assert load() == b"code" and not caplog.text
    for damaged in (content[:-1] + b"E", content[:40], b""):
        path.write_bytes(damaged)
        assert load() == b"code" and path.read_bytes() == content
    monkeypatch.setattr(compiled_file, "cache_folder", lambda: path)  # a file, so no folder
    caplog.clear()
    assert load() == b"code"
    assert "for this run only: " in caplog.text and "kept" not in caplog.text


def test_a_process_opens_a_file_once(monkeypatch):
    """Guards: 30 ms of opening files for each note; what is missing taken as missing for good; one module's code for
    another."""
    found = [None, "code", "other code"]
    monkeypatch.setattr(compiled_file, "_opened", {})
    monkeypatch.setattr(compiled_file, "read_or_compile", lambda *others: found.pop(0))
    linear, identity = torch.nn.Linear(2, 2), torch.nn.Identity()
    assert compiled_file.load(linear, (), (), may_compile=False) is None
    opened = [compiled_file.load(module, (), ()) for module in (linear, linear, identity)]
    assert opened == ["code", "code", "other code"]


def test_a_package_opens_without_and_with_the_class_of_torch(monkeypatch, tmp_path):
    """Guards: a torch without AOTIModelPackageLoader, which is not documented, or with another signature of it."""

    class Loader:
        def __init__(self, *arguments):
            assert arguments == (str(tmp_path), "model", False, 1, -1)

        def run(self, tensors):
            return ["run", *tensors]

    monkeypatch.setattr(torch._inductor, "aoti_load_package", lambda path: lambda *tensors: ("called", path, *tensors))
    namespace = type("namespace", (), {"AOTIModelPackageLoader": Loader})
    monkeypatch.setattr(torch._C, "_aoti", namespace)
    assert open_package(tmp_path)(1, 2) == ["run", 1, 2]
    namespace.AOTIModelPackageLoader = lambda path, name: None
    assert open_package(tmp_path)(1, 2) == ("called", str(tmp_path), 1, 2)
    del namespace.AOTIModelPackageLoader
    assert open_package(tmp_path)(1, 2) == ("called", str(tmp_path), 1, 2)


def test_what_is_on_disk_is_used_and_nothing_compiled(monkeypatch, caplog):
    """Guards: a minute of compiling for one short note, or compiled passes of it not used; shapes that are missing."""
    asked: list[int] = []

    def load(module, arguments, dynamic, may_compile):
        rows = len(arguments[-1])  # x of the head, slots of the block
        assert not may_compile
        asked.append(rows)
        return module if rows == 4 else None

    monkeypatch.setattr(compiled_step, "load", load)
    model = fused("llama3.1")
    assert answers_of(model, 3, "kept") == answers_of(model, 3) and not caplog.messages
    assert {1, 4, 8} <= set(asked)


def test_no_tensor_is_two_arguments():
    """Guards: sin taken for cos, which the same example tensor for both had made of them in compiled passes."""
    model = fused("qwen3")
    for slots in (1, 2):
        step = CompiledStep(model, Engine(model, slots=slots, length=9, stop_ids=()).cache)
        for _, arguments, _ in step.pieces(4):
            tensors = [tensor.data_ptr() for tensor in arguments]
            assert len(set(tensors)) == len(tensors)


@pytest.mark.long
def test_compiled_files_are_kept_and_answer_alike(tmp_path):
    """Guards: what the compiler makes of row_step.py; a second start that compiles again; a damaged file that stays."""
    program = (
        "import sys, logging; logging.basicConfig()\n"
        "from tests.test_compiled_step import answers_of, fused\n"
        "import torch\n"
        "for family, dtype in (('qwen3', torch.float32), ('llama3.1', torch.float32)):\n"
        "    model = fused(family, dtype)\n"
        "    for slots in (1, 3):\n"
        "        eager = answers_of(model, slots)\n"
        "        assert answers_of(model, slots, sys.argv[1], eager) == eager, (family, slots)\n"
    )

    def run(compile="on"):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "torch")}
        command = [sys.executable, "-c", program, compile]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    first, second = run(), run("kept")
    assert first.returncode == 0 and "compiled BlockRows" in first.stderr, first.stderr
    assert second.returncode == 0 and "compiled" not in second.stderr, second.stderr
    files = list((tmp_path / "minscl").glob("compiled/step-*.pt2"))
    assert files and all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    files[0].write_bytes(files[0].read_bytes()[:1000])
    third = run()
    assert third.returncode == 0 and third.stderr.count("compiled") == 1, third.stderr
