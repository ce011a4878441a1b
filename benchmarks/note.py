"""Seconds from a loaded model to a coded note: the embedded one, one note at a time, beside transformers' `generate`.

    python -m benchmarks.note [--notes 61] [--write]

The invented test notes and as many of CodiEsp's English test cases, each coded alone as `generate` codes a note:
grounded, calibrated, in passages that are decoded together; and with `--free`. Each with `--compile off` and with
compiled passes, which `--compile on` once leaves in the cache folder for all later runs. Nothing else is kept from one
note to the next. transformers decodes the prompts of the same passages as one batch, padded on the left, until the
longest answer stops; it is given the merged weights and greedy decoding in float32, and stops at the same limit. Its
answers are compared with those of `--free`, which decodes the same.

Needs the teacher extra. Read next: minscl/infer/coder.py.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable

import torch

from benchmarks.report import provenance, write_section
from minscl.config import DEMO
from minscl.data.calibration import Calibration
from minscl.data.chains import PASSAGE, join_answers
from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument, Note
from minscl.infer.coder import code_notes
from minscl.infer.jobs import make_jobs
from minscl.infer.linear import prepare_for_inference
from minscl.infer.systems import SCL
from minscl.model import save_model
from minscl.pretrained import load_calibration, load_pretrained
from study.corpus import codiesp, invented

WARM_UP = 3  # notes coded before, not counted


def transformers_coder(folder: str, model, tokenizer, passage: int) -> Callable[[str], str]:
    """note → transformers' answers to the prompts of its passages; `folder`: the weights of `model`."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    peer = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    stop_ids = sorted(tokenizer.stop_ids)

    def code(text: str) -> str:
        [job] = make_jobs(model, tokenizer, [Note("note", text)], SCL, {}, False, None, None, passage)
        prompts, limit = [prompt.ids for prompt in job.prompts], max(prompt.max_new_tokens for prompt in job.prompts)
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            settings = {"max_new_tokens": limit, "do_sample": False, "eos_token_id": stop_ids, "pad_token_id": 0}
            rows = peer.generate(ids, attention_mask=mask, **settings)[:, longest:].tolist()
        answers = [tokenizer.decode(list(itertools.takewhile(lambda id: id not in stop_ids, row))) for row in rows]
        return join_answers(answers, PASSAGE) if len(answers) > 1 else answers[0]

    return code


def run(code: Callable[[str], str], documents: list[CodedDocument]) -> tuple[list[float], list[str]]:
    """(seconds, output) of each note."""
    seconds, outputs = [], []
    for document in documents[:WARM_UP] + documents:
        began = time.perf_counter()
        outputs.append(code(document.text))
        seconds.append(time.perf_counter() - began)
    return seconds[WARM_UP:], outputs[WARM_UP:]


def table(number: int) -> list[str]:
    """The table's lines."""
    book = CodeBook.load()
    model, tokenizer = load_pretrained(str(DEMO), device="cpu", dtype="float32")
    grounded, free = (load_calibration(str(DEMO), grounded=choice) for choice in (True, False))
    assert grounded and free, "the embedded model is calibrated"
    with tempfile.TemporaryDirectory() as folder:
        save_model(model, folder)
        peer = transformers_coder(folder, model, tokenizer, free.passage)
    prepare_for_inference(model)

    def own(calibration: Calibration, is_grounded: bool, compile: str) -> Callable[[str], str]:
        settings = {"grounded": is_grounded, "codebook": book, "calibration": calibration, "compile": compile}
        return lambda text: next(code_notes(model, tokenizer, [Note("note", text)], **settings)).output or ""

    sides = {
        "minscl --free --compile off": own(free, False, "off"),
        "minscl --free, compiled": own(free, False, "on"),
        "minscl --compile off": own(grounded, True, "off"),
        "minscl, compiled": own(grounded, True, "on"),
        "transformers": peer,
    }
    lines = [
        "| notes | number | side | seconds a note, median | mean | 95% | slowest | outputs equal to --free's |",
        "|-|-|-|-|-|-|-|-|",
    ]
    for name, documents in {"invented": invented("test"), "CodiEsp": codiesp("test", book)}.items():
        expected: list[str] = []  # of --free, the first side
        for side, code in sides.items():
            times, outputs = run(code, documents[:number])
            expected, seconds = expected or outputs, sorted(times)
            equal = sum(a == b for a, b in zip(outputs, expected, strict=True))
            at_95 = seconds[int(0.95 * len(seconds))]
            figures = statistics.median(seconds), statistics.mean(seconds), at_95, seconds[-1]
            cells = " | ".join(f"{figure:.2f}" for figure in figures)
            lines.append(f"| {name} | {len(seconds)} | {side} | {cells} | {equal} of {len(seconds)} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    """Print the table; with --write also write it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.note", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=61, help="of each kind (default: 61, all invented test notes)")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    args = parser.parse_args()
    lines = table(args.notes)
    if args.write:
        about = (
            "The embedded model, loaded, float32. compiled: as `generate` codes once `--compile on` has left its "
            "passes on disk; until then, it runs as with `--compile off`. Grounded answers differ from `--free`'s."
        )
        write_section("A note", [f"{provenance('transformers')}. {about}", "", *lines])


if __name__ == "__main__":
    main()
