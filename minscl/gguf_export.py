"""A merged decoder as one GGUF file for llama.cpp, Ollama and LM Studio (`export --gguf`), by the `gguf` package.

    config.json      → llama.*, qwen2.*, qwen3.*     shape, RoPE, the norms' epsilon
    tokenizer.json   → tokenizer.ggml.*              byte-level BPE: tokens, merges, what splits a text, special tokens
    weights          → blk.N.attn_q.weight ...       in their dtype, norms and biases in float32

llama.cpp rotates neighbouring pairs of a Llama head, Hugging Face's checkpoints halves of it, so the rows of Llama's
q_proj and k_proj change places; Qwen's stay. Llama 3's scaled frequencies are a tensor, rope_freqs.weight.

What llama.cpp would compute otherwise is refused: a tokenizer that splits texts by another pattern than those it knows
by name, sentencepiece, YaRN with settings of its own. It does not normalise text (NFC), as Qwen's tokenizer does.

Read next: export.py, the command; model/token_backends.py.
"""

import errno
from pathlib import Path
from typing import Any

import torch

from minscl.errors import InputError
from minscl.files import path_kind, replace_by_name
from minscl.model import Decoder, ModelConfig, load_tokenizer, read_config
from minscl.model.chat_template import find_template
from minscl.model.ops import rope_frequencies
from minscl.model.token_backends import TokenizerJson
from minscl.model.token_settings import read_optional, read_token_settings
from minscl.settings import Settings, read_settings

FILE = "model.gguf"
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_OTHERS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# (pattern that splits a text, whether a whole word of the vocabulary is taken without its merges) → llama.cpp's name
PRE_TOKENIZERS = {
    ("", False): "gpt-2",  # ByteLevel's own pattern
    (rf"{_LETTERS}|\p{{N}}{{1,3}}|{_OTHERS}", True): "llama-bpe",
    (rf"{_LETTERS}|\p{{N}}|{_OTHERS}", False): "qwen2",
}


def check_gguf(folder: Path) -> None:
    """Raises InputError where the package is missing or llama.cpp would not compute what the model in `folder` does."""
    _gguf()
    config = read_config(folder)
    if config.weights:
        raise InputError(f"{folder}: holds {config.weights} weights; export the float model that they were made of")
    _check_rope(config, folder)
    _pre_tokenizer(folder)


def write_gguf(model: Decoder, folder: Path, path: Path) -> None:
    """Write `model`, LoRA merged, with the tokenizer of `folder` to `path`, which appears whole or not at all.

    Raises InputError as check_gguf does, for weights that are not of one float dtype, and where writing fails.
    """
    gguf, config = _gguf(), model.config
    check_gguf(folder)
    tensors = gguf_tensors(model, gguf)
    writer = gguf.GGUFWriter(None, config.model_type)
    dtype = str(model.lm_head.weight.dtype).removeprefix("torch.")
    names = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16"}
    writer.add_file_type(gguf.LlamaFileType[names[dtype]])
    add_shape(writer, config, gguf)
    add_tokenizer(writer, folder, config.vocab_size, gguf)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.bfloat16:  # numpy has no such type
            writer.add_tensor(name, tensor.view(torch.uint8).numpy(), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            writer.add_tensor(name, tensor.numpy())
    with replace_by_name(path) as (_, temporary):
        try:
            writer.write_header_to_file(temporary)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
        except OSError as error:
            if error.errno is None:  # numpy says how many numbers it wrote, not why it stopped
                raise OSError(errno.ENOSPC, "not all of a tensor: the disk or a limit of files is full") from error
            raise


def gguf_tensors(model: Decoder, gguf: Any) -> dict[str, torch.Tensor]:
    """llama.cpp's name → tensor on the CPU: matrices in the model's dtype, vectors in float32. Raises InputError."""
    config, tensors = model.config, {}
    with torch.device("meta"):
        expected = {name for name, _ in Decoder(config).named_parameters()}
    weights = dict(model.named_parameters())
    matrices = {tensor.dtype for tensor in weights.values() if tensor.dim() == 2}
    if weights.keys() != expected or not matrices <= {torch.float32, torch.float16, torch.bfloat16}:
        raise InputError("--gguf: takes the merged model in float32, float16 or bfloat16; leave --weights out")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[config.model_type.upper()], config.num_hidden_layers)
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu()
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        if heads and config.model_type == "llama":
            tensor = interleave_halves(tensor, heads)
        tensor = (tensor if tensor.dim() == 2 else tensor.float()).contiguous()
        tensors[names.get_name(name, try_suffixes=(".weight", ".bias"))] = tensor
    if model.lm_head.weight is model.model.embed_tokens.weight:
        tensors.pop("output.weight", None)  # llama.cpp takes the embeddings
    if config.rope.rope_type == "llama3":
        tensors["rope_freqs.weight"] = frequency_factors(config)
    return tensors


def interleave_halves(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows (heads * D, ...) of q_proj or k_proj: dimension i of a head and i + D/2 become neighbours, 2i and 2i + 1."""
    halves = tensor.unflatten(0, (heads, 2, -1))  # (heads, 2, D/2, ...)
    return halves.transpose(1, 2).reshape(tensor.shape)


def frequency_factors(config: ModelConfig) -> torch.Tensor:
    """By how much Llama 3.1 divides each of RoPE's frequencies, float32 (D/2,)."""
    scaled, _ = rope_frequencies(config.rope, config.head_dim, config.max_position_embeddings)
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    return 1.0 / (config.rope.rope_theta**exponents) / scaled


def add_shape(writer: Any, config: ModelConfig, gguf: Any) -> None:
    """The settings of config.json."""
    rope = config.rope
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(rope.rope_theta)
    if rope.rope_type in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope.rope_type))
        writer.add_rope_scaling_factor(rope.factor)
    if rope.rope_type == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope.original_max_position_embeddings or config.max_position_embeddings)


def add_tokenizer(writer: Any, folder: Path, vocab_size: int, gguf: Any) -> None:
    """The vocabulary, its merges, the special tokens and the chat template of `folder`."""
    config = read_optional(folder / "tokenizer_config.json")
    settings, template = read_token_settings(folder, config), find_template(folder, config)
    backend = TokenizerJson(folder / "tokenizer.json", settings, template[0] if template else "")
    control, added, names = set(backend.control.values()), backend.added(), backend.names()
    names = [*names, *[None] * vocab_size][:vocab_size]  # the embeddings may have rows without a token
    merges = read_settings(folder / "tokenizer.json").section("model").values.get("merges") or []
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(folder))
    writer.add_token_list([f"[PAD{id}]" if name is None else name for id, name in enumerate(names)])
    types = [token_type(name, id in control, id in added, gguf) for id, name in enumerate(names)]
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    bos = backend.control.get(settings.named.get("bos_token", ""))
    if bos is not None:
        writer.add_bos_token_id(bos)
    writer.add_add_bos_token(bos is not None and backend.starts_with(bos))
    writer.add_eos_token_id(load_tokenizer(folder).stop_ids[0])  # the end of an answer
    if template:
        writer.add_chat_template(template[0])


def token_type(name: str | None, is_control: bool, is_added: bool, gguf: Any) -> Any:
    """llama.cpp's kind of a token: control tokens never come from text, added words come before the merges."""
    kinds = gguf.TokenType
    if name is None:
        return kinds.UNUSED
    if is_control:
        return kinds.CONTROL
    return kinds.USER_DEFINED if is_added else kinds.NORMAL


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise InputError("--gguf: the gguf package is not installed; pip install 'minscl[gguf]'") from error
    return gguf


def _check_rope(config: ModelConfig, folder: Path) -> None:
    """Raises InputError for settings of YaRN that a GGUF file does not hold."""
    rope = config.rope
    own = (rope.attention_factor, rope.beta_fast, rope.beta_slow, rope.mscale, rope.mscale_all_dim, rope.truncate)
    if rope.rope_type == "yarn" and any(value is not None for value in own):
        raise InputError(f"{folder / 'config.json'}: YaRN with settings of its own has no place in GGUF; use vLLM")


def _pre_tokenizer(folder: Path) -> str:
    """llama.cpp's name for how the tokenizer splits a text. Raises InputError for one that it does not know."""
    path = folder / "tokenizer.json"
    if path_kind(path) == "missing":
        raise InputError(f"{folder}: no tokenizer.json; --gguf takes byte-level BPE, not sentencepiece; use vLLM")
    document = read_settings(path)
    model, normalizer = document.section("model"), document.section("normalizer", {}).values.get("type")
    pattern, ignores_merges = _split_pattern(document), model.boolean("ignore_merges", False)
    name = None if pattern is None else PRE_TOKENIZERS.get((pattern, ignores_merges))
    if model.string("type", "BPE") != "BPE" or model.boolean("byte_fallback", False) or normalizer not in (None, "NFC"):
        name = None
    if name is None:
        raise InputError(
            f"{path}: llama.cpp has no tokenizer that splits a text as this one does; --gguf takes byte-level BPE as "
            "of Llama 3, Qwen 2 to 3 and GPT-2; use the folder with vLLM"
        )
    return name


def _split_pattern(document: Settings) -> str | None:
    """The regular expression by which a byte-level tokenizer splits a text, "" for ByteLevel's own; None: another."""
    pre_tokenizer = document.section("pre_tokenizer", {}).values
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return None
    if [step.get("type") for step in steps] not in (["ByteLevel"], ["Split", "ByteLevel"]):
        return None
    if steps[-1].get("add_prefix_space", True) or steps[-1].get("use_regex", True) != (len(steps) == 1):
        return None
    if len(steps) == 1:
        return ""
    pattern = steps[0].get("pattern")
    plain = steps[0].get("behavior") == "Isolated" and not steps[0].get("invert")
    expression = pattern.get("Regex") if plain and isinstance(pattern, dict) else None
    return expression if isinstance(expression, str) else None
