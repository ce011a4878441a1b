"""Command: documents and span pairs → LoRA adapter, by mixed training (Eq. 3 and 6); or documents → a head.

    python -m minscl.train --cfg llama8b --documents documents.jsonl --spans spans.jsonl --out runs/scl
    python -m minscl.train --cfg llama8b --out runs/scl --resume
    torchrun --nproc-per-node 8 -m minscl.train --cfg llama70b --fsdp
    python -m minscl.train --system plm-icd --documents train.jsonl --validate dev.jsonl --out runs/plm-icd

Read next: config.py for the settings, training/run.py for a run, training/loop.py for a step; heads/train.py.
"""

from minscl.command import run_command
from minscl.config import HEADS, check_paths, parse_run
from minscl.hardware import memory_errors
from minscl.heads.train import train_head
from minscl.training.run import train_adapter


def main(argv: list[str] | None = None) -> int:
    """Train an adapter or a head; progress and its folder go to stderr, --dry-run's samples to stdout. Returns 0."""
    config = parse_run(argv)
    check_paths(config)
    is_head = config.system in HEADS
    remedy = "--recompute on, a smaller --pack-length with --max-length, or several GPUs with --fsdp"
    with memory_errors("--recompute on, or a smaller --max-length" if is_head else remedy):
        (train_head if is_head else train_adapter)(config)
    return 0


if __name__ == "__main__":
    run_command(main)
