"""MODEL_CARD.md of the embedded model, from what the build measured. Every figure is read from the run's own files.

Read next: build_demo.py.
"""

import json
import os
import platform
from datetime import date
from pathlib import Path

import torch

from study.pretrain import SHAPE

CARD = """# The embedded model

A Llama of {parameters:,} parameters ({layers} layers, hidden size {hidden}, vocabulary {vocabulary:,}, byte-level BPE) with a LoRA adapter of rank {rank},
made so that `python -m minscl.generate note.txt` works at once, offline, on a CPU. It shows the method; it does not code well.
**Not for clinical use.** Rebuild it with one command: `python -m study.build_demo`.

## Trained on

- Base, from random weights (with a copying circuit written into two heads, study/induction_head_init.py): {steps:,} steps, {tokens:,} tokens, {minutes:.0f} minutes{earlier}; invented
  notes (study/notes.py) around the code lists of MDACE's *training* charts, and span pairs: the Alphabetic Index, inclusion terms, and hand-written
  phrases of common codes. The phrase list was written knowing all of MDACE's code lists, those of its test charts included;
  codes that stand only in validation or test charts occur in spans, never in a note.
- Adapter, by minscl's own trainer (`minscl.train`): {documents} invented notes, one a training chart, and {spans:,} spans; {scl_steps} steps.
- Tokenizer: ICD-10-CM descriptions, Index phrases, invented notes, ACI-Bench training notes (CC BY 4.0; without the three in examples/).

No patient text: MDACE gives codes without text, every note was invented. ACI-Bench's training notes (CC BY 4.0) served the tokenizer and lent
harmless sentences and runs of words to the training notes (study/vary.py).

## Measured

{machine}; torch {torch}; {today}. One run, greedy decoding, float32. Codes are compared as sets per note; evidence as (quotation, code) pairs, case aside.
`--min-score` leaves out codes that score less; its value is the one, of 0, 0.05 ... 0.95, with the best micro-F1 on the "val" notes, as free or grounded answers.

| notes | number | micro-F1 | precision | recall | macro-F1 over gold codes | quotations verbatim in the note | evidence recall | evidence precision | seconds a note |
|-|-|-|-|-|-|-|-|-|-|
{rows}

"test" notes are built on MDACE's 61 test charts with sentence shapes, headings and layouts that training never saw (study/templates_heldout.py); the words
for diseases are shared with training. "val" notes use the training shapes. Scores on invented notes say nothing about real ones: on real notes
not measured, no coded text being at hand.

## What it cannot do

Code notes, as the table says. It saw each code a few dozen times at most and most of ICD-10-CM's 74,719 never; it was never shown a real coded note. It
repeats itself, misses findings in long or unusual sentences, invents codes for phrases it does not know, and takes denied or relatives' diseases
for the patient's. Its scores are not calibrated.
"""


def history(work: Path, start: Path | None) -> list[dict]:
    """What pretraining took, a record a run: the runs that `start`'s weights came from, then this one."""
    earlier = json.loads((start / "pretraining.json").read_text()) if start else []
    base = [json.loads(line) for line in (work / "base" / "metrics.jsonl").read_text().splitlines()]
    return [
        *earlier,
        {
            "steps": len(base),
            "tokens": sum(one["tokens"] for one in base),
            "minutes": sum(one["step_seconds"] for one in base) / 60,
        },
    ]


def model_card(scores: dict, work: Path, runs: list[dict]) -> str:
    """The card's text; `scores` is what build_demo.evaluate gives, `work` holds the run's metrics, `runs` is `history`."""
    scl = [json.loads(line) for line in (work / "adapter" / "metrics.jsonl").read_text().splitlines()]
    rows = []
    for name, one in scores.items():
        micro = one["codes"]["micro"]
        rows.append(
            f"| {name} | {one['notes']} | {micro['f1']:.3f} | {micro['precision']:.3f} | {micro['recall']:.3f} | {one['codes']['macro_gold']['f1']:.3f} | "
            f"{one['verbatim']:.1%} of {one['quotations']} | {one['evidence_recall']:.3f} | {one['evidence_precision']:.3f} | {one['seconds_per_note']:.1f} |"
        )
    count = {path: sum(1 for _ in open(work / path, encoding="utf-8")) for path in ("documents.jsonl", "spans.jsonl")}
    rank = json.loads((work / "adapter" / "adapter_config.json").read_text())["r"]
    config = json.loads((work / "base" / "config.json").read_text())
    parameters = (
        config["vocab_size"] * config["hidden_size"]
        + config["num_hidden_layers"] * _block(config)
        + config["hidden_size"]
    )
    return CARD.format(
        parameters=parameters,
        layers=SHAPE["num_hidden_layers"],
        hidden=SHAPE["hidden_size"],
        vocabulary=config["vocab_size"],
        rank=rank,
        **{name: sum(one[name] for one in runs) for name in ("steps", "tokens", "minutes")},
        earlier=f" in {len(runs)} runs" if len(runs) > 1 else "",
        documents=count["documents.jsonl"],
        spans=count["spans.jsonl"],
        scl_steps=len(scl),
        rows="\n".join(rows),
        machine=f"{os.cpu_count()} CPU cores ({_processor()}), no GPU",
        torch=torch.__version__,
        today=date.today().isoformat(),
    )


def _block(config: dict) -> int:
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    heads = (2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * config["head_dim"]
    return hidden * heads + 3 * hidden * wide + 2 * hidden


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
