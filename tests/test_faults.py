"""Nothing is lost: what each command writes fails at every operation in turn, and goes on as if nothing had happened.

`make faults` tries every point of every scenario and prints their number; `make test` tries some of each.
"""

import pytest

from minscl.data.icd import CodeBook
from tests.fault_points import Count, try_points
from tests.fault_scenarios import SCENARIOS

pytestmark = pytest.mark.usefixtures("fast_measurement")
# Scenarios whose runs take a tenth of a second or more: of these, make test tries one operation in so many.
STRIDES = {"training": 40}


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


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS])
def test_every_point(name, training_folder, tmp_path, count):
    """Guards half a file, a file of two moments, an answer told as kept and lost, a temporary file left behind, a fault
    without a line, and a run that ends otherwise for having been disturbed."""
    count[0] += try_points(SCENARIOS[name](training_folder, tmp_path), tmp_path / "root")
