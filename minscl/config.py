"""What a run is made of: `RunConfig`, the named presets, and the flags made from them.

Every default of training stands here once; `train.py --help` is generated from it. The paper's values
(Appendix C): LoRA rank 8, 16 samples a step, learning rate 1e-4, cosine with a warm-up of 0.1.
deviates: the paper prints no number of epochs. Its Table 2 gives 70 h an epoch for SFT, 4 h for SCL, and a
total 5.2 times smaller; 3 against 10 epochs is the smallest pair of whole numbers that fits (210 h / 40 h), so
the presets train 10. Alpha is not printed either: 16, LLaMA-Factory's default of twice the rank.

Read next: train.py.
"""

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from minscl.errors import InputError

DEMO = Path(__file__).parent / "demo"  # the embedded model, its adapter and a few training samples


def _option(default, help):
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class RunConfig:
    """Settings of one training run. Frozen: `dataclasses.replace` makes another."""

    model: str = _option(str(DEMO), "model folder (Hugging Face layout)")
    documents: str = _option("", "coded documents, JSONL (Eq. 4)")
    spans: str = _option("", "span pairs, JSONL (Eq. 5)")
    samples: str = _option("", "ready samples, JSONL, in place of documents and spans")
    no_evidence: bool = _option(False, "train documents on their codes alone (Eq. 2): the sft baseline of generate --system sft")
    out: str = _option("runs/scl", "folder of the adapter, the metrics and the checkpoints")
    resume: bool = _option(False, "go on from the last checkpoint in --out")
    rank: int = _option(8, "LoRA rank")
    alpha: float = _option(16.0, "LoRA alpha; the update is scaled by alpha / rank")
    dropout: float = _option(0.0, "dropout on the input of LoRA's A")
    lr: float = _option(1e-4, "peak learning rate")
    batch_size: int = _option(16, "samples in one optimiser step, however they are packed")
    epochs: int = _option(10, "times every sample is seen")
    warmup_ratio: float = _option(0.1, "share of the steps with a rising learning rate")
    max_grad_norm: float = _option(1.0, "gradients are scaled down to this norm")
    weight_decay: float = _option(0.0, "AdamW's weight decay")
    max_length: int = _option(8192, "tokens; a longer document is skipped and named, never cut")
    pack_length: int = _option(8192, "tokens in one packed sequence")
    seed: int = _option(0, "of the data order, LoRA's A and dropout")
    dtype: str = _option("auto", "float32, bfloat16 or float16; auto: bfloat16 on a GPU, float32 on a CPU")
    device: str = _option("auto", "cpu, cuda, cuda:1 ...; auto: the GPU where there is one")
    save_every: int = _option(200, "steps between checkpoints")
    save_minutes: float = _option(10.0, "a checkpoint at least this often")
    recompute: bool = _option(False, "keep less for the backward pass and compute it again: less memory, about half as long again")
    fsdp: bool = _option(False, "split the frozen weights among torchrun's processes")
    dry_run: bool = _option(False, "do everything but train, and show three samples with their trained tokens marked")

    def __post_init__(self):
        for name in ("rank", "batch_size", "epochs", "max_length", "pack_length", "save_every"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be at least 1")
        if not self.save_minutes > 0:
            raise InputError(f"--save-minutes {self.save_minutes}: must be above 0")
        if not self.lr > 0 or not self.max_grad_norm > 0:
            raise InputError(f"--lr {self.lr}, --max-grad-norm {self.max_grad_norm}: must be above 0")
        if not 0 <= self.warmup_ratio <= 1 or not 0 <= self.dropout < 1:
            raise InputError(f"--warmup-ratio {self.warmup_ratio}, --dropout {self.dropout}: must lie between 0 and 1")
        if self.max_length > self.pack_length:
            raise InputError(f"--max-length {self.max_length}: the longest sample must fit in --pack-length {self.pack_length}")


def _instruct(name: str) -> RunConfig:
    """The paper's settings on an instruction-tuned model kept in models/NAME."""
    return RunConfig(model=f"models/{name}", documents="documents.jsonl", spans="spans.jsonl")


PRESETS = {
    "tiny": RunConfig(documents=str(DEMO / "documents.jsonl"), spans=str(DEMO / "spans.jsonl"), epochs=1, max_length=2048,
                      pack_length=2048),
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


def require(path: str, flag: str) -> Path:
    """`path` if it exists; else an InputError with the command that makes it."""
    found = Path(path)
    if found.exists():
        return found
    organisation = "Qwen" if found.name.startswith("Qwen") else "meta-llama"
    remedy = {
        "--model": f"fetch it once: hf download {organisation}/{found.name} --local-dir {path} (or name another folder)",
        "--documents": f"make invented ones: python -m study.notes --split train --out {path} (or name another file)",
        "--spans": f"make it: python -m minscl.expand gold --out {path} (or name another file)",
    }.get(flag, "name a file that exists")
    raise InputError(f"{flag} {path}: no such file or folder; {remedy}")


def add_flags(parser: argparse.ArgumentParser, cls) -> None:
    """One flag a field of the dataclass `cls`: its type and default from the field, its words from the metadata."""
    for item in dataclasses.fields(cls):
        flag = "--" + item.name.replace("_", "-")
        words = item.metadata["help"].replace("%", "%%")
        shown = "" if item.default in ("", False, None) else f" (default: {item.default})"
        if isinstance(item.default, bool):
            parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=words)
        else:
            parser.add_argument(flag, type=type(item.default), default=argparse.SUPPRESS, help=words + shown,
                                metavar=item.metadata.get("metavar", item.name.upper()))


def parse_run(argv=None) -> RunConfig:
    """The preset named by --cfg, with every flag given put over it."""
    parser = argparse.ArgumentParser(prog="python -m minscl.train", description="Train a LoRA adapter on documents and spans.")
    parser.add_argument("--cfg", choices=PRESETS, default="tiny", help="preset; flags below change single values of it")
    add_flags(parser, RunConfig)
    given = vars(parser.parse_args(argv))
    return dataclasses.replace(PRESETS[given.pop("cfg")], **given)
