"""Steps of a long build (study/steps.py), with commands that are in every Python."""

import json

import pytest

from minscl.errors import InputError
from study.steps import run_step, seconds_file, seconds_of


@pytest.fixture
def source(tmp_path):
    """A JSON file; `json.tool` copies it."""
    path = tmp_path / "source.json"
    path.write_text('{"a": 1}')
    return path


def test_a_finished_step_is_skipped(source, tmp_path):
    """Guards: a step that runs again, a folder that is missing, seconds that are not kept."""
    done = tmp_path / "new" / "folder" / "done.json"
    run_step(done, "json.tool", str(source), str(done))
    seconds = seconds_of(seconds_file(done))
    assert json.loads(done.read_text()) == {"a": 1} and seconds > 0
    done.write_text("changed")
    run_step(done, "json.tool", str(source), str(done))
    assert done.read_text() == "changed" and seconds_of(seconds_file(done)) == seconds


def test_a_failed_step_says_so_and_is_tried_again(source, tmp_path):
    """Guards: a failure that is taken for a result, the output of a failed command, seconds of the first try lost."""
    printed = tmp_path / "printed"
    source.rename(tmp_path / "hidden")
    with pytest.raises(InputError, match=r"json\.tool .*source\.json: ended with status [12]; mend that"):
        run_step(printed, "json.tool", str(source), stdout=printed)
    first = seconds_of(seconds_file(printed))
    assert not printed.exists() and first > 0
    (tmp_path / "hidden").rename(source)
    run_step(printed, "json.tool", str(source), stdout=printed)
    assert json.loads(printed.read_text()) == {"a": 1} and seconds_of(seconds_file(printed)) > first


def test_an_unfinished_result_is_no_result(source, tmp_path):
    """Guards: the file of a `generate` that was killed, which appends as it goes, taken for all of the answers."""
    done = tmp_path / "done.json"
    with pytest.raises(InputError):
        run_step(done, "json.tool", "missing.json", str(done))
    done.write_text("half")
    run_step(done, "json.tool", str(source), str(done))
    assert json.loads(done.read_text()) == {"a": 1}


def test_a_result_without_a_record_is_one(tmp_path):
    """Guards: a model copied into the folder that is trained again."""
    done = tmp_path / "done.json"
    done.write_text("copied")
    run_step(done, "json.tool", "missing.json", str(done))
    assert done.read_text() == "copied"
