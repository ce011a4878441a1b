"""Settings of a training run: `RunConfig`, the named presets, and the flags made from them.

Every default of training is set here, and only here; `train --help` is generated from it. From the paper (Appendix C):
LoRA rank 8, 16 samples per step, learning rate 1e-4, cosine schedule with a warm-up ratio of 0.1.

deviates: the paper prints no number of epochs. Its Table 2 gives 70 h per epoch for SFT, 4 h for SCL, and a total 5.2
times smaller; 3 and 10 epochs are the smallest whole numbers that fit (210 h / 40 h), so the presets train 10. Alpha is
not printed either: 16 is LLaMA-Factory's default, twice the rank.

Read next: training/run.py for a run, training/loop.py for a step.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minscl.cli import Parser, add_flags, check_ranges, flag, flag_name, make_config, require
from minscl.errors import InputError

SCL = "scl"
HEADS = PLM_ICD, PLM_CA, GKI_ICD = ("plm-icd", "plm-ca", "gki-icd")  # the systems of heads/
# What only a head's training reads.
HEAD_FIELDS = ("system", "window", "bidirectional", "freeze")
WEIGHTS = ("", "int8")  # choices of --weights: as stored; model/int8.py
AUTO, ON, OFF = RECOMPUTE = ("auto", "on", "off")
DEMO = Path(__file__).parent / "demo"  # the embedded model, its adapter and a few training samples


@dataclass(frozen=True)
class RunConfig:
    """Settings of one training run. Frozen: `dataclasses.replace` makes another."""

    system: str = flag(
        SCL,
        "scl: a LoRA adapter that generates; others: a head over hidden states (heads/)",
        choices=(SCL, *HEADS),
    )
    model: str = flag(str(DEMO), "model folder (Hugging Face layout)", role="input")
    documents: str = flag("", "coded documents, JSONL (Eq. 4)", role="input")
    spans: str = flag("", "span pairs, JSONL (Eq. 5)", role="input")
    samples: str = flag("", "ready-made samples, JSONL, instead of documents and spans", role="input")
    no_evidence: bool = flag(
        False, "train documents on their codes only (Eq. 2): the baseline of generate --system sft"
    )
    validate: str = flag(
        "",
        "held-out coded documents and span pairs, JSONL, none of them trained on: their loss and their codes' F1 while "
        "the run trains; heads: documents on which the threshold of all codes is chosen; none: 0.5",
        role="input",
    )
    validate_every: int = flag(500, "steps between validations; the last step has one too", minimum=1)
    patience: int = flag(0, "stop after so many validations in a row that are not the best so far; 0: never", minimum=0)
    window: int = flag(512, "heads: tokens of a window; a longer note is read in overlapping windows", minimum=8)
    bidirectional: bool = flag(False, "heads: every token of a window attends to all of it, not only backwards")
    freeze: bool = flag(False, "heads: train the head alone; the decoder reads each note once, so epochs are cheap")
    out: str = flag("runs/scl", "folder of the adapter, the metrics and the checkpoints", role="output folder")
    resume: bool = flag(False, "continue from the newest checkpoint in --out")
    rank: int = flag(8, "LoRA rank", minimum=1, maximum=65_536)
    alpha: float = flag(16.0, "LoRA alpha; the update is scaled by alpha / rank", above=0, maximum=100_000)
    dropout: float = flag(0.0, "dropout on the input of LoRA's A", minimum=0, below=1)
    lr: float = flag(1e-4, "peak learning rate", minimum=1e-12, maximum=100)
    batch_size: int = flag(16, "samples per optimiser step, however they are packed", minimum=1)
    epochs: int = flag(10, "passes over the samples", minimum=1, maximum=100_000)
    warmup_ratio: float = flag(0.1, "share of the steps over which the learning rate rises", minimum=0, maximum=1)
    max_grad_norm: float = flag(1.0, "gradients of a larger norm are scaled down to it", above=0)
    weight_decay: float = flag(0.0, "AdamW's weight decay", minimum=0, maximum=100)
    max_length: int = flag(8192, "tokens of a sample; a longer document is skipped and named, never cut", minimum=1)
    pack_length: int = flag(8192, "tokens of one packed sequence; shortened where memory does not suffice", minimum=1)
    seed: int = flag(0, "seed of the data order, LoRA's A and dropout", minimum=0)
    weights: str = flag(
        "", "int8: the frozen weights in int8, quantised as they are read; none: as stored", choices=WEIGHTS
    )
    dtype: str = flag("auto", "float32, bfloat16 or float16; auto: bfloat16 on a GPU, float32 on a CPU")
    device: str = flag("auto", "cpu, cuda, cuda:1 ...; auto: the GPU where there is one")
    save_every: int = flag(100, "steps between checkpoints", minimum=1)
    tensorboard: bool = flag(False, "write the progress to --out/tensorboard too (the tensorboard extra)")
    recompute: str = flag(
        AUTO,
        "gradient checkpointing: less memory, steps take about 1.5 times as long. auto: on where the forecast needs it "
        "(heads: off); without a value: on",
        choices=RECOMPUTE,
        alone=ON,
    )
    fsdp: bool = flag(False, "split the frozen weights among torchrun's processes")
    dry_run: bool = flag(False, "do everything but train, and show three samples with their trained tokens marked")

    def __post_init__(self) -> None:
        """Raises InputError naming the flag and its value for a setting out of range."""
        check_ranges(self)
        if self.recompute not in RECOMPUTE:
            raise InputError(f"--recompute {self.recompute}: use {', '.join(RECOMPUTE)}")
        if self.system == SCL and self.max_length > self.pack_length:
            raise InputError(
                f"--max-length {self.max_length}: the longest sample must fit in --pack-length {self.pack_length}"
            )
        if self.fsdp and self.weights:
            raise InputError(f"--fsdp --weights {self.weights}: FSDP splits float weights only; leave one of them out")


def _instruct(name: str) -> RunConfig:
    """The paper's settings on an instruction-tuned model in models/NAME."""
    return RunConfig(model=f"models/{name}", documents="documents.jsonl", spans="spans.jsonl")


PRESETS = {
    "tiny": RunConfig(
        documents=str(DEMO / "documents.jsonl"),
        spans=str(DEMO / "spans.jsonl"),
        epochs=1,
        max_length=2048,
        pack_length=2048,
    ),
    "llama1b": _instruct("Llama-3.2-1B-Instruct"),
    "llama3b": _instruct("Llama-3.2-3B-Instruct"),
    "llama8b": _instruct("Llama-3.1-8B-Instruct"),
    "llama70b": _instruct("Llama-3.1-70B-Instruct"),
    "qwen0.5b": _instruct("Qwen2.5-0.5B-Instruct"),
    "qwen1.5b": _instruct("Qwen2.5-1.5B-Instruct"),
    "qwen3b": _instruct("Qwen2.5-3B-Instruct"),
    "qwen7b": _instruct("Qwen2.5-7B-Instruct"),
    "qwen14b": _instruct("Qwen2.5-14B-Instruct"),
}


def parse_run(argv: list[str] | None = None) -> RunConfig:
    """The preset named by --cfg, overridden by the other flags. Raises InputError for flags that cannot be parsed."""
    parser = Parser(prog="python -m minscl.train", description="Train a LoRA adapter on documents and spans.")
    parser.add_argument(
        "--cfg",
        choices=PRESETS,
        default="tiny",
        help="preset, whose values the flags below override. tiny: the bundled data for one epoch, samples up to 2,048 "
        f"tokens; the paper's settings: {', '.join(name for name in PRESETS if name != 'tiny')} (default: tiny)",
        metavar="NAME",
    )
    add_flags(parser, RunConfig)
    values = vars(parser.parse_args(argv))
    preset = dataclasses.asdict(PRESETS[values.pop("cfg")])
    check_system_flags(values.get("system", preset["system"]), values)
    for name in ("validate_every", "patience"):
        if name in values and not values.get("validate"):
            raise InputError(f"{flag_name(name)}: without held-out documents; give --validate FILE too")
    return make_config(RunConfig, preset | values)


def check_system_flags(system: str, flags: Mapping[str, Any]) -> None:
    """Raises InputError where a flag on the command line, a key of `flags`, is not one of `system`."""
    if system in HEADS:
        for name in ("spans", "samples", "no_evidence", "pack_length", "fsdp", "validate_every", "patience"):
            if name in flags:
                raise InputError(
                    f"--system {system} {flag_name(name)}: a head is trained on the codes of --documents, in one "
                    f"process, and validated at its end; leave {flag_name(name)} out"
                )
        if "weights" in flags:
            raise InputError(f"--system {system} --weights: heads read the weights as stored; leave --weights out")
    for name in HEAD_FIELDS[1:]:
        if system == SCL and name in flags:
            raise InputError(f"{flag_name(name)}: only heads read it; leave it out, or give --system {HEADS[0]}")


def check_paths(config: RunConfig) -> None:
    """Raises InputError naming the flag and the remedy for a model folder or data file that does not exist."""
    require(config.model, "--model")
    data = ("samples",) if config.samples else ("documents",) if config.system in HEADS else ("documents", "spans")
    for name in (*data, "validate"):
        path = getattr(config, name)
        if path:
            require(path, flag_name(name))
