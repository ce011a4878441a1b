"""Nothing is lost: what each command writes fails at every operation in turn, and goes on as if nothing had happened.

`make faults` tries every point of every scenario and prints their number; `make test` tries some of each.
"""

import os

import pytest

from minscl import disk
from minscl.data.icd import CodeBook
from minscl.files import write_errors
from tests.fault_points import Count, Scenario, try_points
from tests.fault_scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("fast_measurement")
EXTRAS = {"training validated": "tensorboard", "export --gguf": "gguf"}
# make test tries one operation in so many: scenarios whose runs are short.
STRIDES = {
    "generate --out --html": 7,
    "expand silver": 11,
    "review": 11,
    "edition over another": 2,
    "cache": 2,
    "compiled step": 2,
    "calibration": 1,
    "shards over a model": 29,
}


@pytest.fixture(scope="module")
def count(request):
    """Adds up what the tests of this file try, and prints it at the end."""
    CodeBook.load()  # before any scenario: none writes the user's cache folder
    total = [Count()]
    yield total
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(
            f"\nfault points: {total[0].points:,} tried, at {total[0].operations:,} operations; "
            f"crashes left {total[0].states:,} different states"
        )


@pytest.mark.parametrize("name", STRIDES)
def test_some_points(name, training_folder, tmp_path):
    """Guards what test_every_point does, in make test."""
    assert try_points(SCENARIOS[name](training_folder, tmp_path), tmp_path / "root", STRIDES[name]).points > 9


@pytest.mark.long
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_point(name, training_folder, tmp_path, count):
    """Guards half a file, a file of two moments, an answer told as kept and lost, a temporary file left behind, a fault
    without a line, and a run that ends otherwise for having been disturbed."""
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name], reason=f"the {EXTRAS[name]} extra is not installed")
    count[0] += try_points(SCENARIOS[name](training_folder, tmp_path), tmp_path / "root")


def overwritten(path):
    """In place: the earlier content is gone before the new is there."""
    descriptor = disk.open_append(path)
    disk.truncate(descriptor, 0)
    disk.write(descriptor, b"new content")
    disk.fsync(descriptor)
    os.close(descriptor)


def renamed_too_early(path):
    """Under its name before its content is on the disk."""
    replaced(path, "rename", "fsync", "fsync_folder")


def folder_not_synced(path):
    """On the disk, but under a name that is not."""
    replaced(path, "fsync", "rename")


def replaced(path, *steps):
    temporary = path.with_name(".minscl-0.tmp")
    descriptor = disk.open_new(temporary)
    arguments = {"fsync": (descriptor,), "rename": (temporary, path), "fsync_folder": (path.parent,)}
    try:
        disk.write(descriptor, b"new content")
        for step in steps:
            getattr(disk, step)(*arguments[step])
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def left_behind(path):
    """The temporary file stays where a rename fails."""
    descriptor = disk.open_new(temporary := path.with_name(".minscl-0.tmp"))
    disk.write(descriptor, b"new content")
    disk.fsync(descriptor)
    os.close(descriptor)
    disk.rename(temporary, path)
    disk.fsync_folder(path.parent)


@pytest.mark.parametrize(
    "write, message",
    [
        (overwritten, "neither the old file nor the new one"),
        (renamed_too_early, "neither the old file nor the new one"),
        (folder_not_synced, "a power failure would lose"),
        (left_behind, "leaves .*minscl-0.tmp"),
    ],
)
def test_a_disk_that_loses_is_noticed(write, message, tmp_path):
    """Guards a simulation in which nothing can fail: each of these loses something, or leaves something behind."""

    def run(root, acknowledge):
        with write_errors(root / "file"):
            (root / ".minscl-0.tmp").unlink(missing_ok=True)
            write(root / "file")

    scenario = Scenario(run, prepare=lambda root: (root / "file").write_bytes(b"old content"))
    with pytest.raises(AssertionError, match=message):
        try_points(scenario, tmp_path / "root")
