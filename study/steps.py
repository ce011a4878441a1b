"""Steps of a long build: commands that are skipped where they have finished, and their seconds on record.

Read next: build_demo.py; run.py.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from minscl.errors import InputError
from minscl.files import replace_file


class StepFailed(InputError):
    """A command of a step ended with `status`, which is not 0."""

    def __init__(self, command: str, status: int):
        super().__init__(f"{command}: ended with status {status}; mend that and start again")
        self.status = status


def run_step(done: Path, *command: str, stdout: Path | None = None) -> None:
    """Run `python -m command`, whose result is the file `done`, unless it has finished before.

    DONE.seconds.json records whether it has, because `generate` and `expand silver` write their result as they go, and
    its seconds over all tries. A result without a record is taken as finished. `stdout`: a file for what the command
    prints, written only where it succeeds. Raises StepFailed with the command where it fails; it resumes when it is run
    again.
    """
    record = seconds_file(done)
    finished = json.loads(record.read_text()).get("finished", True) if record.exists() else True
    if done.exists() and finished:
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    print("python -m", *command, flush=True)
    earlier, began = seconds_of(record), time.monotonic()

    def save(finished: bool) -> None:
        content = {"command": command, "seconds": earlier + time.monotonic() - began, "finished": finished}
        with replace_file(record) as file:
            json.dump(content, file)

    save(False)  # before it starts: no one can write a record of a process that is killed
    try:
        process = subprocess.run(
            [sys.executable, "-m", *command], stdout=subprocess.PIPE if stdout else subprocess.DEVNULL
        )
    finally:
        save(False)
    if process.returncode:
        raise StepFailed(" ".join(command), process.returncode)
    if stdout:
        with replace_file(stdout, "wb") as file:
            file.write(process.stdout)
    save(True)


def seconds_file(done: Path) -> Path:
    """Where the seconds of a step are kept."""
    return done.with_name(done.name + ".seconds.json")


def seconds_of(record: Path) -> float:
    """The seconds in a file of seconds_file, 0 where there is none."""
    return json.loads(record.read_text())["seconds"] if record.exists() else 0.0
