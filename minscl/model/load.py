"""Weights: safetensors straight into a model built on the meta device, and back to a Hugging Face folder.

Each tensor is read from the memory-mapped file, cast and put in place one at a time, so the peak is the weights
themselves and one tensor. Strict: every tensor of the model must be there, and nothing else. Nothing is ever unpickled.

Read next: decoder.py.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minscl.errors import InputError, replace_file
from minscl.hardware import DTYPES
from minscl.model.config import ModelConfig
from minscl.model.decoder import Decoder

SHARD_BYTES = 5 * 10**9


def load_model(folder, *, device="cpu", dtype=None, mapped: bool = False) -> Decoder:
    """The decoder of a model folder, in eval mode. dtype: torch dtype or its name; None takes config.json's.

    `mapped`: on the CPU leave weights of that dtype in the memory-mapped file, unread until used (parallel.shard_blocks).

    Raises InputError naming the tensor and file for anything missing, unexpected, misshapen, truncated or corrupt.
    """
    folder = Path(folder)
    config = read_config(folder)
    name = dtype or config.torch_dtype
    chosen = DTYPES.get(str(name).removeprefix("torch."))
    if chosen is None:
        raise InputError(f"{folder}: dtype {name} is not supported; choose one of {', '.join(DTYPES)}")
    with torch.device("meta"):
        model = Decoder(config)
    wanted = dict(model.named_parameters())  # tied weights appear once, under the embedding's name
    seen = set()
    for path, names in weight_files(folder).items():
        for tensor_name, tensor in read_tensors(path, names):
            if tensor_name in seen:
                raise InputError(f"{path}: tensor {tensor_name} is there twice; the folder mixes two models")
            seen.add(tensor_name)
            if ignored(tensor_name, config):
                continue
            if tensor_name not in wanted:
                raise InputError(
                    f"{path}: unexpected tensor {tensor_name}; the weights do not belong to config.json's {config.model_type}"
                )
            if tensor.shape != wanted[tensor_name].shape:
                raise InputError(
                    f"{path}: tensor {tensor_name} is {list(tensor.shape)}, config.json asks for {list(wanted[tensor_name].shape)}"
                )
            place(model, tensor_name, tensor.to(device=device, dtype=chosen, copy=not mapped))
    missing = sorted(wanted.keys() - seen)
    if missing:
        raise InputError(f"{folder}: tensor {missing[0]} is missing ({len(missing)} in all); fetch the folder again")
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval()


def read_config(folder: Path) -> ModelConfig:
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a Hugging Face model folder") from error
    except ValueError as error:  # not JSON, or not UTF-8
        raise InputError(f"{path}: not JSON ({error}); fetch the file again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no JSON object; fetch the file again")
    return ModelConfig.from_dict(found, str(path))


def ignored(name: str, config: ModelConfig) -> bool:
    """Tensors that carry nothing of their own: RoPE's buffer in old Llama files, and a tied output projection."""
    return name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings)


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """Each file with the tensors the index promises in it (None: no index, one file)."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists():
        try:
            shards = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{index}: not a safetensors index; fetch the file again") from error
        files: dict[Path, set[str]] = {}
        for tensor, file in shards.items():
            if Path(file).name != file or not (folder / file).exists():
                raise InputError(
                    f"{index}: names shard {file} for tensor {tensor}, which is not in the folder; fetch it"
                )
            files.setdefault(folder / file, set()).add(tensor)
        return files
    if single.exists():
        return {single: None}
    remedy = "convert the .bin weights to safetensors" if list(folder.glob("*.bin")) else "fetch the weights"
    raise InputError(f"{folder}: no model.safetensors and no model.safetensors.index.json; {remedy}")


def read_tensors(path: Path, promised: set[str] | None):
    """(name, tensor) of one file, memory-mapped; the tensors must be exactly those the index promises."""
    try:
        with safe_open(path, "pt") as file:
            found = set(file.keys())
            different = sorted(found ^ (promised or found))
            if different:
                raise InputError(
                    f"{path}: the index and the file disagree about tensor {different[0]}; fetch both again"
                )
            for name in sorted(found):
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or corrupt safetensors ({error}); fetch the file again") from error


def place(model: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a real tensor where the meta parameter `name` was."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(tensor))


def save_model(model: Decoder, folder) -> None:
    """Write config.json and safetensors (sharded above 5 GB) that transformers and vLLM load. Raises InputError if LoRA is not merged, and where
    the folder cannot be written."""
    folder = Path(folder)
    tensors = dict(model.named_parameters())
    extra = [name for name in tensors if "lora_" in name]
    if extra:
        raise InputError(
            f"{folder}: the model still has LoRA ({extra[0]}); call merge_lora before save_model, or save_adapter"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_model(model, tensors, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be written ({error}); choose a folder with room") from error


def write_model(model: Decoder, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """The files of save_model; config.json comes last."""
    shards, size = [{}], 0
    for name, tensor in tensors.items():
        bytes_ = tensor.numel() * tensor.element_size()
        if shards[-1] and size + bytes_ > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().contiguous()
        size += bytes_
    names = (
        ["model.safetensors"]
        if len(shards) == 1
        else [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    )
    for file, shard in zip(names, shards, strict=True):
        save_file(shard, folder / f".{file}.tmp", metadata={"format": "pt"})
        (folder / f".{file}.tmp").replace(folder / file)
    if len(shards) > 1:
        total = sum(t.numel() * t.element_size() for t in tensors.values())
        with replace_file(folder / "model.safetensors.index.json") as handle:
            json.dump(
                {
                    "metadata": {"total_size": total},
                    "weight_map": {n: f for f, s in zip(names, shards, strict=True) for n in s},
                },
                handle,
                indent=1,
            )
    with replace_file(folder / "config.json") as handle:
        json.dump(
            {**model.config.to_dict(), "torch_dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch.")},
            handle,
            indent=1,
        )
