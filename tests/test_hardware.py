"""What is measured of the machine and what is refused: oneDNN's float32 matmul is used only where it is faster and
exact.
"""

import gc
import types
import warnings

import pytest
import torch

from minscl import hardware
from minscl.errors import InputError


@pytest.fixture()
def switch(monkeypatch):
    """A stand-in for torch's float32 switch, with the same attribute, so that the test works on every build."""
    switch = types.SimpleNamespace(fp32_precision="none")
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", switch, raising=False)
    return switch


@pytest.fixture()
def set_measurements(switch, monkeypatch):
    """A function that makes oneDNN so many times faster than 1e11 operations a second, with that relative error."""

    def set(speedup, error):
        def rate(device, dtype):
            return 1e11 * (speedup if switch.fp32_precision == "tf32" else 1.0)

        monkeypatch.setattr(hardware, "measure_matmul_rate", rate)
        monkeypatch.setattr(hardware, "measure_matmul_error", lambda: error)

    return set


@pytest.mark.parametrize("speedup, error, used", [(2.0, 1e-7, True), (1.1, 1e-7, False), (2.0, 3e-3, False)])
def test_onednn_is_used_where_it_is_fast_and_exact(speedup, error, used, switch, set_measurements):
    """Guards: bfloat16-grade results without --dtype, a switch left on for nothing, a choice that is not in the log."""
    set_measurements(speedup, error)
    rate, summary = hardware.choose_float32_matmul(torch.float32)
    assert (switch.fp32_precision == "tf32") == used == ("through oneDNN" in summary)
    assert rate == 1e11 * (speedup if used else 1.0)


@pytest.mark.parametrize(
    "previous_mode, speedup, error, used",
    [("tf32", 1.0, 1e-7, True), ("none", 2.0, 1e-7, False), ("tf32", 2.0, 3e-3, False)],
)
def test_a_resumed_run_computes_as_it_began(previous_mode, speedup, error, used, set_measurements):
    """Guards a resumed run whose last digits depend on today's measurement; a machine that loses digits comes first."""
    set_measurements(speedup, error)
    hardware.choose_float32_matmul(torch.float32, previous_mode)
    assert hardware.float32_matmul_mode() == ("tf32" if used else "none")


def test_bfloat16_leaves_float32_alone(switch, monkeypatch):
    """Guards: a bfloat16 run that changes how float32 is computed beside it; a slow bfloat16 that the log hides."""
    monkeypatch.setattr(hardware, "measure_matmul_rate", lambda device, dtype: 1e11 if dtype == torch.float32 else 5e10)
    rate, summary = hardware.choose_float32_matmul(torch.bfloat16)
    assert switch.fp32_precision == "none" and rate == 5e10 and "bfloat16 is slow here" in summary


def test_the_error_of_a_matmul_is_its_distance_from_float64():
    """Guards a measure that cannot see rounding: float32 has some, and bfloat16 a thousand times more."""
    assert 1e-9 < hardware.measure_matmul_error() < hardware.FLOAT32_MAX_ERROR


DEVICES = ("potato", "cuda:99", "meta", "hpu", "xpu", "mtia", "mkldnn", "privateuseone", "", "cpu:-1", "CPU", "0")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name, dtype", [*((name, "auto") for name in DEVICES), ("cpu", "float8"), ("cpu", "")])
def test_an_unavailable_device_or_dtype_is_refused(name, dtype):
    """Guards torch's own traceback."""
    with pytest.raises(InputError, match=name if name != "cpu" else f"--dtype {dtype}: choose one of auto"):
        hardware.choose_device(name, dtype)
    assert hardware.choose_device("cpu", "auto") == (torch.device("cpu"), torch.float32)


def test_memory_is_measured_in_bytes():
    """Guards kibibytes taken for bytes: a process with torch holds more than 100 MB, and no machine an exabyte."""
    cpu = torch.device("cpu")
    assert 1e8 < hardware.peak_memory(cpu) < 1e18 and 1e6 < hardware.free_memory(cpu) < 1e18


def test_no_file_is_left_open():
    """Guards descriptors of /proc/meminfo and the container's limits that pile up in a long run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        hardware.free_memory(torch.device("cpu"))
        gc.collect()


@pytest.mark.parametrize(
    "error, message",
    [
        (MemoryError(), "memory is full; use less"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "the GPU's memory is full .*; use less"),
        (RuntimeError("unable to mmap 64 bytes from file <x>: Cannot allocate memory (12)"), "64 bytes more"),
    ],
)
def test_memory_that_cannot_be_allocated_is_one_line(error, message):
    """Guards a traceback for a machine, or an address space, that is too small."""
    with pytest.raises(InputError, match=message), hardware.memory_errors("less"):
        raise error
    with pytest.raises(InputError, match="memory is full .*; use less"), hardware.memory_errors("less"):
        torch.empty(2**50)
    with pytest.raises(RuntimeError, match="size"), hardware.memory_errors("less"):
        torch.empty(3) @ torch.empty(4)


def test_a_containers_page_cache_is_not_taken_memory(tmp_path, monkeypatch):
    """Guards a run refused in a container that has just read its own weights: the kernel drops cached files first."""
    monkeypatch.setattr(hardware, "CONTAINER", tmp_path)
    for name, content in (("max", "1000000"), ("current", "900000"), ("stat", "anon 9\ninactive_file 300000\n")):
        (tmp_path / f"memory.{name}").write_text(content)
    assert hardware.free_memory(torch.device("cpu")) == 400_000
    (tmp_path / "memory.stat").unlink()
    assert hardware.free_memory(torch.device("cpu")) == 100_000


@pytest.mark.parametrize("version", [1, 2])
def test_a_batch_jobs_limit_is_its_own(version, monkeypatch, tmp_path):
    """Guards: the node's memory taken for a job's, which Slurm or systemd limits, and a job that the kernel kills."""
    root = tmp_path / "memory" if version == 1 else tmp_path
    names = ("limit_in_bytes", "usage_in_bytes") if version == 1 else ("max", "current")
    job = root / "slurm" / "job_7" / "step_0"
    job.mkdir(parents=True)
    for folder, limit in ((job, 2**62), (job.parent, 900_000), (job.parent.parent, 2**62)):
        for name, number in zip(names, (limit, 300_000), strict=True):
            (folder / f"memory.{name}").write_text(f"{number}\n")
    groups = tmp_path / "cgroup"
    groups.write_text(f"3:cpuset:/\n{'4:memory' if version == 1 else '0:'}:/slurm/job_7/step_0\n")
    monkeypatch.setattr(hardware, "CONTAINER", tmp_path)
    monkeypatch.setattr(hardware, "GROUPS", groups)
    assert hardware.free_memory(torch.device("cpu")) == 600_000
    groups.write_text("1:cpu:/\n")
    assert hardware.free_memory(torch.device("cpu")) > 10**7
