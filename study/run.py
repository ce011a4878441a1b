"""The paper's experiments on open text: train and test every row, resumably, and write docs/study.md's tables.

    python -m study.run --fast              one seed, a small base, 60 test cases
    python -m study.run --seeds 0,1,2       everything

Each step is a command that a user could give; a step whose result is in --out is skipped, and train and generate resume
where they stopped. Choices (the score threshold of each row) are made on dev; test is coded once.

    tokenizer → base (base.py) → data files → miner → silver spans → per row and seed: train, dev, calibrate, test

Read next: rows.py; tables.py.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from minscl.cli import require
from minscl.command import run_command
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.files import replace_file
from minscl.model import load_tokenizer
from study.base import train_base
from study.data_files import write_data_files
from study.rows import ALL_SPANS, FAST, FIGURE_4, ROWS, Row
from study.steps import StepFailed, run_step
from study.tables import write_tables


@dataclass(frozen=True)
class Scale:
    """How much of everything. `size`: the base of a row that names none; `base_steps` of about pretrain.STEP tokens.

    Every row sees each document `document_passes` times and each span `span_passes` times, so that spans come on top of
    what the documents teach.
    """

    size: str
    base_steps: int
    gold_spans: int
    synthetic_spans: int
    document_passes: int
    span_passes: int
    miner_epochs: int
    dev: int
    test: int


FULL = Scale(
    "medium", 1000, gold_spans=20_000, synthetic_spans=20_000, document_passes=40, span_passes=4, miner_epochs=4,
    dev=250, test=250,
)  # fmt: skip
REDUCED = Scale(
    "small", 400, gold_spans=2000, synthetic_spans=2000, document_passes=12, span_passes=4, miner_epochs=2, dev=30,
    test=60,
)  # fmt: skip
LORA = ["--rank", "16", "--alpha", "32", "--lr", "2e-3", "--batch-size", "32"]
LORA += ["--max-length", "4096", "--pack-length", "4096"]


class Study:
    """The folder of a study and how its steps are run."""

    def __init__(self, out: Path, scale: Scale, tokenizer: Path):
        self.out, self.scale, self.tokenizer = out, scale, tokenizer
        self.data = out / "data"

    def base(self, size: str = "") -> Path:
        """The base of a size, the scale's own by default, pretrained on first use."""
        size = size or self.scale.size
        folder = self.out / f"base-{size}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (folder / name).write_bytes((self.tokenizer / name).read_bytes())
        return train_base(size, self.tokenizer, folder, steps=self.scale.base_steps, seed=0)

    def silver(self) -> None:
        """Train the miner on the cases with evidence and mine the others with silver.py's two stages."""
        base, miner, out = str(self.base()), self.out / "miner", self.data / "silver.jsonl"
        epochs = str(self.scale.miner_epochs)
        train = ["minscl.train", "--model", base, "--samples", str(self.data / "miner.jsonl"), "--out", str(miner)]
        run_step(miner / "adapter_model.safetensors", *train, "--epochs", epochs, "--resume", *LORA)
        mine = ["minscl.expand", "silver", "--notes", str(self.data / "labels.jsonl"), "--out", str(out)]
        try:
            run_step(out, *mine, "--model", base, "--adapter", str(miner))
        except StepFailed as error:
            if error.status != 2 or not out.with_name(f"{out.name}.quoted.jsonl").exists():
                raise
            write_jsonl(out, [])  # every question is answered and no pair came of them: a result, said on stderr

    def adapter(self, row: Row, seed: int) -> Path:
        """The adapter of a row, trained on first use and calibrated on dev."""
        folder = self.out / row.adapter_row / f"seed{seed}"
        spans, scale = self.spans(row), self.scale
        documents, epochs = self.data / f"{row.documents}.jsonl", scale.document_passes
        if spans:
            documents, epochs = repeated(documents, scale.document_passes // scale.span_passes), scale.span_passes
        command = ["minscl.train", "--model", str(self.base(row.size)), "--out", str(folder), "--seed", str(seed)]
        command += ["--documents", str(documents), "--epochs", str(epochs)]
        command += ["--spans", str(spans)] if spans else []
        command += ["--no-evidence"] if row.codes_only else []
        run_step(folder / "adapter_model.safetensors", *command, "--resume", *LORA)
        return folder

    def spans(self, row: Row) -> Path | None:
        """The row's span files as one file, or None."""
        if not row.spans:
            return None
        path = self.data / f"spans-{'-'.join(row.spans)}.jsonl"
        if not path.exists():
            with replace_file(path) as file:
                for name in row.spans:
                    file.write((self.data / f"{name}.jsonl").read_text(encoding="utf-8"))
        return path

    def code(self, row: Row, seed: int) -> None:
        """Code dev, choose the row's threshold on it, code test, score test."""
        folder = self.out / row.name / f"seed{seed}"
        system = self.system_flags(row, seed)
        dev, test = (str(self.data / f"{split}.jsonl") for split in ("dev", "test"))
        if row.adapter_row and not row.given:
            adapter = str(self.adapter(row, seed))
            run_step(
                folder / "dev.jsonl", "minscl.generate", dev, "--out", str(folder / "dev.jsonl"), *system,
                "--no-calibration", "--min-score", "0",
            )  # fmt: skip
            if any(document.codes for document in read_jsonl(folder / "dev.jsonl", CodedDocument)):
                calibrate = ["minscl.evaluate", "--gold", dev, "--pred", str(folder / "dev.jsonl")]
                run_step(Path(adapter) / "calibration.json", *calibrate, "--calibrate", adapter)
        given = ["--evidence", test] if row.given else []
        run_step(folder / "test.jsonl", "minscl.generate", test, "--out", str(folder / "test.jsonl"), *system, *given)

    def figure_four(self, rows: list[Row], seed: int) -> None:
        """Seen and unseen codes by the source of their spans, for those of `rows` that add a source each."""
        spans = self.spans(next(row for row in rows if row.spans == ALL_SPANS))
        command = ["minscl.evaluate", "--gold", str(self.data / "test.jsonl"), "--spans", str(spans)]
        command += ["--train", str(self.data / "evidence.jsonl"), "--plot", str(self.out / "figure4.svg")]
        for row in rows:
            command += (
                ["--pred", str(self.out / row.name / f"seed{seed}" / "test.jsonl")] if row.name in FIGURE_4 else []
            )
        run_step(self.out / "figure4.svg", *command)

    def system_flags(self, row: Row, seed: int) -> list[str]:
        """generate's flags for a row."""
        if row.name == "lookup":
            return ["--system", "lookup", "--documents", str(self.data / "evidence.jsonl")]
        adapter = str(self.adapter(next(r for r in ROWS if r.name == row.adapter_row), seed)) if row.adapter_row else ""
        flags = ["--model", str(self.base(row.size)), "--adapter", adapter or "none"]
        return [*flags, "--system", "sft"] if row.codes_only else flags


def repeated(path: Path, times: int) -> Path:
    """A file beside `path` with each of its documents `times` times, under ids of their own."""
    out = path.with_name(f"{path.stem}-x{times}.jsonl")
    if not out.exists():
        documents = read_jsonl(path, CodedDocument)
        copies = [
            dataclasses.replace(document, id=f"{document.id} copy {number}")
            for number in range(1, times + 1)
            for document in documents
        ]
        write_jsonl(out, copies)
    return out


def seed_list(text: str) -> str:
    """`text`, checked to be whole numbers with commas between. Raises InputError."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise InputError(f"--seeds {text}: give whole numbers with commas, such as 0,1,2")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m study.run", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=Path("runs/study"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument("--tokenizer", type=Path, default=Path("minscl/demo"), help="folder of the tokenizer")
    parser.add_argument("--fast", action="store_true", help="the reduced study")
    parser.add_argument("--seeds", default="", help="seeds, with commas (default: 0,1,2; --fast: 0)")
    parser.add_argument("--rows", default="", help="rows, with commas (default: all; --fast: Tables 1 and 3)")
    args = parser.parse_args()
    names = args.rows.split(",") if args.rows else list(FAST) if args.fast else [row.name for row in ROWS]
    unknown = set(names) - {row.name for row in ROWS}
    if unknown:
        raise InputError(f"--rows {sorted(unknown)[0]}: choose from {', '.join(row.name for row in ROWS)}")
    seeds = [int(seed) for seed in seed_list(args.seeds or ("0" if args.fast else "0,1,2")).split(",")]
    scale = REDUCED if args.fast else FULL
    study = Study(args.out, scale, Path(require(str(args.tokenizer), "--tokenizer")))
    tokenizer = load_tokenizer(args.tokenizer)
    sizes = {"gold": scale.gold_spans, "synthetic": scale.synthetic_spans, "dev": scale.dev, "test": scale.test}
    write_data_files(study.data, tokenizer, sizes)
    rows = [dataclasses.replace(row, size=row.size or scale.size) for row in ROWS if row.name in names]
    if any("silver" in row.spans for row in rows):
        study.silver()
    for seed in seeds:
        for row in rows:
            study.code(row, seed if row.adapter_row else 0)
    write_tables(study.out, study.data, rows, seeds)
    if any(row.spans == ALL_SPANS for row in rows):
        study.figure_four(rows, seeds[0])
    return 0


if __name__ == "__main__":
    run_command(main)
