"""MODEL_CARD.md of the embedded model. Every figure is read from the files of the build.

Read next: build_demo.py.
"""

import json
import os
import platform
from datetime import date
from pathlib import Path

import torch

from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument
from study.corpus import REPEATED_CASES, annotated_background, written
from study.demo_data import HELD_OUT, PASSAGE
from study.steps import seconds_file, seconds_of

COLUMNS = (
    "notes",
    "number",
    "micro-F1",
    "precision",
    "recall",
    "macro-F1 over gold codes",
    "evidence F1 (overlap, per code)",
    "quotations in the note",
    "seconds a note",
)
CARD = """# The embedded model

A Llama of {parameters:,} parameters ({layers} layers, hidden size {hidden}, vocabulary {vocabulary:,}, byte-level BPE)
with a LoRA adapter of rank {rank}, made so that `python -m minscl.generate note.txt` works at once, offline, on a CPU.
It demonstrates the method. **Not for clinical use.** Rebuild it, on a GPU in minutes, with
`python -m study.build_demo --steps {last_steps} --seed {seed}`. The tokenizer is an earlier build's, from nearly the
same texts, five of them repeats of test cases: the command trains a new one unless `runs/demo/base` has this one's
`tokenizer.json`, `tokenizer_config.json` and `generation_config.json`.

## Trained on

- Base, from random weights: {runs} ({minutes:.0f} minutes, {gpu_minutes:.0f} of them on a GPU), {steps:,} steps,
  {tokens:,} tokens (pretraining.json). Texts: CodiEsp's English training and background texts, ACI-Bench's training
  notes. With codes: CodiEsp's 500 training cases with projected evidence (docs/codiesp_en.md), {annotated:,} of its
  background texts coded by a large language model (Claude), {written:,} outpatient notes and case reports written by
  it, notes invented by templates, and spans: the evidence of all these, phrases by hand and by the same model, the
  Alphabetic Index.
- Adapter, by minscl's own trainer (`minscl.train`): {passages:,} passages of {documents:,} documents, {spans:,} spans;
  {scl_steps:,} steps. A longer note is coded in such passages, of at most {passage} tokens (docs/decoding.md).
- A finding that the note denies or has of a relative is not coded, although CodiEsp's coders often did; headings such
  as R51 became the billable code below that says no more (study/corpus.py).
- Never trained on: CodiEsp's dev and test splits, ACI-Bench's valid and test splits. Held out for calibration:
  {calibration}.
- {repeated} of CodiEsp's background texts report a case of its dev or test split again (`REPEATED_CASES` in
  study/corpus.py); they are left out.

No patient text: CodiEsp's cases are published case reports (CC BY 4.0), ACI-Bench's notes are role-played (CC BY 4.0),
all others invented. The phrases by hand were written knowing MDACE's code lists, those of its test charts
included, around which the invented notes are built.

## Measured

{machine}; torch {torch}; {today}.
One run, greedy decoding, float32. `generate`'s default: grounded, scores calibrated, codes below the threshold dropped;
`--free`: plain generation, with a calibration of its own. Codes are compared as sets per note. Seconds include loading.

| {columns} |
{rule}
{rows}

codiesp-test: the 250 English test cases, gold as published, with the codes that are not billable today and those of
denied findings, which this model cannot or will not assign. invented-test: 61 notes by templates that training never
saw.
{also}

![reliability](reliability.png)

Calibrated on the notes named above: of the codes with a score near p, about the share p was right there. On other notes
it may be otherwise.

## What it cannot do

Code notes reliably, as the table shows: it is ten thousand times smaller than a language model that can. It knows the
commoner codes and phrasings of its training text, misses what is said otherwise, and confuses related codes.
"""

ACI_BENCH = (
    "aci-bench: 51 notes of ACI-Bench's train and 16 of its valid split, with the codes of Yuan et al. (2025), which\n"
    "name what the visit was coded for; their evidence is not published. The texts of 48 are among the base's.\n"
    "The codes are downloaded separately; these rows need `--also aci-bench=FILE` (docs/study.md)."
)


def history(work: Path, start: Path | None) -> list[dict]:
    """{steps, tokens, minutes} of each pretraining run: those that produced the weights in `start`, then this one."""
    earlier = json.loads((start / "pretraining.json").read_text()) if start else []
    base = read_metrics(work / "base")
    return [
        *earlier,
        {
            "steps": len(base),
            "tokens": sum(step["tokens"] for step in base),
            "minutes": sum(step["step_seconds"] for step in base) / 60,
            "device": base[-1].get("device", "cpu"),
        },
    ]


def read_metrics(folder: Path) -> list[dict]:
    """The records of a run's metrics.jsonl."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def model_card(scores: dict[str, dict], work: Path, runs: list[dict], seed: int) -> str:
    """The text of the card. `scores`: {row: evaluate's JSON}; `work`: the build folder; `runs`: from `history`;
    `seed`: of the last of them."""
    config = json.loads((work / "base" / "config.json").read_text())
    calibration = read_jsonl(work / "calibration.jsonl", CodedDocument)
    kinds = {"cases of CodiEsp's dev split": "S", "invented notes": "val", "written notes": "E"}
    counts = {kind: sum(document.id.startswith(letter) for document in calibration) for kind, letter in kinds.items()}
    passages = [document.id for document in read_jsonl(work / "documents.jsonl", CodedDocument)]
    codebook = CodeBook.load()
    written_notes = [document.id for name in ("notes", "cases") for document in written(name, codebook)]
    return CARD.format(
        parameters=config["vocab_size"] * config["hidden_size"]
        + config["num_hidden_layers"] * block_parameters(config)
        + config["hidden_size"],
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        vocabulary=config["vocab_size"],
        rank=json.loads((work / "adapter" / "adapter_config.json").read_text())["r"],
        **{name: sum(run[name] for run in runs) for name in ("steps", "tokens", "minutes")},
        runs="one run" if len(runs) == 1 else f"{len(runs)} runs",
        gpu_minutes=sum(run["minutes"] for run in runs if run.get("device") == "cuda"),
        last_steps=runs[-1]["steps"],
        seed=seed,
        repeated=len(REPEATED_CASES),
        annotated=len(annotated_background(codebook)),
        written=sum(not HELD_OUT.match(name) for name in written_notes),
        passages=len(passages),
        documents=len({name.partition(" passage ")[0] for name in passages}),
        passage=PASSAGE,
        spans=len((work / "spans.jsonl").read_bytes().splitlines()),
        scl_steps=len(read_metrics(work / "adapter")),
        calibration=", ".join(f"{count} {kind}" for kind, count in counts.items() if count),
        columns=" | ".join(COLUMNS),
        rule="|-" * len(COLUMNS) + "|",
        rows="\n".join(card_row(name, report, work) for name, report in scores.items()),
        also=ACI_BENCH if "aci-bench" in scores else "",
        machine=f"{os.cpu_count()} CPU cores ({processor()}), no GPU",
        torch=torch.__version__,
        today=date.today().isoformat(),
    )


def card_row(name: str, report: dict, work: Path) -> str:
    """A line of the table."""
    notes, _, flags = name.partition(" ")
    path = work / f"{notes}-coded{flags}.jsonl"
    predicted = read_jsonl(path, CodedDocument)
    quotations = [item for document in predicted for code in document.codes for item in code.evidence]
    grounded = sum(bool(item.grounded) for item in quotations) / max(1, len(quotations))
    micro, macro = report["codes"]["micro"], report["codes"]["macro_gold"]
    evidence = report["evidence"].get("overlap_per_code_one_to_one", {}).get("f1")
    cells = [name, f"{len(predicted)}", f"{micro['f1']:.3f}", f"{micro['precision']:.3f}", f"{micro['recall']:.3f}"]
    cells += [f"{macro['f1']:.3f}", "-" if name.startswith("aci") or evidence is None else f"{evidence:.3f}"]
    cells += [f"{grounded:.1%} of {len(quotations)}", f"{seconds_of(seconds_file(path)) / len(predicted):.2f}"]
    return f"| {' | '.join(cells)} |"


def block_parameters(config: dict) -> int:
    """The number of parameters of one block."""
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    heads = (2 * config["num_attention_heads"] + 2 * config["num_key_value_heads"]) * config["head_dim"]
    return hidden * heads + 3 * hidden * intermediate + 2 * hidden


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
