"""The shape of a decoder, read from a Hugging Face `config.json` and written back to one.

Supported: Llama 2, 3, 3.1, 3.2, 3.3 and Qwen2, Qwen2.5, Qwen3, dense, with full attention. Anything else raises
InputError with its name. So does a value of another type, or out of the range that the arithmetic of ops.py needs.

Read next: ops.py (RoPE's frequencies), decoder.py.
"""

import dataclasses
from dataclasses import dataclass

from minscl.errors import InputError
from minscl.settings import Settings, show_value

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
# RoPE type → the settings it requires.
ROPE_TYPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor",),
}
INT8 = "int8"  # the value of --weights and of ModelConfig.weights
# config.json's quantization_config of a folder with int8 weights. Without `quant_method` transformers refuses it; of a
# method that it does not know it only warns, and then loads the integers as if they were the weights.
INT8_FORMAT = {
    "format": "minscl-int8",
    "tensors": "weight int8 (out, in), scale float32 (out,): weight[o] * scale[o]",
}
# The largest size of each kind that is believed, several times that of any published model.
MAX_LAYERS, MAX_HEADS, MAX_HEAD_DIM = 1000, 4096, 4096
MAX_WIDTH, MAX_VOCABULARY, MAX_POSITIONS = 2**20, 2**24, 2**31


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
    weights: str = ""  # "int8": the projections are stored as int8.py's layer; "": all in torch_dtype

    @property
    def context_length(self) -> int:
        """The most tokens that a prompt and its answer may have together: YaRN stretches the original context."""
        if self.rope.rope_type != "yarn":
            return self.max_position_embeddings
        original = self.rope.original_max_position_embeddings or self.max_position_embeddings
        return max(self.max_position_embeddings, int(self.rope.factor * original))

    @classmethod
    def from_dict(cls, content: dict, source: str = "config.json") -> "ModelConfig":
        """From config.json's content. Raises InputError naming `source` and the key: missing, of another type, out of
        range, not supported.
        """
        settings = Settings(content, source)
        model_type = settings.string("model_type")
        if model_type not in ARCHITECTURES:
            raise _unsupported(settings, "model_type", f"{', '.join(ARCHITECTURES)} (dense)")
        _refuse_unsupported(settings, model_type)
        heads = settings.integer("num_attention_heads", minimum=1, maximum=MAX_HEADS)
        hidden = settings.integer("hidden_size", minimum=1, maximum=MAX_WIDTH)
        config = cls(
            model_type=model_type,
            vocab_size=settings.integer("vocab_size", minimum=1, maximum=MAX_VOCABULARY),
            hidden_size=hidden,
            intermediate_size=settings.integer("intermediate_size", minimum=1, maximum=MAX_WIDTH),
            num_hidden_layers=settings.integer("num_hidden_layers", minimum=1, maximum=MAX_LAYERS),
            num_attention_heads=heads,
            num_key_value_heads=settings.integer("num_key_value_heads", heads, minimum=1, maximum=heads),
            head_dim=settings.integer(
                "head_dim", 128 if model_type == "qwen3" else hidden // heads, minimum=2, maximum=MAX_HEAD_DIM
            ),
            max_position_embeddings=settings.integer("max_position_embeddings", minimum=1, maximum=MAX_POSITIONS),
            rms_norm_eps=settings.number("rms_norm_eps", 1e-6, above=0, maximum=1),
            tie_word_embeddings=settings.boolean("tie_word_embeddings", False),
            attention_bias=settings.boolean("attention_bias", False) or model_type == "qwen2",
            mlp_bias=settings.boolean("mlp_bias", False),
            qk_norm=model_type == "qwen3",
            rope=_read_rope(settings),
            torch_dtype=settings.string("dtype" if "dtype" in settings else "torch_dtype", "float32"),
            weights=INT8 if settings.values.get("quantization_config") else "",
        )
        if "head_dim" not in settings and model_type != "qwen3" and hidden % heads:
            raise settings.error("num_attention_heads", f"a divisor of hidden_size, {hidden}")
        if heads % config.num_key_value_heads:
            raise settings.error("num_key_value_heads", f"a divisor of num_attention_heads, {heads}")
        if config.head_dim % 2:
            key = "head_dim" if "head_dim" in settings else "hidden_size"
            raise settings.error(key, f"such that head_dim, {config.head_dim}, is even: RoPE rotates pairs")
        return config

    @property
    def matrix_elements(self) -> int:
        """Number of elements of the embeddings and of the blocks' matrices: a model has at least so many."""
        queries, keys = (heads * self.head_dim for heads in (self.num_attention_heads, self.num_key_value_heads))
        block = self.hidden_size * (2 * queries + 2 * keys + 3 * self.intermediate_size)
        return self.hidden_size * self.vocab_size + self.num_hidden_layers * block

    def to_dict(self) -> dict:
        """A config.json that transformers loads (the older spelling of RoPE, which every version reads)."""
        fields = dataclasses.asdict(self)
        rope = {name: value for name, value in fields.pop("rope").items() if value is not None}
        fields.pop("qk_norm")
        quantised = {"quantization_config": INT8_FORMAT} if fields.pop("weights") == INT8 else {}
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
            **quantised,
        }


def _refuse_unsupported(settings: Settings, model_type: str) -> None:
    """Raise InputError for a setting that would change the arithmetic and is not implemented."""
    architectures = settings.strings("architectures", [])
    if architectures and architectures[0] != ARCHITECTURES[model_type]:
        raise InputError(
            f"{settings.source}: architecture {_quoted(architectures[0])} is not supported; "
            f"supported: {', '.join(ARCHITECTURES.values())}"
        )
    if settings.string("hidden_act", "silu") != "silu":
        raise _unsupported(settings, "hidden_act", "silu (SwiGLU)")
    quantised = settings.values.get("quantization_config")
    if quantised and quantised != INT8_FORMAT:
        raise InputError(
            f"{settings.source}: quantization_config is not supported, except minscl's own "
            f"({INT8_FORMAT['format']}); use the unquantised weights"
        )
    uses_window = settings.boolean("use_sliding_window", model_type == "llama")
    layer_types = settings.strings("layer_types", [])
    if uses_window and settings.values.get("sliding_window") or set(layer_types) - {"full_attention"}:
        raise InputError(
            f"{settings.source}: sliding-window attention is in use, which is not supported; supported: full attention"
        )
    if settings.values.get("num_experts") or settings.values.get("num_local_experts"):
        raise InputError(f"{settings.source}: a mixture of experts is not supported; supported: dense models")
    if settings.number("partial_rotary_factor", 1.0) != 1.0:
        raise _unsupported(settings, "partial_rotary_factor", "1.0")


def _unsupported(settings: Settings, key: str, supported: str) -> InputError:
    shown = _quoted(settings.values[key])
    return InputError(f"{settings.source}: {key} {shown} is not supported; supported: {supported}")


def _quoted(value) -> str:
    """A value for a message: short, strings in single quotes."""
    return show_value(value).replace('"', "'")


def _read_rope(settings: Settings) -> RopeConfig:
    """RoPE's settings in either spelling: `rope_parameters`, or `rope_theta` beside `rope_scaling`.

    As in transformers, rope_scaling comes before rope_parameters, and original_max_position_embeddings beside the
    section before the one inside it; without either it is max_position_embeddings.
    """
    older_spelling = "rope_scaling" in settings and settings.values["rope_scaling"] != {}
    rope = settings.section("rope_scaling" if older_spelling else "rope_parameters", {})
    rope_type = rope.string("rope_type", None) or rope.string("type", "default")
    if rope_type not in ROPE_TYPES:
        raise InputError(
            f"{settings.source}: rope type {_quoted(rope_type)} is not supported; supported: {', '.join(ROPE_TYPES)}"
        )
    names = {field.name for field in dataclasses.fields(RopeConfig)} | {"type", "partial_rotary_factor"}
    unknown = sorted(key for key in rope.values if key in rope and key not in names)
    if unknown or rope.number("partial_rotary_factor", 1.0) != 1.0:
        name = _quoted((unknown or ["partial_rotary_factor"])[0])
        raise InputError(f"{settings.source}: rope setting {name} is not supported with rope type {rope_type!r}")
    for name in ROPE_TYPES[rope_type]:
        if name not in rope:
            raise InputError(
                f"{settings.source}: rope type {rope_type!r} needs {name}, which is missing; fetch the file again"
            )
    original = None
    if rope_type in ("llama3", "yarn"):
        key = "original_max_position_embeddings"
        holder = next((holder for holder in (settings, rope) if key in holder), None)
        original = (holder or settings).integer(
            key if holder else "max_position_embeddings", minimum=1, maximum=MAX_POSITIONS
        )
    low_freq_factor = rope.number("low_freq_factor", None, above=0, maximum=1e6)
    return RopeConfig(
        rope_type=rope_type,
        rope_theta=(rope if "rope_theta" in rope else settings).number("rope_theta", 10000.0, above=1, maximum=1e15),
        factor=rope.number("factor", 1.0, minimum=1, maximum=1e6),
        low_freq_factor=low_freq_factor,
        high_freq_factor=rope.number("high_freq_factor", None, above=low_freq_factor or 0, maximum=1e6),
        original_max_position_embeddings=original,
        attention_factor=rope.number("attention_factor", None, above=0, maximum=1e6),
        beta_fast=rope.number("beta_fast", None, minimum=1e-3, maximum=1e6),
        beta_slow=rope.number("beta_slow", None, minimum=1e-3, maximum=1e6),
        mscale=rope.number("mscale", None, minimum=0, maximum=1e3),
        mscale_all_dim=rope.number("mscale_all_dim", None, minimum=0, maximum=1e3),
        truncate=rope.boolean("truncate", None),
    )
