"""What is measured of a machine, and what is refused of it: float32 goes through oneDNN only where that is faster and as exact."""

import types

import pytest
import torch

from minscl import hardware as machine
from minscl.errors import InputError


@pytest.fixture()
def switch(monkeypatch):
    """torch's float32 switch, a stand-in with the same attribute, so that the test works on every build."""
    found = types.SimpleNamespace(fp32_precision="none")
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", found, raising=False)
    return found


@pytest.mark.parametrize("faster, error, taken", [(2.0, 1e-7, True), (1.1, 1e-7, False), (2.0, 3e-3, False)])
def test_float32_goes_where_it_is_fast_and_exact(faster, error, taken, switch, monkeypatch):
    """Guards: bfloat16-grade results that nobody asked for, a switch left on where it gains nothing, a choice that the log does not tell."""
    monkeypatch.setattr(
        machine, "matmul_rate", lambda device, dtype: 1e11 * (faster if switch.fp32_precision == "tf32" else 1.0)
    )
    monkeypatch.setattr(machine, "matmul_error", lambda: error)
    rate, found = machine.prepare_cpu(torch.float32)
    assert (switch.fp32_precision == "tf32") == taken == ("through oneDNN" in found)
    assert rate == 1e11 * (faster if taken else 1.0)


@pytest.mark.parametrize(
    "before, faster, error, taken", [("tf32", 1.0, 1e-7, True), ("none", 2.0, 1e-7, False), ("tf32", 2.0, 3e-3, False)]
)
def test_a_run_that_goes_on_computes_as_it_began(before, faster, error, taken, switch, monkeypatch):
    """Guards a resumed run whose last digits depend on today's stopwatch; a machine that would lose digits is no reason to keep to it."""
    monkeypatch.setattr(
        machine, "matmul_rate", lambda device, dtype: 1e11 * (faster if switch.fp32_precision == "tf32" else 1.0)
    )
    monkeypatch.setattr(machine, "matmul_error", lambda: error)
    machine.prepare_cpu(torch.float32, before)
    assert machine.float32_products() == ("tf32" if taken else "none")


def test_bfloat16_leaves_float32_alone(switch, monkeypatch):
    """Guards: a bfloat16 run that changes how float32 is computed beside it; a slow bfloat16 that is not told."""
    monkeypatch.setattr(machine, "matmul_rate", lambda device, dtype: 1e11 if dtype == torch.float32 else 5e10)
    rate, found = machine.prepare_cpu(torch.bfloat16)
    assert switch.fp32_precision == "none" and rate == 5e10 and "bfloat16 is slow here" in found


def test_the_error_of_a_product_is_its_distance_from_float64():
    """Guards a measure that cannot see rounding: float32 has some, and bfloat16 a thousand times more."""
    assert 1e-9 < machine.matmul_error() < machine.FLOAT32_GRADE


@pytest.mark.parametrize("name, dtype", [("potato", "auto"), ("cuda:99", "auto"), ("cpu", "float8")])
def test_what_is_not_here_is_refused(name, dtype):
    """Guards torch's own traceback."""
    with pytest.raises(InputError, match=name if name != "cpu" else dtype):
        machine.choose_device(name, dtype)
    assert (
        machine.choose_device("cpu", "auto") == machine.choose_device("cpu", "") == (torch.device("cpu"), torch.float32)
    )
