"""Decision 2: which precision teaches most per minute on this machine, float32 or bfloat16 products?

    python -m study.precision [--model minscl/demo] [--seconds 60]

Trains the same model on the same samples in the same order, once in float32 and once under bfloat16 autocast, each for
the same time, and prints tokens a second and the loss of the last steps. The faster one also gets further.

Read next: pretrain.py.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from minscl.command import run_command
from minscl.config import DEMO
from minscl.hardware import choose_device
from minscl.model import load_model, load_tokenizer
from study.card import processor, read_metrics
from study.demo_data import pretraining_stream
from study.pretrain import pretrain

LAST = 10  # steps whose mean loss is printed


class TimeUp(Exception):
    """The time of a run is over."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.precision", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=DEMO, help="model folder (default: the embedded one)")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each run (default: %(default)s)")
    args = parser.parse_args()
    device, _ = choose_device("auto", "auto")
    stream = pretraining_stream(load_tokenizer(args.model))
    draw = stream.samples
    print(f"{torch.__version__}, {device}, {processor()}, {torch.get_num_threads()} threads")
    for name, autocast in (("float32", False), ("bfloat16", True)):
        end = time.monotonic() + args.seconds

        def samples(step: int, progress: float, end: float = end):
            """As Stream.samples, until the time is up."""
            if time.monotonic() > end:
                raise TimeUp
            return draw(step, 0.5)

        stream.samples = samples  # type: ignore[method-assign]
        model = load_model(args.model, dtype=torch.float32)
        with tempfile.TemporaryDirectory() as folder:
            try:
                pretrain(stream, model, Path(folder), total=100_000, decay=1, device=device, autocast=autocast)
            except TimeUp:
                steps = read_metrics(Path(folder))
        seconds, tokens = (sum(step[key] for step in steps) for key in ("step_seconds", "tokens"))
        loss = sum(step["loss"] for step in steps[-LAST:]) / len(steps[-LAST:])
        print(f"{name:9} {len(steps):5} steps, {tokens / seconds:8,.0f} tokens/s, loss {loss:.3f}")
    return 0


if __name__ == "__main__":
    run_command(main)
