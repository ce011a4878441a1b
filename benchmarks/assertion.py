"""How many labelled sentences get the right assertion status, by set: the numbers of docs/icd.md.

    python -m benchmarks.assertion

Each file in tests/resources says how its sentences came about, and what was right when they were first run.

Read next: minscl/data/assertion/status.py.
"""

from minscl.command import run_command
from tests.test_assertion import RESOURCES, accuracy, cases


def main() -> int:
    """Print a line for each file of sentences."""
    for path in sorted(RESOURCES.glob("assertion_*.txt")):
        sentences = list(cases(path.name))
        right = round(accuracy(sentences)[0] * len(sentences))
        print(f"{path.name:32} {right:4} of {len(sentences):4}  {right / len(sentences):6.1%}")
    return 0


if __name__ == "__main__":
    run_command(main)
