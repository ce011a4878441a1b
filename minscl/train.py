"""Command: documents and span pairs → LoRA adapter, by mixed training (Eq. 3 and 6); or documents → a head.

    python -m minscl.train --cfg llama8b --documents documents.jsonl --spans spans.jsonl --out runs/scl
    python -m minscl.train --cfg llama8b --out runs/scl --resume
    python -m minscl.train --cfg llama8b --validate dev.jsonl --validate-every 200 --patience 5
    torchrun --nproc-per-node 8 -m minscl.train --cfg llama70b --fsdp
    python -m minscl.train --system plm-icd --documents train.jsonl --validate dev.jsonl --out runs/plm-icd

Read next: config.py for the settings, training/run.py for a run, training/loop.py for a step; heads/train.py.
"""

import functools
import logging
import os
from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from minscl.command import run_command, warn
from minscl.config import HEADS, check_paths, parse_run
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.hardware import default_cache_bytes, memory_errors
from minscl.heads.train import train_head
from minscl.infer.coder import code_notes
from minscl.infer.systems import SCL, SFT
from minscl.score.codes import code_sets
from minscl.score.evidence import document_counts
from minscl.training.run import train_adapter
from minscl.training.validation import Counts, Stopped

LOG = logging.getLogger("minscl")
EVIDENCE_METRIC = "token_exact_match"


def main(argv: list[str] | None = None) -> int:
    """Train an adapter or a head; progress and its folder go to stderr, --dry-run's samples to stdout. Returns 0."""
    config = parse_run(argv)
    check_paths(config)
    if config.dtype == "float16":
        warn("--dtype float16: the loss is not scaled, so small gradients lose digits; prefer bfloat16 or float32")
    is_head = config.system in HEADS
    remedy = "--recompute on, a smaller --pack-length with --max-length, or several GPUs with --fsdp"
    with memory_errors("--recompute on, or a smaller --max-length" if is_head else remedy):
        if is_head:
            train_head(config)
        else:
            train_adapter(config, functools.partial(code_held_out, evidence_first=not config.no_evidence))
    return 0


def code_held_out(
    model,
    tokenizer,
    documents: Sequence[CodedDocument],
    is_stopping: Callable[[], bool],
    *,
    evidence_first: bool = True,
) -> Counts:
    """Code the texts of `documents`, grounded where the adapter writes evidence, and count codes and words of evidence.

    A note that cannot be coded is named in the log and counts as one without codes. Raises Stopped once
    `is_stopping()`.
    """
    device = model.model.embed_tokens.weight.device
    if device.type == "cuda":
        torch.cuda.empty_cache()  # what the training step held, for keys and values

    def check_stopping(*progress: object) -> None:
        if is_stopping():
            raise Stopped

    def skip(note: Note, error: InputError) -> None:
        LOG.warning("minscl: validation: %s", error)

    coded = code_notes(
        model,
        tokenizer,
        [Note(document.id, document.text) for document in documents],
        system=SCL if evidence_first else SFT,
        grounded=evidence_first,
        memory=default_cache_bytes(device),
        skip=skip,
        on_tokens=check_stopping,
    )
    is_main = os.environ.get("RANK", "0") == "0"
    bar = tqdm(coded, total=len(documents), unit="note", desc="validation", leave=False, disable=not is_main)
    predicted = list(bar)
    sets, predictions = code_sets(documents, predicted), {document.id: document for document in predicted}
    words = [document_counts(document, predictions.get(document.id))[EVIDENCE_METRIC] for document in documents]
    return Counts(
        right_codes=sum(len(gold & codes) for gold, codes in sets),
        predicted_codes=sum(len(codes) for _, codes in sets),
        gold_codes=sum(len(gold) for gold, _ in sets),
        right_words=sum(counts.gold_matched for counts in words),
        predicted_words=sum(counts.predicted for counts in words),
        gold_words=sum(counts.gold for counts in words),
    )


if __name__ == "__main__":
    run_command(main)
