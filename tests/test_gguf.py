"""`export --gguf`: what llama.cpp reads is the model and the tokenizer that minscl has."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from minscl import export, gguf_export
from minscl.config import DEMO
from minscl.errors import InputError
from minscl.gguf_export import PRE_TOKENIZERS, interleave_halves, write_gguf
from minscl.lora import add_lora, lora_parameters, save_adapter
from minscl.model import Decoder, ModelConfig, load_model, load_tokenizer, save_model
from study.tokenizer import train_tokenizer
from tests.conftest import call_command
from tests.tiny_models import FAMILIES, SIZE

TEXTS = (
    "Hypertension; E11.65, I'll 'LL see 12345 mg.\n\n  Déjà vu\r\n\t…3rd x",
    " two  spaces   and\n\n\nlines <|end|> 100% ",
    "日本 ½ ²³ ÀÉ I50.23 [1, 2]\n",
)
PATTERNS = {name: (pattern, ignore) for (pattern, ignore), name in PRE_TOKENIZERS.items()}


def write_folder(folder, family="llama3.1", name="llama-bpe", dtype=torch.float32):
    """A tiny random model of a family, with a byte-level tokenizer that splits texts as llama.cpp's `name`."""
    folder.mkdir(exist_ok=True)
    train_tokenizer(["invented text about hypertension, diabetes and E11.65 since 2019"] * 3, folder, vocab_size=360)
    document = json.loads((folder / "tokenizer.json").read_text())
    pattern, document["model"]["ignore_merges"] = PATTERNS[name]
    split, level = document["pre_tokenizer"]["pretokenizers"]
    split["pattern"]["Regex"], level["use_regex"] = pattern, not pattern
    document["pre_tokenizer"]["pretokenizers"] = [split, level] if pattern else [level]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    torch.manual_seed(4)
    config = SIZE | FAMILIES[family] | {"vocab_size": 370}  # ten more rows than tokens
    model = Decoder(ModelConfig.from_dict(config)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.dim() == 1 else 0.0, std=0.2)
    save_model(model.to(dtype), folder)
    return folder


@pytest.fixture
def gguf():
    return pytest.importorskip("gguf", reason="the gguf extra is not installed")


def values(reader, key):
    """A value of the file's metadata."""
    return reader.fields[key].contents()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_file_holds_the_model(gguf, tmp_path, dtype):
    """Guards: rounded weights, a forgotten tensor, Llama's rows in Hugging Face's order, tokens shifted by one."""
    folder = write_folder(tmp_path / "model", dtype=dtype)
    model = load_model(folder)
    write_gguf(model, folder, tmp_path / "model.gguf")
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == len(list(model.parameters())) + 1  # rope_freqs
    for name, weight, heads in (
        ("token_embd.weight", model.model.embed_tokens.weight, 0),
        ("blk.1.attn_q.weight", model.model.layers[1].self_attn.q_proj.weight, 4),
        ("blk.0.attn_k.weight", model.model.layers[0].self_attn.k_proj.weight, 2),
        ("blk.1.attn_v.weight", model.model.layers[1].self_attn.v_proj.weight, 0),
        ("output.weight", model.lm_head.weight, 0),
    ):
        expected = interleave_halves(weight, heads) if heads else weight
        data = torch.from_numpy(np.array(tensors[name].data)).view(dtype).view(weight.shape)
        assert torch.equal(data, expected), name
    assert tensors["output_norm.weight"].tensor_type.name == "F32"
    rows = torch.arange(8.0)[:, None]  # one head of 8: dimension 0 pairs with 4, 1 with 5, ...
    assert interleave_halves(rows, 1).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    tokenizer = load_tokenizer(folder)
    tokens, kinds = values(reader, "tokenizer.ggml.tokens"), values(reader, "tokenizer.ggml.token_type")
    assert len(tokens) == len(kinds) == 370 and tokens[:2] == ["<|bos|>", "<|end|>"]
    assert [kinds[0], kinds[1], kinds[5], kinds[369]] == [3, 3, 1, 5] and tokens[369] == "[PAD369]"
    assert values(reader, "tokenizer.ggml.pre") == "llama-bpe" and values(reader, "llama.rope.freq_base") == 500000.0
    assert values(reader, "tokenizer.ggml.eos_token_id") == tokenizer.stop_ids[0] == 1
    assert not values(reader, "tokenizer.ggml.add_bos_token") and "{% for" in values(reader, "tokenizer.chat_template")
    assert (tmp_path / "model.gguf").stat().st_mode & 0o777 == 0o600


CASES = [("llama3.1", "llama-bpe"), ("llama3.2", "llama-bpe"), ("linear", "gpt-2"), ("qwen2.5", "qwen2")]
CASES += [("yarn", "qwen2"), ("qwen3", "qwen2")]


@pytest.mark.parametrize("family, name", CASES)
def test_llama_cpp_computes_the_same(gguf, tmp_path, family, name):
    """Guards every convention in which the two differ: RoPE's pairs and scaling, biases, tied embeddings, how text is
    split. Logits within 1e-4 of the largest, float32; tokens equal, special ones never out of text."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = write_folder(tmp_path / "model", family, name)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    write_gguf(model, folder, tmp_path / "model.gguf")
    settings = dict(n_ctx=128, logits_all=True, n_threads=1, type_k=0, type_v=0, verbose=False)  # keys in float32
    peer = llama_cpp.Llama(str(tmp_path / "model.gguf"), **settings)
    for text in TEXTS:
        assert peer.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text)
    ids = [token % 350 + 5 for token in range(0, 90 * 7, 7)]  # past the 32 positions of the scaled families
    peer.eval(ids)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].numpy()
    difference = np.abs(peer.scores[: len(ids)] - expected).max()
    assert difference <= 1e-4 * np.abs(expected).max(), difference
    peer.close()


def test_the_command_writes_one_file(gguf, tmp_path):
    """Guards: the adapter left out, the calibration forgotten, half a file where the disk is full."""
    folder = write_folder(tmp_path / "model")
    model = load_model(folder)
    add_lora(model, rank=2, alpha=4, seed=1)
    for _, parameter in lora_parameters(model):
        torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(model, tmp_path / "adapter")
    flags = ["--model", folder, "--adapter", tmp_path / "adapter", "--gguf", "--out"]
    done = call_command(export.main, *flags, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.gguf"]
    [tensor] = [
        tensor
        for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors
        if tensor.name == "blk.0.ffn_up.weight"
    ]
    base = load_model(folder).model.layers[0].mlp.up_proj.weight
    assert not torch.allclose(torch.from_numpy(np.array(tensor.data)), base)

    def no_space(self):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf.GGUFWriter, "write_tensors_to_file", no_space)
        done = call_command(export.main, *flags, tmp_path / "full")
    assert done.returncode == 2 and "model.gguf: cannot be written (No space left" in done.stderr
    assert not (tmp_path / "full").exists() or list((tmp_path / "full").iterdir()) == []


def change_tokenizer(folder, **changes):
    document = json.loads((folder / "tokenizer.json").read_text())
    document["model"].update(changes.pop("model", {}))
    (folder / "tokenizer.json").write_text(json.dumps(document | changes))


def test_what_llama_cpp_would_read_otherwise_is_refused(gguf, tmp_path, monkeypatch):
    """Guards: a file that answers nonsense, found out after it was shared."""
    with pytest.raises(InputError, match="llama.cpp has no tokenizer that splits a text as this one does"):
        gguf_export.check_gguf(DEMO)  # pairs of digits
    folder = write_folder(tmp_path / "model")
    gguf_export.check_gguf(folder)
    for changes in (
        {"model": {"ignore_merges": False}},
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": None},
    ):
        write_folder(tmp_path / "model")
        change_tokenizer(folder, **changes)
        with pytest.raises(InputError, match="tokenizer.json: llama.cpp has no tokenizer that splits"):
            gguf_export.check_gguf(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer.json; --gguf takes byte-level BPE, not sentencepiece"):
        gguf_export.check_gguf(folder)
    folder = write_folder(tmp_path / "yarn", "yarn", "qwen2")
    config = json.loads((folder / "config.json").read_text())
    config["rope_scaling"]["beta_fast"] = 16.0
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="YaRN with settings of its own"):
        gguf_export.check_gguf(folder)
    done = call_command(export.main, "--gguf", "--weights", "int8", "--out", tmp_path / "out")
    assert done.returncode == 2 and "--gguf --weights int8: llama.cpp quantises by its own tools" in done.stderr
    save_model(load_model(write_folder(tmp_path / "lora"), weights="int8"), tmp_path / "int8")
    with pytest.raises(InputError, match="holds int8 weights; export the float model"):
        gguf_export.check_gguf(tmp_path / "int8")
    model = load_model(tmp_path / "lora")
    add_lora(model, rank=2)
    with pytest.raises(InputError, match="takes the merged model"):
        write_gguf(model, tmp_path / "lora", tmp_path / "model.gguf")


def test_without_the_package_one_line_says_so(tmp_path, monkeypatch):
    """Guards: ImportError after minutes of loading."""
    monkeypatch.setitem(sys.modules, "gguf", None)
    done = call_command(export.main, "--gguf", "--out", tmp_path / "out")
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert done.stderr.strip() == "minscl: --gguf: the gguf package is not installed; pip install 'minscl[gguf]'"


def test_a_full_disk_is_one_line_and_leaves_nothing(gguf, tmp_path):
    """Guards: numpy's "23680 requested and 912 written" for a full disk, half a file, a folder that the next try
    refuses. A limit on the size of files stands for the disk."""
    folder = write_folder(tmp_path / "model")
    flags = ["--model", folder, "--adapter", "none", "--gguf", "--out", tmp_path / "out"]
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    program = f"{limit}; from minscl.command import run_command; from minscl.export import main; run_command(main)"
    command = [sys.executable, "-c", program, *map(str, flags)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    [line] = run.stderr.splitlines()
    assert run.returncode == 2 and "out/model.gguf: cannot be written (not all of a tensor: the disk" in line
    assert "free some space" in line and not (tmp_path / "out").exists()
