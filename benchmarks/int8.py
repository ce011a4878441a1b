"""What int8 weights cost in accuracy: the embedded model codes the invented test notes in float32, bfloat16 and int8.

    python -m benchmarks.int8 [--notes 61] [--write]

Every form codes the notes as `generate` does: grounded, calibrated, in passages. Logits are compared on the same
tokens, float32's prompts and answers: the largest and the mean difference of any logit at any position, and at how many
of the answers' positions another token has the largest logit. Codes changed: those in float32's documents or in the
other's, but not in both. Micro-F1 is that of the same documents.

Read next: minscl/model/int8.py.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.report import provenance, write_section
from minscl.config import DEMO
from minscl.data.calibration import passage_length
from minscl.data.types import CodedDocument, Note
from minscl.infer.coder import code_notes
from minscl.infer.jobs import make_jobs
from minscl.infer.systems import SCL
from minscl.model import Decoder, save_model
from minscl.pretrained import load_calibration, load_pretrained
from minscl.score import code_scores
from minscl.weights import SINGLE_FILE
from study.corpus import invented

# (dtype of the projections' weights, dtype of activations)
FORMS = (
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
    ("int8", "float32"),
    ("int8", "bfloat16"),
)


@dataclass
class Coded:
    """What a form makes of the notes: the documents, and the prompt and the answer of each passage as token ids."""

    documents: list[CodedDocument]
    passages: list[tuple[list[int], list[int]]]


def code(model: Decoder, tokenizer, notes: list[Note]) -> Coded:
    """Code `notes` as `generate` does."""
    calibration = load_calibration(str(DEMO))
    answers: dict[int, list[int]] = {}

    def keep(index: int, ids: list[int]) -> None:
        answers[index] = list(ids)

    documents = list(code_notes(model, tokenizer, notes, grounded=True, calibration=calibration, on_tokens=keep))
    passage = passage_length(calibration, None)
    jobs = make_jobs(model, tokenizer, notes, SCL, {}, True, None, None, passage)
    prompts = [prompt.ids for job in jobs for prompt in job.prompts]
    return Coded(documents, [(prompt, answers[index]) for index, prompt in enumerate(prompts)])


@torch.inference_mode()
def compare_logits(model: Decoder, reference: Decoder, passages) -> tuple[float, float, int, int]:
    """(largest, mean absolute difference of a logit; answer tokens with another maximum; answer tokens)."""
    largest, total, count, changed, tokens = 0.0, 0.0, 0, 0, 0
    for prompt, answer in passages:
        ids = torch.tensor([prompt + answer])
        logits, expected = model(ids)[0], reference(ids)[0]  # (T, V)
        difference = (logits - expected).abs()
        largest = max(largest, difference.max().item())
        total, count = total + difference.sum().item(), count + difference.numel()
        rows = slice(len(prompt) - 1, len(ids[0]) - 1)  # whose next token is the answer's
        changed += (logits[rows].argmax(-1) != expected[rows].argmax(-1)).sum().item()
        tokens += len(answer)
    return largest, total / count, int(changed), tokens


def codes_of(documents: list[CodedDocument]) -> set[tuple[str, str]]:
    """(document, code) of every code."""
    return {(document.id, assignment.code) for document in documents for assignment in document.codes}


def file_bytes(model: Decoder) -> int:
    """Bytes of the weights' file that save_model writes."""
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, folder)
        return (Path(folder) / SINGLE_FILE).stat().st_size


def load(weights: str, activations: str):
    """(model, tokenizer) of a form."""
    return load_pretrained(str(DEMO), device="cpu", dtype=activations, weights="int8" if weights == "int8" else "")


def table(number_of_notes: int) -> list[str]:
    """The table's lines."""
    gold = invented("test")[:number_of_notes]
    notes = [Note(document.id, document.text) for document in gold]
    lines = [
        "| weights | activations | weights' file, MB | logits: largest difference | mean | tokens changed "
        "| answers changed | codes changed | micro-F1 |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    reference, tokenizer = load(*FORMS[0])
    expected = code(reference, tokenizer, notes)
    for weights, activations in FORMS:
        model, _ = load(weights, activations)
        coded = code(model, tokenizer, notes)
        largest, mean, changed, tokens = compare_logits(model, reference, expected.passages)
        outputs = [a.output != b.output for a, b in zip(coded.documents, expected.documents, strict=True)]
        codes, expected_codes = codes_of(coded.documents), codes_of(expected.documents)
        lines.append(
            f"| {weights} | {activations} | {file_bytes(model) / 1e6:.1f} | {largest:.2f} | {mean:.4f} "
            f"| {changed} of {tokens:,} | {sum(outputs)} of {len(outputs)} "
            f"| {len(codes ^ expected_codes)} of {len(expected_codes)} "
            f"| {100 * code_scores(gold, coded.documents)['micro']['f1']:.1f} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Print the table; with --write also write it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.int8", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=61, help="invented test notes (default: 61, all)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    args = parser.parse_args()
    lines = table(args.notes)
    if args.write:
        about = (
            f"The embedded model, {args.notes} invented test notes; differences are from float32 on the same tokens."
        )
        write_section("int8", [f"{provenance()}. {about}", "", *lines])
    else:
        print("\n".join(["", *lines[:2]]))


if __name__ == "__main__":
    main()
