"""Word alignment by eflomal, in both directions, with fixed seeds.

eflomal (Östling and Tiedemann 2016; `pip install eflomal`) is needed to build the file and nowhere else. It reads
its seed from /dev/urandom and has no option for another; a copy of its program that reads a file of the same length of
name makes the build repeatable. Several seeds make a link's share of votes a confidence.

Read next: lexicon.py.
"""

import hashlib
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

SEEDS = (1, 2, 3)
NULL_PRIOR = 0.2  # eflomal's own default, as are ten rounds of each model
ROUNDS = 10

Links = dict[tuple[int, int], float]  # (Spanish word, English word): share of the votes, 0..1


def align_words(spanish: list[str], english: list[str]) -> list[Links]:
    """The links of each pair of sentences, whose words are separated by spaces; raises ImportError without eflomal."""
    import eflomal

    program = Path(eflomal.__file__).parent / "bin" / "eflomal"
    votes: list[Counter] = [Counter() for _ in spanish]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _copy_with_seed_file(program, folder / "eflomal")
        with open(folder / "spanish", "wb") as source, open(folder / "english", "wb") as target:
            eflomal.Aligner().prepare_files(spanish, source, english, target, None, None)
        for seed in SEEDS:
            for links in _run(folder, seed):
                for counter, line in zip(votes, links, strict=True):
                    counter.update(tuple(map(int, link.split("-"))) for link in line.split())
    return [{link: count / (2 * len(SEEDS)) for link, count in counter.items()} for counter in votes]


def _copy_with_seed_file(program: Path, copy: Path) -> None:
    original = program.read_bytes()
    if original.count(b"/dev/urandom\0") != 1:
        raise RuntimeError(f"{program}: does not read its seed as eflomal 2.0.0 does; install eflomal==2.0.0")
    copy.write_bytes(original.replace(b"/dev/urandom\0", b"./seed.bytes\0"))
    copy.chmod(0o755)


def _run(folder: Path, seed: int) -> list[list[str]]:
    """Both directions' links, a line a sentence. One thread, because the samplers draw from one stream."""
    (folder / "seed.bytes").write_bytes(hashlib.sha512(b"%d" % seed).digest() * 10)
    rounds = [option for model in "123" for option in (f"-{model}", str(ROUNDS))]
    command = ["./eflomal", "-m", "3", "-s", "spanish", "-t", "english", "-f", "forward", "-r", "reverse", "-q"]
    command += ["-n", "1", "-N", str(NULL_PRIOR), *rounds]
    subprocess.run(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return [(folder / name).read_text(encoding="ascii").splitlines() for name in ("forward", "reverse")]
