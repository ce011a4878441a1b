"""Rebuild the embedded model with one command, resumably: tokenizer → base → SCL adapter → scores → minscl/demo/.

    python -m study.build_demo [--work runs/demo] [--steps 3000]

Each stage is skipped where its result stands in --work already, and the two trainings go on from their last checkpoint.
MODEL_CARD.md is written from what the run measured.

Read next: pretrain.py for the base, minscl/train.py for the adapter.
"""

import argparse
import dataclasses
import json
import platform
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import torch
from tqdm import tqdm

from minscl.config import DEMO, RunConfig
from minscl.data.gold import gold_pairs
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.prompts import render_document_prompt, render_span_prompt
from minscl.data.types import CodedDocument, Note, Pair
from minscl.errors import replace_file
from minscl.generate import GenerateConfig, load_coder
from minscl.infer.coder import code_notes
from minscl.metrics import code_scores
from minscl.model import load_tokenizer
from minscl.train import train
from study.card import model_card
from study.notes import documents, random_documents
from study.pretrain import Stream, pretrain
from study.tokenizer import train_tokenizer

RESOURCES = Path(__file__).parent / "resources"
SCL_SPANS = 4000  # gold spans beside the 181 documents
SEED = 0


def texts(codebook, pairs):
    """The tokenizer's corpus: descriptions, index phrases, ACI-Bench training notes, invented training notes, the prompts."""
    yield from (codebook.description(code) for code in codebook.billable[::3])
    yield from (one.evidence for one in pairs[::2])
    yield from (one.text for one in read_jsonl(RESOURCES / "aci_bench_train.jsonl", Note)) if (RESOURCES / "aci_bench_train.jsonl").exists() else ()
    rng = random.Random(SEED)
    for _ in range(3000):
        one = random_document(rng, "note")
        yield one.text
        yield "\n".join(f" {code.code} {code.description}" for code in one.codes)
    yield from [render_document_prompt(""), render_span_prompt("")] * 2000


def random_document(rng, size):
    return next(iter(random_documents(rng, size=size)))


def weights(pairs, codebook, charts) -> list[float]:
    """How often pretraining draws each pair: every pair sometimes, codes and categories of the training charts more often.

    Uses MDACE's *training* charts only.
    """
    seen = Counter(code for chart in charts for code in chart)
    categories = {codebook.category(code) for code in seen}
    phrases = Counter(one.code for one in pairs)
    return [(1 + 4 * (codebook.category(one.code) in categories) + 40 * min(seen[one.code], 5)) / phrases[one.code] ** 0.5 for one in pairs]


def evaluate(folder: Path, adapter: Path, gold, split: str) -> dict:
    """Codes and evidence of `gold` as the coder gives them, and the share of quotations that stand in the note verbatim."""
    model, tokenizer = load_coder(GenerateConfig(model=str(folder), adapter=str(adapter)))
    notes = [Note(one.id, one.text) for one in gold]
    began = time.monotonic()
    predicted = list(tqdm(code_notes(model, tokenizer, notes), total=len(notes), desc=split, unit="note"))
    seconds = time.monotonic() - began
    quotations = [e for one in predicted for code in one.codes for e in code.evidence]
    verbatim = sum(e.grounded for e in quotations) / max(1, len(quotations))
    exact = [{(e.text.casefold(), code.code) for code in one.codes for e in code.evidence} for one in gold]
    answers = [{(e.text.casefold(), code.code) for code in one.codes for e in code.evidence} for one in predicted]
    hits = sum(len(a & b) for a, b in zip(exact, answers, strict=True))
    return {"notes": len(gold), "codes": code_scores(gold, predicted), "verbatim": verbatim, "quotations": len(quotations),
            "evidence_recall": hits / max(1, sum(map(len, exact))), "evidence_precision": hits / max(1, sum(map(len, answers))),
            "seconds_per_note": seconds / len(notes)}
