"""The study's base models: what an LLM is before SCL, in small. They have never seen a code.

Language modelling on CodiEsp's training and background texts and ACI-Bench's training notes, quoting tasks without
codes, and lists of random identifiers to sort (quoting.py): a base that knows how clinical notes read, can quote from
one and can write a letter with digits, and knows nothing of ICD-10-CM.

Read next: pretrain.py; run.py.
"""

from pathlib import Path

from minscl.data.icd import CodeBook
from minscl.data.spans.gold import gold_pairs
from minscl.hardware import choose_device
from minscl.model import load_tokenizer
from study.corpus import aci_bench_train, background, codiesp
from study.pretrain import STEP, bfloat16_is_faster, new_model, pretrain
from study.quoting import Vocabulary
from study.stream import PairPool, Stream

SIZES = {  # hidden size, intermediate size, layers, heads, key-value heads, head size
    "small": (192, 576, 4, 4, 2, 48),
    "medium": (288, 896, 8, 4, 2, 64),
    "large": (512, 1536, 8, 8, 2, 64),
}
DECAY_SHARE = 0.25
GENTLE_STEPS = 300


def shape(size: str) -> dict[str, int]:
    """config.json's fields for a size of SIZES."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    return dict(zip((*names, "head_dim"), SIZES[size], strict=True))


def train_base(size: str, tokenizer_folder: Path, out: Path, *, steps: int, seed: int) -> Path:
    """Pretrain a base resumably; returns its folder. The tokenizer's files must be in `out` already."""
    if (out / "model.safetensors").exists():
        return out
    codebook, tokenizer = CodeBook.load(), load_tokenizer(tokenizer_folder)
    texts = (
        [document.text for document in codiesp("train", codebook)]
        + [note.text for note in background()]
        + aci_bench_train() * 6
    )
    vocabulary = Vocabulary([pair.evidence for pair in gold_pairs(codebook)], texts)
    device, _ = choose_device("auto", "auto")
    stream = Stream(
        tokenizer,
        texts,
        [],
        PairPool([]),
        lambda progress: {"text": 0.45, "quote": 0.45, "identifiers": 0.1},
        seed,
        vocabulary=vocabulary,
        step_tokens=STEP[device.type].tokens,
    )
    return pretrain(
        stream,
        new_model(tokenizer.vocab_size, seed, **shape(size)),
        out,
        total=steps,
        decay=int(DECAY_SHARE * steps),
        seed=seed,
        gentle=GENTLE_STEPS,
        device=device,
        autocast=bfloat16_is_faster(device),
    )
