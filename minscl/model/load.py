"""Weights: from safetensors into a model built on the meta device, and back to a Hugging Face folder.

Each tensor is read from the memory-mapped file, cast and assigned one at a time, so peak memory is the weights plus one
tensor. Strict: every tensor of the model must be present, and no other. Nothing is ever unpickled.

Read next: decoder.py.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from minscl.errors import InputError, read_json_object
from minscl.files import replace_file
from minscl.hardware import DTYPES
from minscl.model.config import ModelConfig
from minscl.model.decoder import Decoder

SHARD_BYTES = 5 * 10**9  # of one safetensors file


def load_model(folder, *, device="cpu", dtype=None, mapped: bool = False) -> Decoder:
    """The decoder of a Hugging Face folder, in eval mode.

    dtype: a torch dtype or its name; None: config.json's. mapped: leave weights that have this dtype already in
    the memory-mapped file, unread until used (training.distributed.shard_blocks); on a CPU only.

    Raises InputError naming the file and tensor for anything missing, unexpected, misshapen, truncated or corrupt.
    """
    folder = Path(folder)
    config = read_config(folder)
    dtype = dtype or config.torch_dtype
    torch_dtype = DTYPES.get(str(dtype).removeprefix("torch."))
    if torch_dtype is None:
        raise InputError(f"{folder}: dtype {dtype} is not supported; choose one of {', '.join(DTYPES)}")
    with torch.device("meta"):
        model = Decoder(config)
    parameters = dict(model.named_parameters())  # tied weights appear once, under the embedding's name
    loaded: set[str] = set()
    for path, promised in weight_files(folder).items():
        for name, tensor in read_tensors(path, promised):
            if name in loaded:
                raise InputError(f"{path}: tensor {name} appears twice; the folder mixes two models")
            loaded.add(name)
            if is_redundant(name, config):
                continue
            if name not in parameters:
                raise InputError(
                    f"{path}: unexpected tensor {name}; the weights do not belong to config.json's {config.model_type}"
                )
            if tensor.shape != parameters[name].shape:
                raise InputError(
                    f"{path}: tensor {name} is {list(tensor.shape)}, "
                    f"config.json asks for {list(parameters[name].shape)}"
                )
            assign(model, name, tensor.to(device=device, dtype=torch_dtype, copy=not mapped))
    missing = sorted(parameters.keys() - loaded)
    if missing:
        raise InputError(f"{folder}: tensor {missing[0]} is missing ({len(missing)} in all); fetch the folder again")
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval()


def read_config(folder) -> ModelConfig:
    """The ModelConfig in `folder`/config.json. Raises InputError naming the file: missing, not JSON, not supported."""
    path = Path(folder) / "config.json"
    return ModelConfig.from_dict(read_json_object(path, "name a complete Hugging Face model folder"), str(path))


def is_redundant(name: str, config: ModelConfig) -> bool:
    """Whether a tensor can be derived from others: RoPE's buffer in old Llama files, a tied output projection."""
    return name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and config.tie_word_embeddings)


def weight_files(folder: Path) -> Mapping[Path, set[str] | None]:
    """Each safetensors file with the tensors that the index promises in it; None where there is no index.

    Raises InputError for a folder without weights, a damaged index, and a shard that is not in the folder.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.exists():
        weight_map = read_json_object(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise InputError(f"{index}: not a safetensors index; fetch the file again")
        files: dict[Path, set[str]] = {}
        for name, file in weight_map.items():
            if Path(str(file)).name != file or not (folder / file).exists():
                raise InputError(f"{index}: names shard {file} for tensor {name}, which is not in the folder; fetch it")
            files.setdefault(folder / file, set()).add(name)
        return files
    if single.exists():
        return {single: None}
    remedy = "convert the .bin weights to safetensors" if list(folder.glob("*.bin")) else "fetch the weights"
    raise InputError(f"{folder}: no model.safetensors and no model.safetensors.index.json; {remedy}")


def read_tensors(path: Path, promised: set[str] | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields (name, tensor) of one file, memory-mapped.

    Raises InputError for a damaged file, and where its tensors are not exactly those that the index promises.
    """
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            different = sorted(names ^ (promised or names))
            if different:
                raise InputError(
                    f"{path}: the index and the file disagree about tensor {different[0]}; fetch both again"
                )
            for name in sorted(names):
                yield name, file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: truncated or corrupt safetensors ({error}); fetch the file again") from error


def assign(model: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Replace the meta parameter `name` by a real one that holds `tensor`."""
    owner, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(owner), leaf, torch.nn.Parameter(tensor))


def save_model(model: Decoder, folder) -> None:
    """Write config.json and safetensors, in shards of at most 5 GB, that transformers and vLLM load.

    Raises InputError where LoRA is not merged, and where the folder cannot be written.
    """
    folder = Path(folder)
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters())
    unmerged = [name for name in tensors if "lora_" in name]
    if unmerged:
        raise InputError(
            f"{folder}: the model still has LoRA ({unmerged[0]}); call merge_lora before save_model, or save_adapter"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_folder(model, tensors, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot be written ({error}); choose a folder on a disk with free space") from error


def _write_folder(model: Decoder, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """The files of save_model; config.json comes last, so a folder that has it is complete."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0  # bytes in the last shard
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().contiguous()
        size += tensor.nbytes
    files = ["model.safetensors"]
    if len(shards) > 1:
        files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for file, shard in zip(files, shards, strict=True):
        save_file(shard, folder / f".{file}.tmp", metadata={"format": "pt"})
        (folder / f".{file}.tmp").replace(folder / file)
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total_size = sum(tensor.nbytes for tensor in tensors.values())
        with replace_file(folder / "model.safetensors.index.json") as handle:
            json.dump({"metadata": {"total_size": total_size}, "weight_map": weight_map}, handle, indent=1)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    with replace_file(folder / "config.json") as handle:
        json.dump({**model.config.to_dict(), "torch_dtype": dtype}, handle, indent=1)
