"""Regenerate tests/reference/: transformers' logits of every tiny family, for installs without transformers.

python -m tests.make_reference        (needs the teacher extra)
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.tiny_models import FAMILIES, decoder, make_prompts, teacher

FOLDER = Path(__file__).parent / "reference"
LENGTH = 48  # past the 32 positions of the scaled families' original context


def main() -> None:
    """Write one safetensors file per family: logits, float32 (LENGTH, V)."""
    import transformers

    [ids] = make_prompts((LENGTH,))
    for family in FAMILIES:
        with torch.no_grad():
            logits = teacher(decoder(family))(torch.tensor([ids])).logits[0]  # (T, V)
        save_file(
            {"logits": logits},
            FOLDER / f"{family}.safetensors",
            metadata={"transformers": transformers.__version__, "torch": torch.__version__},
        )


if __name__ == "__main__":
    main()
