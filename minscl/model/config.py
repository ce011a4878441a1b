"""The shape of a decoder, read from a Hugging Face `config.json` and written back to one.

Supported: Llama 2, 3, 3.1, 3.2, 3.3 and Qwen2, Qwen2.5, Qwen3, dense, with full attention. Anything else raises
InputError with its name.

Read next: ops.py (RoPE's frequencies), decoder.py.
"""

import dataclasses
from dataclasses import dataclass

from minscl.errors import InputError

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# RoPE type → the settings it requires.
ROPE_TYPES = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}


@dataclass(frozen=True)
class RopeConfig:
    """RoPE's settings under Hugging Face's names; None where the type does not use the field."""

    rope_type: str = "default"
    rope_theta: float = 10000.0
    factor: float = 1.0
    low_freq_factor: float | None = None  # llama3
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None  # llama3, yarn
    attention_factor: float | None = None  # yarn
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None


@dataclass(frozen=True)
class ModelConfig:
    """A decoder's shape and settings; the field names are config.json's."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    attention_bias: bool  # q, k, v and (llama, qwen3) o
    mlp_bias: bool
    qk_norm: bool
    rope: RopeConfig
    torch_dtype: str

    @classmethod
    def from_dict(cls, settings: dict, source: str = "config.json") -> "ModelConfig":
        """From config.json's content. Raises InputError, naming `source` and what is missing or not supported."""
        model_type = settings.get("model_type")
        if model_type not in ARCHITECTURES:
            raise InputError(
                f"{source}: model_type {model_type!r} is not supported; supported: {', '.join(ARCHITECTURES)} (dense)"
            )
        _refuse_unsupported(settings, model_type, source)
        try:
            hidden, heads = settings["hidden_size"], settings["num_attention_heads"]
            return cls(
                model_type=model_type,
                vocab_size=settings["vocab_size"],
                hidden_size=hidden,
                intermediate_size=settings["intermediate_size"],
                num_hidden_layers=settings["num_hidden_layers"],
                num_attention_heads=heads,
                num_key_value_heads=settings.get("num_key_value_heads") or heads,
                head_dim=settings.get("head_dim") or (128 if model_type == "qwen3" else hidden // heads),
                max_position_embeddings=settings["max_position_embeddings"],
                rms_norm_eps=settings.get("rms_norm_eps", 1e-6),
                tie_word_embeddings=settings.get("tie_word_embeddings", False),
                attention_bias=model_type == "qwen2" or settings.get("attention_bias", False),
                mlp_bias=settings.get("mlp_bias", False),
                qk_norm=model_type == "qwen3",
                rope=_read_rope(settings, source),
                torch_dtype=settings.get("dtype") or settings.get("torch_dtype") or "float32",
            )
        except KeyError as error:
            raise InputError(f"{source}: {error.args[0]} is missing; it is needed to build the model") from error

    def to_dict(self) -> dict:
        """A config.json that transformers loads (the older spelling of RoPE, which every version reads)."""
        fields = dataclasses.asdict(self)
        rope = {name: value for name, value in fields.pop("rope").items() if value is not None}
        fields.pop("qk_norm")
        theta = rope.pop("rope_theta")
        if self.model_type == "qwen2":
            fields.pop("attention_bias")
        if self.model_type != "llama":
            fields.pop("mlp_bias")
        return {
            "architectures": [ARCHITECTURES[self.model_type]],
            "hidden_act": "silu",
            "rope_theta": theta,
            "rope_scaling": None if rope["rope_type"] == "default" else rope,
            **fields,
        }


def _refuse_unsupported(settings: dict, model_type: str, source: str) -> None:
    """Raise InputError for a setting that would change the arithmetic and is not implemented."""
    architecture = (settings.get("architectures") or [ARCHITECTURES[model_type]])[0]
    if architecture != ARCHITECTURES[model_type]:
        raise InputError(
            f"{source}: architecture {architecture} is not supported; supported: {', '.join(ARCHITECTURES.values())}"
        )
    if settings.get("hidden_act", "silu") != "silu":
        raise InputError(f"{source}: hidden_act {settings['hidden_act']!r} is not supported; supported: silu (SwiGLU)")
    if settings.get("quantization_config"):
        raise InputError(f"{source}: quantization_config is not supported; use the unquantised weights")
    sliding = settings.get("sliding_window") if settings.get("use_sliding_window", model_type == "llama") else None
    if sliding or any(layer != "full_attention" for layer in settings.get("layer_types") or ()):
        raise InputError(
            f"{source}: sliding-window attention is in use, which is not supported; supported: full attention"
        )
    if settings.get("num_experts") or settings.get("num_local_experts"):
        raise InputError(f"{source}: a mixture of experts is not supported; supported: dense models")
    if settings.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            f"{source}: partial_rotary_factor {settings['partial_rotary_factor']} is not supported; supported: 1.0"
        )


def _read_rope(settings: dict, source: str) -> RopeConfig:
    """RoPE's settings in either spelling: `rope_parameters`, or `rope_theta` beside `rope_scaling`."""
    rope = {**(settings.get("rope_scaling") or {}), **(settings.get("rope_parameters") or {})}
    rope_type = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    if rope_type not in ROPE_TYPES:
        raise InputError(f"{source}: rope type {rope_type!r} is not supported; supported: {', '.join(ROPE_TYPES)}")
    rope.setdefault("rope_theta", settings.get("rope_theta", 10000.0))
    unknown = sorted(rope.keys() - {field.name for field in dataclasses.fields(RopeConfig)} - {"partial_rotary_factor"})
    if unknown or rope.pop("partial_rotary_factor", 1.0) != 1.0:
        name = (unknown or ["partial_rotary_factor"])[0]
        raise InputError(f"{source}: rope setting {name!r} is not supported with rope type {rope_type!r}")
    for name in ROPE_TYPES[rope_type]:
        if rope.get(name) is None:
            raise InputError(f"{source}: rope type {rope_type!r} needs {name}, which is missing; fetch the file again")
    return RopeConfig(rope_type=rope_type, **rope)
