"""The shape of a decoder, read from a Hugging Face `config.json` and written back to one.

Supported: Llama 2, 3, 3.1, 3.2, 3.3 and Qwen2, Qwen2.5, Qwen3, dense, with full attention. Anything else is refused by name.

Read next: ops.py (RoPE's frequencies), decoder.py.
"""

import dataclasses
from dataclasses import dataclass

from minscl.errors import InputError

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# Type → what it cannot do without.
ROPE_TYPES = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}


@dataclass(frozen=True)
class RopeConfig:
    """RoPE's settings under Hugging Face's names; `None` where the type does not use the field."""

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
    """A decoder's shape; the field names are config.json's."""

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
    def from_dict(cls, found: dict, source: str = "config.json") -> "ModelConfig":
        """From config.json's content; raises InputError naming what is not supported. `source` names the file."""
        kind = found.get("model_type")
        if kind not in ARCHITECTURES:
            raise InputError(
                f"{source}: model_type {kind!r} is not supported; supported: {', '.join(ARCHITECTURES)} (dense)"
            )
        _refuse(found, kind, source)
        try:
            hidden, heads = found["hidden_size"], found["num_attention_heads"]
            return cls(
                model_type=kind,
                vocab_size=found["vocab_size"],
                hidden_size=hidden,
                intermediate_size=found["intermediate_size"],
                num_hidden_layers=found["num_hidden_layers"],
                num_attention_heads=heads,
                num_key_value_heads=found.get("num_key_value_heads") or heads,
                head_dim=found.get("head_dim") or (128 if kind == "qwen3" else hidden // heads),
                max_position_embeddings=found["max_position_embeddings"],
                rms_norm_eps=found.get("rms_norm_eps", 1e-6),
                tie_word_embeddings=found.get("tie_word_embeddings", False),
                attention_bias=kind == "qwen2" or found.get("attention_bias", False),
                mlp_bias=found.get("mlp_bias", False),
                qk_norm=kind == "qwen3",
                rope=_rope(found, source),
                torch_dtype=found.get("dtype") or found.get("torch_dtype") or "float32",
            )
        except KeyError as error:
            raise InputError(f"{source}: {error.args[0]} is missing; it is needed to build the model") from error

    def to_dict(self) -> dict:
        """A config.json that transformers loads (the older spelling of RoPE, which every version reads)."""
        kept = dataclasses.asdict(self)
        rope = {name: value for name, value in kept.pop("rope").items() if value is not None}
        kept.pop("qk_norm")
        theta = rope.pop("rope_theta")
        if rope["rope_type"] == "default":
            rope = None
        if self.model_type == "qwen2":
            kept.pop("attention_bias")
        if self.model_type != "llama":
            kept.pop("mlp_bias")
        return {
            "architectures": [ARCHITECTURES[self.model_type]],
            "hidden_act": "silu",
            "rope_theta": theta,
            "rope_scaling": rope,
            **kept,
        }


def _refuse(found: dict, kind: str, source: str) -> None:
    """Raise InputError for what would change the arithmetic and is not implemented."""
    architecture = (found.get("architectures") or [ARCHITECTURES[kind]])[0]
    if architecture != ARCHITECTURES[kind]:
        raise InputError(
            f"{source}: architecture {architecture} is not supported; supported: {', '.join(ARCHITECTURES.values())}"
        )
    if found.get("hidden_act", "silu") != "silu":
        raise InputError(f"{source}: hidden_act {found['hidden_act']!r} is not supported; supported: silu (SwiGLU)")
    if found.get("quantization_config"):
        raise InputError(f"{source}: quantization_config is not supported; use the unquantised weights")
    sliding = found.get("sliding_window") if found.get("use_sliding_window", kind == "llama") else None
    if sliding or any(one != "full_attention" for one in found.get("layer_types") or ()):
        raise InputError(
            f"{source}: sliding-window attention is in use, which is not supported; supported: full attention"
        )
    if found.get("num_experts") or found.get("num_local_experts"):
        raise InputError(f"{source}: a mixture of experts is not supported; supported: dense models")
    if found.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            f"{source}: partial_rotary_factor {found['partial_rotary_factor']} is not supported; supported: 1.0"
        )


def _rope(found: dict, source: str) -> RopeConfig:
    """Both spellings: `rope_parameters`, or `rope_theta` beside `rope_scaling`."""
    settings = {**(found.get("rope_scaling") or {}), **(found.get("rope_parameters") or {})}
    kind = settings.pop("rope_type", None) or settings.pop("type", None) or "default"
    settings.pop("type", None)
    if kind not in ROPE_TYPES:
        raise InputError(f"{source}: rope type {kind!r} is not supported; supported: {', '.join(ROPE_TYPES)}")
    settings.setdefault("rope_theta", found.get("rope_theta", 10000.0))
    unknown = sorted(settings.keys() - {one.name for one in dataclasses.fields(RopeConfig)} - {"partial_rotary_factor"})
    if unknown or settings.pop("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(
            f"{source}: rope setting {(unknown or ['partial_rotary_factor'])[0]!r} is not supported with rope type {kind!r}"
        )
    for name in ROPE_TYPES[kind]:
        if settings.get(name) is None:
            raise InputError(f"{source}: rope type {kind!r} needs {name}, which is missing; fetch the file again")
    return RopeConfig(rope_type=kind, **settings)
