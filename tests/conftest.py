"""Fixtures that several test files share, built once a session.

They import what they need inside, so that tests without torch do not wait two seconds for it.
"""

import functools

import pytest


@pytest.fixture(scope="session")
def training_folder(tmp_path_factory):
    """A tiny random Llama with a tokenizer of its own, and 40 token samples (samples.jsonl). Read only."""
    from tests.tiny_training import write_training_folder

    return write_training_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def finished_run(training_folder, fast_measurement, tmp_path_factory):
    """A run of 21 steps with dropout that nothing interrupted; its checkpoints are steps 20 and 21. Copy it to change
    it.
    """
    from minscl.training.run import train_adapter
    from tests.tiny_training import run_config

    out = tmp_path_factory.mktemp("run") / "finished"
    return train_adapter(run_config(training_folder, out, dropout=0.1, save_every=4))


@pytest.fixture(scope="session")
def fast_measurement():
    """Measure the machine's matmul rate once, not at the start of each of dozens of runs."""
    from minscl import hardware

    original = hardware.measure_matmul_rate

    @functools.cache
    def measure(device, dtype, rows, columns, mode):
        return original(device, dtype, rows, columns)

    def cached(device, dtype, rows=1024, columns=1024):
        return measure(device, dtype, rows, columns, hardware.float32_matmul_mode())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "measure_matmul_rate", cached)
        yield
