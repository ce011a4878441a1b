"""Write docs/parity.md: how far minscl is from its teachers, family by family, on the tiny random models of the tests.

    python -m benchmarks.parity        (needs the teacher extra)

Columns: largest difference of any logit at any position (float32 absolute; bfloat16 relative to the largest logit), of any weight's
gradient (relative to the largest gradient), of LoRA's output and gradients against PEFT, and greedy tokens that differ.
"""

import dataclasses
import os
import platform
from pathlib import Path

import peft
import torch
import transformers

from minscl.errors import replace_file
from minscl.infer import generate
from minscl.lora import add_lora, lora_parameters, save_adapter
from tests.tiny_models import FAMILIES, decoder, make_prompts, teacher

OUT = Path(__file__).parent.parent / "docs" / "parity.md"
PROMPTS = make_prompts((5, 40, 1, 17, 64, 2, 200, 33))
NEW_TOKENS = 24


def logit_differences(family: str) -> tuple[float, float]:
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        ours = decoder(family, dtype)
        theirs, worst = teacher(ours), 0.0
        for ids in PROMPTS:
            with torch.no_grad():
                a, b = ours(torch.tensor([ids])), theirs(torch.tensor([ids])).logits.float()
            scale = 1.0 if dtype == torch.float32 else b.abs().max().item()
            worst = max(worst, (a - b).abs().max().item() / scale)
        found.append(worst)
    return tuple(found)


def relative(ours: dict, theirs: dict) -> float:
    """Largest difference of two sets of tensors over their largest entry."""
    assert ours.keys() == theirs.keys()
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours) / max(
        one.abs().max().item() for one in theirs.values()
    )


def gradient_difference(family: str) -> float:
    ours = decoder(family)
    theirs, ids = teacher(ours), torch.tensor([PROMPTS[1]])
    ours(ids).logsumexp(-1).mean().backward()
    theirs(ids).logits.logsumexp(-1).mean().backward()
    return relative(
        {name: p.grad for name, p in ours.named_parameters()}, {name: p.grad for name, p in theirs.named_parameters()}
    )


def lora_differences(family: str, folder: Path) -> tuple[float, float]:
    """(output, gradients) with an adapter of ours that PEFT loads."""
    ours, ids = decoder(family), torch.tensor([PROMPTS[1]])
    theirs = teacher(ours)
    add_lora(ours, rank=4, alpha=8, seed=1)
    for number, (_, parameter) in enumerate(lora_parameters(ours)):
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    save_adapter(ours, folder)
    theirs = peft.PeftModel.from_pretrained(theirs, folder, is_trainable=True)
    a, b = ours(ids), theirs(ids).logits
    a.logsumexp(-1).mean().backward()
    b.logsumexp(-1).mean().backward()
    mine = {name: p.grad for name, p in lora_parameters(ours)}
    other = {
        name.removeprefix("base_model.model.").replace(".default", ""): p.grad
        for name, p in theirs.named_parameters()
        if p.requires_grad
    }
    if mine.keys() != other.keys():  # our names leave out the leaf's ".weight"
        other = {name.removesuffix(".weight"): value for name, value in other.items()}
    return (a - b).abs().max().item(), relative(mine, other)


def differing_tokens(family: str) -> tuple[int, int]:
    """(different, compared) greedy tokens: ragged batch of 8 of ours against transformers' generate, prompt by prompt."""
    ours = decoder(family)
    theirs, different, compared = teacher(ours), 0, 0
    theirs.generation_config.eos_token_id = None
    prompts = [one[:200] for one in PROMPTS]
    for prompt, mine in zip(prompts, generate(ours, prompts, max_new_tokens=NEW_TOKENS, stop_ids=()), strict=True):
        ids = torch.tensor([prompt])
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0
        )[0, len(prompt) :].tolist()
        different += sum(a != b for a, b in zip(mine, expected, strict=True))
        compared += len(expected)
    return different, compared


def main() -> None:
    import tempfile

    rows = []
    for family in FAMILIES:
        single, half = logit_differences(family)
        with tempfile.TemporaryDirectory() as folder:
            output, gradients = lora_differences(family, Path(folder))
        different, compared = differing_tokens(family)
        rows.append(
            f"| {family} | {single:.1e} | {half:.1e} | {gradient_difference(family):.1e} | {output:.1e} | {gradients:.1e} | {different} of {compared} |"
        )
        print(rows[-1], flush=True)
    off = decoder("llama3")
    off.model.config = dataclasses.replace(off.config, rope=dataclasses.replace(off.config.rope, rope_theta=505000.0))
    with torch.no_grad():
        control = max(
            (off(torch.tensor([ids])) - decoder("llama3")(torch.tensor([ids]))).abs().max().item() for ids in PROMPTS
        )
    machine = f"{platform.machine()}, {os.cpu_count()} CPU cores, Python {platform.python_version()}"
    with replace_file(OUT) as out:
        out.write(
            f"""# Parity with transformers and PEFT

Written by `python -m benchmarks.parity`; tiny random models of every family (tests/tiny_models.py), prompts of 1 to 200 tokens, on {machine},
torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}. Bars held by the tests: float32 logits 1e-4, bfloat16 logits 2e-2 of the
largest, gradients and LoRA 1e-5, no token different. On a GPU: not measured.
A zero is a true zero, the same operations in the same order. Control: llama3 with its rope_theta 1% off differs by {control:.1e}.

| family | float32 logits, absolute | bfloat16 logits, relative | gradients, relative | LoRA output, absolute | LoRA gradients, relative | greedy tokens that differ |
|-|-|-|-|-|-|-|
"""
            + "\n".join(rows)
            + "\n"
        )


if __name__ == "__main__":
    main()
