"""Kinds of inputs: what a model folder, an adapter, a head and a run consist of.

The valid files are those of a random decoder of one layer, so that an input takes milliseconds. What is accepted is
used: a forward pass, a text encoded, a score calibrated.

Read next: records.py.
"""

import functools
import json
import shutil
import tempfile
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import load_file, save_file

from minscl.data.calibration import Calibration, read_calibrations, write_calibration
from minscl.data.types import Assignment, CodedDocument
from minscl.heads.folder import HeadSettings, load_head, read_head_settings, save_head
from minscl.heads.head_model import make_head
from minscl.lora import add_lora, load_adapter, merge_lora, save_adapter
from minscl.model import Decoder, ModelConfig, load_model, load_tokenizer, save_model
from minscl.pretrained import check_vocabulary
from minscl.training import checkpoint
from minscl.training.metrics_log import plot_losses, truncate_metrics
from minscl.training.run_folder import read_matmul_mode
from study.tokenizer import train_tokenizer
from tests.fuzz.kinds import NOTE, FileKind

SHAPE = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
}
ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
ROPE["original_max_position_embeddings"] = 32
IDS = torch.tensor([[1, 2, 3, 4, 5]])
CHAT = [{"role": "user", "content": f"{NOTE} <|end|>"}]


def make_decoder(**changes) -> Decoder:
    """A random model of SHAPE."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig.from_dict(SHAPE | changes)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def write_model(folder: Path) -> None:
    """A model folder without tokenizer."""
    save_model(make_decoder(rope_scaling=ROPE), folder)


@torch.no_grad()
def read_model(folder: Path) -> None:
    """Load the model and let it read a few tokens."""
    load_model(folder)(IDS)


def write_shards(folder: Path) -> None:
    """The same in two files with an index."""
    write_model(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    index: dict = {"metadata": {"total_size": 1}, "weight_map": {}}
    for number, file in enumerate(files):
        names = sorted(tensors)[number::2]
        save_file({name: tensors[name] for name in names}, folder / file)
        index["weight_map"] |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@functools.cache
def _tokenizer_folder() -> Path:
    """A folder with a trained tokenizer, to be copied; removed at exit with the other working files."""
    folder = Path(tempfile.mkdtemp(prefix="minscl-fuzz-"))
    train_tokenizer([NOTE, "Evidence: codes hypertension I10"] * 3, folder, vocab_size=320)
    return folder


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json and the files beside it, with those of older folders."""
    shutil.copytree(_tokenizer_folder(), folder, dirs_exist_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = settings.pop("chat_template").replace("'<|bos|>'", "bos_token")  # not the embedded model's own words
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(
        '{"bos_token": "<|bos|>", "additional_special_tokens": ["<|user|>"]}'
    )
    (folder / "added_tokens.json").write_text('{"<|bos|>": 0, "<|end|>": 1}')


def write_newer_tokenizer(folder: Path) -> None:
    """tokenizer.json with a chat template and the added tokens in tokenizer_config.json."""
    shutil.copytree(_tokenizer_folder(), folder, dirs_exist_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {
        str(number): {"content": name, "lstrip": False, "special": True}
        for number, name in enumerate(("<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"))
    }
    settings["chat_template"] = settings["chat_template"].replace("'<|bos|>'", "bos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_sentencepiece(folder: Path) -> None:
    """tokenizer.model, as of Llama 2."""
    with open(folder / "tokenizer.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([NOTE, "Evidence: codes hypertension I10"] * 9),
            model_writer=file,
            vocab_size=320,
            model_type="bpe",
            byte_fallback=True,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'].strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    )
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def read_tokenizer(folder: Path) -> None:
    """Load the tokenizer, encode a chat and an answer, decode them, list the pieces."""
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, 320, folder)
    ids = tokenizer.encode_chat(CHAT) + tokenizer.encode_answer("Evidence:\n1. HTN\nCodes:\n[1] I10 Hypertension")
    tokenizer.decode(ids)
    tokenizer.pieces()


def write_adapter(folder: Path) -> None:
    """An adapter of make_decoder()."""
    model = make_decoder()
    add_lora(model, rank=2, targets=("q_proj", "v_proj"))
    save_adapter(model, folder, "base")


@torch.no_grad()
def read_adapter(folder: Path) -> None:
    """Load the adapter, merge it and let the model read a few tokens."""
    model = make_decoder()
    load_adapter(model, folder)
    merge_lora(model)
    model(IDS)


HEAD = HeadSettings("plm-icd", ("E11.9", "I10"), 16, 32, False, 0.4, 3, 0.5, "0" * 16)


def write_head(folder: Path) -> None:
    """A head of two labels."""
    save_head(folder, make_head(HEAD.system, HEAD.hidden_size, HEAD.labels), HEAD)


def read_head(folder: Path) -> None:
    """Load the head as `generate --system plm-icd` does."""
    load_head(folder, read_head_settings(folder))


def _new_run():
    parameters = {name: torch.nn.Parameter(torch.ones(2, 3)) for name in ("q.lora_A", "q.lora_B")}
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1)


def write_run(folder: Path) -> None:
    """Checkpoints of steps 1 and 2 with their metrics and settings."""
    parameters, optimizer = _new_run()
    for step in (1, 2):
        for parameter in parameters.values():
            parameter.grad = torch.full((2, 3), float(step))
        optimizer.step()
        checkpoint.save_checkpoint(folder / "checkpoints", step, parameters, optimizer, {"lr": 0.1, "seed": 3})
    record = {"epoch": 0, "lr": 0.1, "tokens": 9, "computed_tokens": 9, "step_seconds": 0.1, "peak_memory_bytes": 1}
    lines = [json.dumps({"step": step, "loss": 2.5 / step} | record) + "\n" for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / "run.json").write_text('{"lr": 0.1, "float32_matmul": "exact"}')


def seal_checkpoint(folder: Path) -> None:
    """Set the check sum right, as no accident would, for every other input."""
    path = folder / "checkpoints" / "step-00000002"
    try:
        state = json.loads((path / "state.json").read_text())
        if (path / "state.safetensors").stat().st_size % 2:
            return
        state["sha256"] = checkpoint._checksum(path / "state.safetensors", state)
        (path / "state.json").write_text(json.dumps(state))
    except (ValueError, TypeError, RecursionError, AttributeError):
        pass


def read_run(folder: Path) -> None:
    """Resume: settings, checkpoint, metrics."""
    parameters, optimizer = _new_run()
    read_matmul_mode(folder / "run.json")
    step = checkpoint.load_checkpoint(folder / "checkpoints", parameters, optimizer, {"lr": 0.1, "seed": 3}, 5)
    truncate_metrics(folder / "metrics.jsonl", step)
    plot_losses(folder)


def write_calibration_file(folder: Path) -> None:
    """calibration.json with two decodings."""
    calibration = Calibration(((0.0, 0.1), (0.5, 0.4), (1.0, 0.9)), 0.3, "dev.jsonl", 20, 60)
    for decoding in ("grounded", "free"):
        write_calibration(folder, decoding, calibration)


def read_calibration_file(folder: Path) -> None:
    """Read all entries, apply each to a document, and write one more."""
    document = CodedDocument("a", NOTE, (Assignment("I10", "", score=0.5), Assignment("J18.9", "", score=1.0)))
    calibrations = read_calibrations(folder)
    for calibration in calibrations.values():
        calibration.apply(document)
        str(calibration)
        write_calibration(folder, "mac", calibration)


KINDS = [
    FileKind("config.json", write_model, read_model, ("config.json",), share=2),
    FileKind("safetensors", write_model, read_model, ("*.safetensors",), share=3),
    FileKind("safetensors index", write_shards, read_model, ("*.index.json", "*.safetensors")),
    FileKind("tokenizer.json", write_tokenizer, read_tokenizer, ("tokenizer.json",), share=2),
    FileKind(
        "tokenizer settings", write_tokenizer, read_tokenizer, ("*_config.json", "added_tokens.json", "*map.json")
    ),
    FileKind("tokenizer_config.json", write_newer_tokenizer, read_tokenizer, ("*_config.json",)),
    FileKind("chat template", write_tokenizer, read_tokenizer, ("*.jinja",)),
    FileKind("tokenizer.model", write_sentencepiece, read_tokenizer, ("tokenizer*",)),
    FileKind("adapter", write_adapter, read_adapter, share=2),
    FileKind("head", write_head, read_head),
    FileKind("checkpoint", write_run, read_run, ("*/step-00000002/*",), seal_checkpoint),
    FileKind("metrics and run.json", write_run, read_run, ("metrics.jsonl", "run.json")),
    FileKind("calibration.json", write_calibration_file, read_calibration_file),
]
