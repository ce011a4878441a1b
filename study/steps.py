"""Steps of a long build: commands that are skipped where their result exists, and their seconds on record.

Read next: build_demo.py; run.py.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from minscl.errors import InputError
from minscl.files import replace_file


def run_step(done: Path, *command: str, stdout: Path | None = None) -> None:
    """Run `python -m command` unless `done` exists; its seconds, over all tries, are added to DONE.seconds.json.

    `stdout`: a file for what it prints, written only where it succeeds. Raises InputError with the command where it
    fails; it resumes when it is run again.
    """
    if done.exists():
        return
    done.parent.mkdir(parents=True, exist_ok=True)
    print("python -m", *command, flush=True)
    began = time.monotonic()
    process = subprocess.run([sys.executable, "-m", *command], stdout=subprocess.PIPE if stdout else subprocess.DEVNULL)
    with replace_file(record := seconds_file(done)) as file:
        json.dump({"command": command, "seconds": seconds_of(record) + time.monotonic() - began}, file)
    if process.returncode:
        raise InputError(f"{' '.join(command)}: ended with status {process.returncode}; mend that and start again")
    if stdout:
        with replace_file(stdout, "wb") as file:
            file.write(process.stdout)


def seconds_file(done: Path) -> Path:
    """Where the seconds of a step are kept."""
    return done.with_name(done.name + ".seconds.json")


def seconds_of(record: Path) -> float:
    """The seconds in a file of seconds_file, 0 where there is none."""
    return json.loads(record.read_text())["seconds"] if record.exists() else 0.0
