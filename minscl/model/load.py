"""Weights: from safetensors into a model built on the meta device, and back to a Hugging Face folder.

Each tensor is read from the memory-mapped file, cast or quantised (int8.py) and assigned one at a time, so peak memory
is the weights plus one tensor. Strict: every tensor of the model must be present, and no other, and hold finite
numbers.

Read next: folder_config.py; decoder.py; ../weights.py for the files.
"""

import contextlib
import itertools
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import torch

from minscl.disk import PRIVATE
from minscl.errors import InputError
from minscl.files import list_folder, make_folders, path_kind, remove_file, replace_file, write_errors
from minscl.hardware import DTYPES, memory_errors
from minscl.model.config import INT8, ModelConfig
from minscl.model.decoder import Decoder
from minscl.model.folder_config import EMBEDDINGS, HEAD, read_config
from minscl.model.int8 import Int8Linear, quantise, quantise_weights
from minscl.weights import (
    FLOAT_TYPES,
    INDEX_FILE,
    INT8_TYPE,
    SINGLE_FILE,
    is_finite,
    read_tensors,
    weight_files,
    write_tensors,
)

STORED_TYPES = {"": FLOAT_TYPES, INT8: (*FLOAT_TYPES, INT8_TYPE)}  # ModelConfig.weights → of a folder's tensors
Update = Callable[[str, torch.Tensor], torch.Tensor]
SHARD_BYTES = 5 * 10**9  # of one safetensors file
SAVED_WEIGHTS = re.compile(r"model\.safetensors(\.index\.json)?|model(-\d+)?-\d{5}-of-\d{5}\.safetensors")


def load_model(
    folder, *, device="cpu", dtype=None, mapped: bool = False, weights: str = "", update: Update | None = None
) -> Decoder:
    """The decoder of a Hugging Face folder, in eval mode.

    dtype: a torch dtype or its name; None: config.json's. mapped: leave weights that have this dtype already in
    the memory-mapped file, unread until used (training.distributed.shard_blocks); on a CPU only. weights: "int8"
    quantises every projection as it is read (int8.py); "": as stored, which may be int8 too. update(layer, weight):
    the float weight that is quantised in place of the stored one (an adapter merged in); not called otherwise.

    Raises InputError naming the file and tensor for anything missing, unexpected, misshapen, truncated, corrupt or not
    finite (not checked where mapped).
    """
    folder = Path(folder)
    with memory_errors(f"--dtype bfloat16, --weights int8, or a smaller model than {folder}"):
        config = read_config(folder)
        dtype = dtype or config.torch_dtype
        torch_dtype = DTYPES.get(str(dtype).removeprefix("torch."))
        if torch_dtype is None:
            raise InputError(f"{folder}: dtype {dtype} is not supported; choose one of {', '.join(DTYPES)}")
        with torch.device("meta"):
            model = Decoder(config)
        if is_int8 := INT8 in (weights, config.weights):
            quantise_weights(model)
        _load_tensors(model, folder, config, device, torch_dtype, mapped, update)
    if config.tie_word_embeddings and not is_int8:
        model.lm_head.weight = model.model.embed_tokens.weight
    return model.eval()


def _load_tensors(model: Decoder, folder: Path, config: ModelConfig, device, dtype, mapped, update) -> None:
    """Replace all tensors of `model`, on the meta device, by those of the folder, which `config` describes; other
    arguments and errors as for load_model.
    """
    expected = _expected_tensors(model, config)
    files: dict[str, Path] = {}  # of each tensor
    missing = set(expected)
    for path, promised in weight_files(folder).items():
        for name, tensor in read_tensors(path, promised, types=STORED_TYPES[config.weights]):
            if name in files:
                raise InputError(f"{path}: tensor {name} is also in {files[name].name}; the folder mixes two models")
            files[name] = path
            if name.endswith("rotary_emb.inv_freq"):  # RoPE's buffer in old Llama files
                continue
            if name == HEAD and config.tie_word_embeddings:  # equal, or the only one of the two (read_config)
                name = EMBEDDINGS
            if name not in expected:
                raise InputError(
                    f"{path}: unexpected tensor {name}; the weights do not belong to config.json's {config.model_type}"
                )
            if tensor.shape != expected[name].shape:
                raise InputError(
                    f"{path}: tensor {name} is {list(tensor.shape)}, config.json asks for {list(expected[name].shape)}"
                )
            _check_type(path, name, tensor, expected[name], config)
            layer = name.removesuffix(".weight")
            quantises = expected[name].dtype == torch.int8 and tensor.dtype != torch.int8
            is_parameter = isinstance(expected[name], torch.nn.Parameter)  # else an Int8Linear's weight or scale
            to_dtype = dtype if is_parameter else tensor.dtype if quantises else expected[name].dtype
            weight = tensor.to(device=device, dtype=to_dtype, copy=not mapped)
            if not (mapped or is_finite(weight)):
                raise InputError(f"{path}: {not_finite(name, tensor, dtype)}")
            if quantises:
                weight, scale = quantise(update(layer, weight) if update else weight)
                assign(model, f"{layer}.scale", scale)
            assign(model, name, weight)
            if name == EMBEDDINGS and config.tie_word_embeddings and isinstance(model.lm_head, Int8Linear):
                model.lm_head.weight, model.lm_head.scale = quantise(tensor.to(device))
            missing.discard(name)
    if missing:
        raise InputError(f"{folder}: tensor {min(missing)} is missing ({len(missing)} in all); fetch the folder again")


def _expected_tensors(model: Decoder, config: ModelConfig) -> dict[str, torch.Tensor]:
    """What the files of a folder with this config.json must hold, on the meta device: a tied head is not among it."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())  # tied weights once, as the embeddings
    derived = ("lm_head.",) if config.tie_word_embeddings else ()
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(derived) and (config.weights or not name.endswith(".scale"))
    }


def _check_type(path: Path, name: str, tensor: torch.Tensor, expected: torch.Tensor, config: ModelConfig) -> None:
    """Raises InputError where an int8 folder has float weights in a projection, or int8 elsewhere."""
    if config.weights and (tensor.dtype == torch.int8) != (expected.dtype == torch.int8):
        asked = "int8" if expected.dtype == torch.int8 else "floating point"
        raise InputError(
            f"{path}: tensor {name} is {str(tensor.dtype).removeprefix('torch.')}, config.json's quantization_config "
            f"asks for {asked}; export the model again"
        )


def not_finite(name: str, tensor: torch.Tensor, dtype: torch.dtype) -> str:
    """What is wrong with a tensor that is not finite in `dtype`, and the remedy."""
    if is_finite(tensor):
        return f"tensor {name} holds numbers too large for {dtype}; use --dtype float32 or bfloat16"
    return f"tensor {name} holds NaN or infinity; fetch the file again, or train the model again"


def assign(model: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Replace the meta parameter or buffer `name` by a real one that holds `tensor`."""
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    is_parameter = isinstance(getattr(module, leaf), torch.nn.Parameter)
    setattr(module, leaf, torch.nn.Parameter(tensor) if is_parameter else tensor)


def save_model(model: Decoder, folder) -> None:
    """Write config.json and safetensors, in shards of at most 5 GB, that transformers and vLLM load; int8 weights
    (int8.py) as they are, for minscl alone.

    Over an earlier model of the same shape, the folder holds either model whole at any moment: new weights get a name
    of their own or replace a single file at once, and the earlier ones are removed last. config.json follows the
    weights, so a new folder that has it is complete.

    Raises InputError, before anything is written, where LoRA is not merged and where a tensor is not finite; and where
    the folder cannot be written.
    """
    folder = Path(folder)
    tensors: dict[str, torch.Tensor] = dict(model.named_parameters())
    is_tied = model.lm_head.weight is model.model.embed_tokens.weight  # as it is, not as it was read
    if model.config.weights == INT8:
        is_tied = model.config.tie_word_embeddings
        tensors |= _expected_tensors(model, model.config)
    unmerged = [name for name in tensors if "lora_" in name]
    if unmerged:
        raise InputError(
            f"{folder}: the model still has LoRA ({unmerged[0]}); call merge_lora before save_model, or save_adapter"
        )
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise InputError(
                f"{folder}: not written, tensor {name} holds NaN or infinity; check the adapter's lora_alpha, or load "
                "the model in float32"
            )
    settings = model.config.to_dict() | {
        "tie_word_embeddings": is_tied,
        "torch_dtype": str(next(iter(tensors.values())).dtype).removeprefix("torch."),
    }
    with write_errors(folder, "choose a folder on a disk with free space"):
        make_folders(folder)
    written = _write_weights(tensors, folder)
    with replace_file(folder / "config.json") as handle:
        json.dump(settings, handle, indent=1)
    for path in list_folder(folder):
        if SAVED_WEIGHTS.fullmatch(path.name) and path.name not in written:
            remove_file(path)


def _write_weights(tensors: dict[str, torch.Tensor], folder: Path) -> set[str]:
    """Write the safetensors files and the index, if there are several; returns their names. On any exception the folder
    stays as it was.
    """
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0  # bytes in the last shard
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    files = _new_names(folder, len(shards))
    earlier = folder / SINGLE_FILE
    permissions = stat.S_IMODE(earlier.stat().st_mode) if earlier.exists() else PRIVATE
    try:
        for shard, file in zip(shards, files, strict=True):
            with replace_file(folder / file, "wb", permissions=permissions) as handle:
                write_tensors(handle, shard, {"format": "pt"})
        if len(files) == 1:
            return set(files)
        weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total_size = sum(tensor.nbytes for tensor in tensors.values())
        with replace_file(folder / INDEX_FILE) as handle:
            json.dump({"metadata": {"total_size": total_size}, "weight_map": weight_map}, handle, indent=1)
    except BaseException:
        for file in files if len(files) > 1 else ():  # no index names them yet
            with contextlib.suppress(InputError):
                remove_file(folder / file)
        raise
    return {*files, INDEX_FILE}


def _new_names(folder: Path, shards: int) -> list[str]:
    """Hugging Face's names for the files of so many shards; names in use get a number, so that no shard of an earlier
    model is replaced before all are written.
    """
    if shards == 1:
        return [SINGLE_FILE]
    for number in itertools.count(1):
        stem = "model" if number == 1 else f"model-{number}"
        names = [f"{stem}-{shard:05d}-of-{shards:05d}.safetensors" for shard in range(1, shards + 1)]
        if all(path_kind(folder / name) == "missing" for name in names):
            return names
    raise AssertionError("unreachable")
