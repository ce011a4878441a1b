"""MODEL_CARD.md of the embedded model. Every figure is read from the files of the build.

Read next: build_demo.py.
"""

import json
import os
import platform
from datetime import date
from pathlib import Path

import torch

from study.pretrain import SHAPE

COLUMNS = (
    "notes",
    "number",
    "micro-F1",
    "precision",
    "recall",
    "macro-F1 over gold codes",
    "quotations verbatim in the note",
    "evidence recall",
    "evidence precision",
    "seconds a note",
)
CARD = """# The embedded model

A Llama of {parameters:,} parameters ({layers} layers, hidden size {hidden}, vocabulary {vocabulary:,}, byte-level BPE)
with a LoRA adapter of rank {rank}, made so that `python -m minscl.generate note.txt` works at once, offline, on a CPU.
It demonstrates the method; it does not code well. **Not for clinical use.** Rebuild it with one command:
`python -m study.build_demo`.

## Trained on

- Base, from random weights (with two induction heads written into them, study/induction_head_init.py): {steps:,} steps,
  {tokens:,} tokens, {minutes:.0f} minutes{earlier}; invented notes (study/notes.py) around the code lists of MDACE's
  *training* charts, and span pairs: the Alphabetic Index, inclusion terms, and hand-written phrases of common codes.
  The phrases were written knowing all of MDACE's code lists, those of its test charts included; codes that occur only
  in validation or test charts appear in spans, never in a note.
- Adapter, by minscl's own trainer (`minscl.train`): {documents} invented notes, one per training chart, and {spans:,}
  spans; {scl_steps} steps.
- Tokenizer: ICD-10-CM descriptions, Index phrases, invented notes, ACI-Bench training notes (CC BY 4.0; without the
  three in examples/).

No patient text: MDACE publishes codes without text, and every note was invented. ACI-Bench's training notes (CC BY 4.0)
were used for the tokenizer, and sentences and runs of words without diseases were copied from them into the training
notes (study/vary.py).

## Measured

{machine}; torch {torch}; {today}.
One run, greedy decoding, float32. Codes are compared as sets per note; evidence as (quotation, code) pairs, ignoring
case. `--min-score` drops codes that score less; its value, of 0, 0.05 … 0.95, is the one with the best micro-F1 on the
"val" notes, for free and for grounded decoding.

| {columns} |
{rule}
{rows}

"test" notes are built on MDACE's 61 test charts with sentence shapes, headings and layouts that training never saw
(study/templates_heldout.py); the words for diseases are shared with training. "val" notes use the training shapes.
Scores on invented notes say nothing about real notes, on which nothing was measured because no coded text was
available.

## What it cannot do

Code notes, as the table shows. It saw each code a few dozen times at most, most of the 74,719 of April 2026 never,
and no real coded note. It repeats itself, misses findings in long or unusual sentences, invents codes for phrases
that it does not know, and codes diseases that are denied or a relative's. Its scores are not calibrated.
"""


def history(work: Path, start: Path | None) -> list[dict]:
    """{steps, tokens, minutes} of each pretraining run: those that produced the weights in `start`, then this one."""
    earlier = json.loads((start / "pretraining.json").read_text()) if start else []
    base = [json.loads(line) for line in (work / "base" / "metrics.jsonl").read_text().splitlines()]
    return [
        *earlier,
        {
            "steps": len(base),
            "tokens": sum(step["tokens"] for step in base),
            "minutes": sum(step["step_seconds"] for step in base) / 60,
        },
    ]


def model_card(scores: dict, work: Path, runs: list[dict]) -> str:
    """The text of the card. `scores`: from build_demo.evaluate; `work`: the build folder; `runs`: from `history`."""
    scl = [json.loads(line) for line in (work / "adapter" / "metrics.jsonl").read_text().splitlines()]
    rows = []
    for name, row in scores.items():
        micro, macro = row["codes"]["micro"], row["codes"]["macro_gold"]
        cells = [name, f"{row['notes']}", f"{micro['f1']:.3f}", f"{micro['precision']:.3f}", f"{micro['recall']:.3f}"]
        cells += [f"{macro['f1']:.3f}", f"{row['verbatim']:.1%} of {row['quotations']}"]
        cells += [f"{row['evidence_recall']:.3f}", f"{row['evidence_precision']:.3f}", f"{row['seconds_per_note']:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    documents, spans = (len((work / name).read_bytes().splitlines()) for name in ("documents.jsonl", "spans.jsonl"))
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
        **{name: sum(run[name] for run in runs) for name in ("steps", "tokens", "minutes")},
        earlier=f" in {len(runs)} runs" if len(runs) > 1 else "",
        documents=documents,
        spans=spans,
        scl_steps=len(scl),
        columns=" | ".join(COLUMNS),
        rule="|-" * len(COLUMNS) + "|",
        rows="\n".join(rows),
        machine=f"{os.cpu_count()} CPU cores ({_processor()}), no GPU",
        torch=torch.__version__,
        today=date.today().isoformat(),
    )


def _block(config: dict) -> int:
    """The number of parameters of one block."""
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    heads = (2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * config["head_dim"]
    return hidden * heads + 3 * hidden * intermediate + 2 * hidden


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
