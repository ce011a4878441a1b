"""What the machine offers a training: device, number format, matmul rate, memory.

Numbers are measured here, on the machine at hand, in a fraction of a second; nothing is looked up in a table of products.

Read next: forecast.py, which makes hours of the rate.
"""

import contextlib
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F

from minscl.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORTH_IT = 1.25  # how many times faster oneDNN must be before float32 goes its way
FLOAT32_GRADE = 1e-5  # relative error; bfloat16 arithmetic has 3e-3


def choose_device(name: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """--device and --dtype; "auto": the GPU where there is one, in bfloat16; float32 on a CPU. Raises InputError."""
    automatic = name == "auto"
    try:
        device = torch.device(name if not automatic else "cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a word that torch does not know; a device that is not here
        raise InputError(
            f"--device {name}: not to be had here ({str(error).splitlines()[0]}); use cpu, or leave the flag out"
        ) from error
    if dtype == "auto":
        return device, torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: choose one of auto, {', '.join(DTYPES)}")
    return device, DTYPES[dtype]


def matmul_rate(device: torch.device, dtype: torch.dtype, rows: int = 1024, columns: int = 1024) -> float:
    """Floating-point operations a second of (rows, columns) times (columns, columns): the best of several, so that a busy moment does not count."""
    x, weight = (torch.randn(size, columns, device=device).to(dtype) for size in (rows, columns))
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        F.linear(x, weight)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * rows * columns**2 / best


def prepare_cpu(dtype: torch.dtype, before: str | None = None) -> tuple[float, str]:
    """(rate, what was found, for the log). Sends float32 products through oneDNN where that is faster and just as exact.

    oneDNN's own float32 path is reached by allowing it "tf32", which a CPU without such a unit ignores; a CPU that has one would
    lose digits, so the error is measured too. What rounds to bfloat16 is only ever chosen by --dtype. `before`: what float32_products gave when a
    run began that now goes on; it is chosen again, whatever the stopwatch says today, so that the run's numbers stay the same.
    """
    cpu = torch.device("cpu")
    rates = {name: matmul_rate(cpu, DTYPES[name]) for name in ("float32", "bfloat16")}
    found = f"cpu, {torch.get_num_threads()} threads: float32 {rates['float32'] / 1e9:.0f}, bfloat16 {rates['bfloat16'] / 1e9:.0f} GFLOP/s"
    switch = getattr(torch.backends.mkldnn, "matmul", None)  # torch 2.9 and newer
    if dtype == torch.float32 and hasattr(switch, "fp32_precision"):
        plain, switch.fp32_precision = switch.fp32_precision, "tf32"
        rate, error = matmul_rate(cpu, dtype), matmul_error()
        wanted = before == "tf32" if before else rate >= WORTH_IT * rates["float32"]
        if not wanted or error > FLOAT32_GRADE:
            switch.fp32_precision = plain
        else:
            rates["float32"] = rate
            found += f"; float32 through oneDNN at {rate / 1e9:.0f}, error {error:.0e}"
    if dtype == torch.float32 and rates["bfloat16"] > WORTH_IT * rates["float32"]:
        found += "; training in float32, --dtype bfloat16 is faster"
    if dtype == torch.bfloat16 and rates["bfloat16"] < rates["float32"]:
        found += "; bfloat16 is slow here, --dtype float32 is faster"
    return rates.get(str(dtype).removeprefix("torch."), rates["float32"]), found


def float32_products() -> str:
    """How a CPU makes float32 products now: "tf32" is oneDNN's own path (see prepare_cpu), "none" torch's usual one."""
    return getattr(getattr(torch.backends.mkldnn, "matmul", None), "fp32_precision", "none")


def matmul_error(size: int = 256) -> float:
    """Relative error of a float32 product as the CPU makes it now."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    exact = a.double() @ b.double().T
    return ((F.linear(a, b).double() - exact).norm() / exact.norm()).item()


def peak_memory(device: torch.device) -> int:
    """Bytes: the most this process has held, on the GPU if it trains there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken: of the GPU, or of the machine and of the container it may be in."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = []
    with contextlib.suppress(OSError, ValueError):
        found.append(
            next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
        )
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max" is none
        limit, used = (int(open(f"/sys/fs/cgroup/memory.{name}").read()) for name in ("max", "current"))
        found.append(limit - used)
    return (
        min(found) if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    )  # no Linux: half of what is built in


@contextlib.contextmanager
def memory_errors(remedy: str):
    """A GPU that is too small, as one line that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"the GPU's memory is full ({str(error).splitlines()[0]}); use {remedy}") from error
