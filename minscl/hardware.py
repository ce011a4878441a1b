"""Properties of the machine: device, dtype, matmul rate, memory.

Rates are measured on the machine itself, in a fraction of a second, not looked up in a table of hardware.
Of minscl, this module imports errors.py only.

Read next: training/estimate.py, which turns the rate into hours.
"""

import contextlib
import functools
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from minscl.errors import InputError

CONTAINER = Path("/sys/fs/cgroup")  # limits of the container or batch job that the process may run in
GROUPS = Path("/proc/self/cgroup")  # the process's place in there
DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ONEDNN_MIN_SPEEDUP = 1.25  # of oneDNN's float32 matmul over torch's default one, for it to be used
# In the messages of torch's RuntimeError for memory that the CPU does not have.
NO_MEMORY = re.compile("can't allocate memory|not enough memory|Cannot allocate memory|size calculation overflowed")
FLOAT32_MAX_ERROR = 1e-5  # relative error of a float32 matmul; one with bfloat16 arithmetic inside has 3e-3


def choose_device(name: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """--device and --dtype as torch objects. "auto": the GPU where there is one, in bfloat16, else the CPU in float32.

    Raises InputError for a device that torch does not know, that is not present or cannot compute (meta), and for an
    unknown dtype.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if name.partition(":")[0] not in DEVICE_TYPES:
            raise ValueError(f"none of {', '.join(DEVICE_TYPES)}")
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # every backend raises an error of its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"--device {name}: not available here ({reason}); use cpu, or leave the flag out") from error
    if dtype == "auto":
        return device, torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: choose one of auto, {', '.join(DTYPES)}")
    return device, DTYPES[dtype]


@functools.cache
def processor() -> str:
    """Vendor, model and instructions of the processor, as Linux names them, and the instructions that torch uses."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = sorted({line for line in lines if line.startswith(("vendor_id", "model name", "flags"))})
    return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()} {facts}"


def measure_matmul_rate(device: torch.device, dtype: torch.dtype, rows: int = 1024, columns: int = 1024) -> float:
    """Floating-point operations per second of (rows, columns) @ (columns, columns), the best of several runs."""
    x, weight = (torch.randn(size, columns, device=device).to(dtype) for size in (rows, columns))
    fastest = float("inf")  # seconds
    for _ in range(6):
        start = time.perf_counter()
        F.linear(x, weight)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * rows * columns**2 / fastest


def choose_float32_matmul(dtype: torch.dtype, previous_mode: str | None = None) -> tuple[float, str]:
    """Choose how the CPU multiplies float32 matrices; returns (operations/s in `dtype`, a summary for the log).

    oneDNN's own float32 matmul is reached by allowing it "tf32", which a CPU without such a unit ignores. It is used
    where it is at least ONEDNN_MIN_SPEEDUP times as fast and as exact: a CPU with such a unit would lose digits, so
    the error is measured too. Arithmetic that rounds to bfloat16 is used only with --dtype bfloat16. `previous_mode`:
    float32_matmul_mode() of the run that is resumed; it is used again whatever the measurement says now, so that the
    run's numbers stay the same.
    """
    cpu = torch.device("cpu")
    rates = {name: measure_matmul_rate(cpu, DTYPES[name]) for name in ("float32", "bfloat16")}
    summary = (
        f"cpu, {torch.get_num_threads()} threads: float32 {rates['float32'] / 1e9:.0f}, "
        f"bfloat16 {rates['bfloat16'] / 1e9:.0f} GFLOP/s"
    )
    switch = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9 and newer
    if dtype == torch.float32 and switch is not None and hasattr(switch, "fp32_precision"):
        usual_mode = switch.fp32_precision
        switch.fp32_precision = "tf32"
        rate, error = measure_matmul_rate(cpu, dtype), measure_matmul_error()
        use_onednn = previous_mode == "tf32" if previous_mode else rate >= ONEDNN_MIN_SPEEDUP * rates["float32"]
        if use_onednn and error <= FLOAT32_MAX_ERROR:
            rates["float32"] = rate
            summary += f"; float32 through oneDNN at {rate / 1e9:.0f}, error {error:.0e}"
        else:
            switch.fp32_precision = usual_mode
    if dtype == torch.float32 and rates["bfloat16"] > ONEDNN_MIN_SPEEDUP * rates["float32"]:
        summary += "; training in float32, --dtype bfloat16 is faster"
    if dtype == torch.bfloat16 and rates["bfloat16"] < rates["float32"]:
        summary += "; bfloat16 is slow here, --dtype float32 is faster"
    return rates.get(str(dtype).removeprefix("torch."), rates["float32"]), summary


def float32_matmul_mode() -> str:
    """How the CPU multiplies float32 matrices now: "tf32" through oneDNN (choose_float32_matmul), "none" by default."""
    return getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", "none")


def measure_matmul_error(size: int = 256) -> float:
    """Relative error of a float32 matmul on the CPU as it is set now, against float64."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = a.double() @ b.double().T
    return ((F.linear(a, b).double() - exact).norm() / exact.norm()).item()


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process so far in bytes: of the GPU if `device` is one, else of the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss: bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory(device: torch.device) -> int:
    """Available memory in bytes: of the GPU, or of the machine and the container or batch job that it may run in."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = []
    with contextlib.suppress(OSError, ValueError, StopIteration), open("/proc/meminfo") as file:
        kibibytes = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable"))
        available.append(kibibytes * 1024)
    for folder, limit_name, used_name in _control_groups():
        with contextlib.suppress(OSError, ValueError):  # "max", for no limit, is a ValueError
            limit, used = (int((folder / name).read_text()) for name in (limit_name, used_name))
            available.append(limit - used + _cached_file_bytes(folder))
    if available:
        return min(available)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # not Linux: half of what is installed


def default_cache_bytes(device: torch.device) -> int:
    """Bytes that the KV cache may take where the user does not say: three quarters of the available memory."""
    return free_memory(device) * 3 // 4


def _control_groups() -> Iterator[tuple[Path, str, str]]:
    """(folder, names of the files with the limit and with what is used) of the process's control groups that may limit
    its memory: its own and those above it, of version 2 and of version 1."""
    places = ["0::/"]
    with contextlib.suppress(OSError):
        places += GROUPS.read_text().splitlines()
    for _, controllers, path in (place.split(":", 2) for place in places):
        if not controllers:
            root, names = CONTAINER, ("memory.max", "memory.current")
        elif controllers == "memory":
            root, names = CONTAINER / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = Path(path.lstrip("/"))
        for part in (inner, *inner.parents):
            yield root / part, *names


def _cached_file_bytes(folder: Path) -> int:
    """Bytes of files in a group's page cache that are dropped where memory is needed; what is used includes them."""
    with contextlib.suppress(OSError, ValueError):
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(rows.get("total_inactive_file", rows.get("inactive_file", "0")))  # version 1 has both
    return 0


@contextlib.contextmanager
def memory_errors(remedy: str) -> Iterator[None]:
    """Turns memory that cannot be allocated, of the GPU or the CPU, into an InputError with `remedy`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"the GPU's memory is full ({str(error).splitlines()[0]}); use {remedy}") from error
    except MemoryError as error:
        raise InputError(f"memory is full; use {remedy}") from error
    except RuntimeError as error:  # torch has no class for the CPU's
        if not NO_MEMORY.search(str(error)):
            raise
        amount = re.search(r"\d+ bytes", str(error))
        tried = f" ({amount[0]} more were needed)" if amount else ""
        raise InputError(f"memory is full{tried}; use {remedy}") from error
