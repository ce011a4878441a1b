"""What a comparison trains and tests on, and the training of its SFT adapter and heads, where they are missing.

SFT, the heads and the look-up get the documents of the embedded model's adapter, whole: CodiEsp's 500 training cases,
and written and invented notes, so that both tests' codes have labels. Thresholds are chosen on the documents that
calibrate the embedded model, none of which any of these is trained on: 60 of CodiEsp's dev cases, written and invented
validation notes.

Read next: compare.py.
"""

from pathlib import Path

from minscl.config import HEADS
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument
from study.compare_rows import SFT, SFT_INT8, Row, Setup
from study.demo_data import adapter_documents, write_evaluation_data
from study.steps import run_step

TESTS = {"codiesp-test": "CodiEsp test", "invented-test": "invented notes"}  # file of write_evaluation_data → title
SFT_TRAINING = ("--epochs", "1", "--batch-size", "4", "--lr", "5e-4", "--max-length", "4096", "--pack-length", "4096")
HEAD_TRAINING = (  # LoRA below the head learned nothing in 500 steps (docs/study.md)
    *("--freeze", "--epochs", "10", "--batch-size", "4", "--lr", "3e-3", "--window", "2048", "--dtype", "bfloat16"),
)


def write_data(setup: Setup) -> None:
    """data/documents.jsonl, data/calibration.jsonl and both tests, unless they are there."""
    folder = setup.documents.parent
    if not (folder / "invented-test.jsonl").exists():  # the last one that is written
        folder.mkdir(parents=True, exist_ok=True)
        write_jsonl(setup.documents, adapter_documents(CodeBook.load()))
        write_evaluation_data(folder)


def train(row: Row, setup: Setup) -> None:
    """Train what a row needs and does not have yet, resumably."""
    folder = setup.trained(row)
    data = ["--model", setup.model, "--documents", str(setup.documents), "--out", str(folder), "--resume"]
    if row.name in HEADS:
        validate = ["--validate", str(setup.validation)]
        run_step(folder / "head.json", "minscl.train", "--system", row.name, *data, *validate, *HEAD_TRAINING)
    if row.name in (SFT, SFT_INT8):
        weights = ["--weights", "int8"] if row.name == SFT_INT8 else []
        command = ["minscl.train", "--no-evidence", "--spans", "", *data, *weights, *SFT_TRAINING]
        run_step(folder / "adapter_model.safetensors", *command)
        calibrate(row, setup, folder)


def calibrate(row: Row, setup: Setup, adapter: Path) -> None:
    """Fit the scores and the threshold of SFT, as those of the embedded model are."""
    predicted = adapter / "calibration-coded.jsonl"
    weights = ["--model", setup.model, "--adapter", str(adapter), "--no-calibration"]
    run_step(predicted, "minscl.generate", str(setup.validation), "--out", str(predicted), *row.flags, *weights)
    if any(document.codes for document in read_jsonl(predicted, CodedDocument)):
        evaluate = ["minscl.evaluate", "--gold", str(setup.validation), "--pred", str(predicted)]
        run_step(adapter / "calibration.json", *evaluate, "--calibrate", str(adapter))
