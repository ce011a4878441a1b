"""How far minscl is from transformers and PEFT, family by family, on the tiny random models of the tests.

    python -m benchmarks.parity [--write]

Columns: the largest difference of any logit at any position (float32 absolute; bfloat16 relative to the largest logit),
of any weight's gradient (relative to the largest gradient), of LoRA's output and gradients against PEFT, and how many
greedy tokens differ.

Needs the teacher and test extras. Read next: tests/tiny_models.py.
"""

import argparse
import dataclasses
import os
import platform
import tempfile
from pathlib import Path

import peft
import torch
import transformers

from minscl.files import replace_file
from minscl.infer import generate
from minscl.lora import add_lora, lora_parameters, save_adapter
from tests.tiny_models import FAMILIES, decoder, make_prompts, teacher

OUT = Path(__file__).parent.parent / "docs" / "parity.md"
PROMPTS = make_prompts((5, 40, 1, 17, 64, 2, 200, 33))
NEW_TOKENS = 24
TITLES = (
    "family",
    "float32 logits, absolute",
    "bfloat16 logits, relative",
    "gradients, relative",
    "LoRA output, absolute",
    "LoRA gradients, relative",
    "greedy tokens that differ",
)


@torch.no_grad()
def logit_difference(family: str, dtype: torch.dtype) -> float:
    """Largest difference over all prompts: absolute in float32, else relative to the largest logit."""
    model = decoder(family, dtype)
    peer, largest = teacher(model), 0.0
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        logits, expected = model(ids), peer(ids).logits.float()
        scale = 1.0 if dtype == torch.float32 else expected.abs().max().item()
        largest = max(largest, (logits - expected).abs().max().item() / scale)
    return largest


def relative_difference(tensors: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest difference of two sets of tensors over the largest entry of the second."""
    assert tensors.keys() == expected.keys()
    largest = max((tensors[name] - expected[name]).abs().max().item() for name in expected)
    return largest / max(tensor.abs().max().item() for tensor in expected.values())


def gradient_difference(family: str) -> float:
    """relative_difference of all weights' gradients, of a function of the logits of one prompt."""
    model = decoder(family)
    peer, ids = teacher(model), torch.tensor([PROMPTS[1]])
    model(ids).logsumexp(-1).mean().backward()
    peer(ids).logits.logsumexp(-1).mean().backward()
    gradients, expected = (
        {name: parameter.grad for name, parameter in side.named_parameters()} for side in (model, peer)
    )
    return relative_difference(gradients, expected)


def lora_differences(family: str, folder: Path) -> tuple[float, float]:
    """(logits, absolute; gradients, relative) with an adapter that minscl saves to `folder` and PEFT loads."""
    model, ids = decoder(family), torch.tensor([PROMPTS[1]])
    peer = teacher(model)
    add_lora(model, rank=4, alpha=8, seed=1)
    for number, (_, parameter) in enumerate(lora_parameters(model)):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    save_adapter(model, folder)
    peer = peft.PeftModel.from_pretrained(peer, folder, is_trainable=True)
    logits, expected_logits = model(ids), peer(ids).logits
    logits.logsumexp(-1).mean().backward()
    expected_logits.logsumexp(-1).mean().backward()
    gradients = {name: parameter.grad for name, parameter in lora_parameters(model)}
    expected = {
        name.removeprefix("base_model.model.").replace(".default", ""): parameter.grad
        for name, parameter in peer.named_parameters()
        if parameter.requires_grad
    }
    if gradients.keys() != expected.keys():  # minscl's names leave out PEFT's ".weight"
        expected = {name.removesuffix(".weight"): gradient for name, gradient in expected.items()}
    return (logits - expected_logits).abs().max().item(), relative_difference(gradients, expected)


def differing_tokens(family: str) -> tuple[int, int]:
    """(different, compared) greedy tokens: minscl's ragged batch of 8, transformers' generate prompt by prompt."""
    model = decoder(family)
    peer, different, compared = teacher(model), 0, 0
    peer.generation_config.eos_token_id = None
    answers = generate(model, PROMPTS, max_new_tokens=NEW_TOKENS, stop_ids=())
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([prompt])
        output = peer.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0
        )
        expected = output[0, len(prompt) :].tolist()
        different += sum(a != b for a, b in zip(answer, expected, strict=True))
        compared += len(expected)
    return different, compared


def table_row(family: str) -> str:
    """The table's row of one family."""
    with tempfile.TemporaryDirectory() as folder:
        lora_output, lora_gradients = lora_differences(family, Path(folder))
    differences = (
        *(logit_difference(family, dtype) for dtype in (torch.float32, torch.bfloat16)),
        gradient_difference(family),
        lora_output,
        lora_gradients,
    )
    different, compared = differing_tokens(family)
    figures = " | ".join(f"{difference:.1e}" for difference in differences)
    return f"| {family} | {figures} | {different} of {compared} |"


@torch.no_grad()
def control_difference() -> float:
    """Largest logit difference between llama3 and itself with rope_theta 1% off: what an error would look like."""
    model, wrong = decoder("llama3"), decoder("llama3")
    rope = dataclasses.replace(wrong.config.rope, rope_theta=505000.0)
    wrong.model.config = dataclasses.replace(wrong.config, rope=rope)
    inputs = [torch.tensor([prompt]) for prompt in PROMPTS]
    return max((wrong(ids) - model(ids)).abs().max().item() for ids in inputs)


def main() -> None:
    """Print the table; with --write also write docs/parity.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/parity.md")
    args = parser.parse_args()
    lines = [f"| {' | '.join(TITLES)} |", "|" + "-|" * len(TITLES)]
    print("\n".join(lines), flush=True)
    for family in FAMILIES:
        lines.append(table_row(family))
        print(lines[-1], flush=True)
    head = f"""# Parity with transformers and PEFT

Written by `python -m benchmarks.parity --write`: tiny random models of every family (tests/tiny_models.py), prompts of
1 to 200 tokens. {platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()},
torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}. On a GPU: not measured.

The tests allow 1e-4 for float32 logits, 2e-2 of the largest for bfloat16 logits, 1e-5 for gradients and LoRA, and no
token that differs. 0.0e+00 is an exact zero: the same operations in the same order. Control: llama3 with its rope_theta
1% off differs by {control_difference():.1e}.
"""
    if args.write:
        with replace_file(OUT) as file:
            file.write("\n".join([head, *lines, ""]))
    else:
        print(f"\n{head}")


if __name__ == "__main__":
    main()
