"""The decoder: Llama and Qwen as one stack of blocks, with Hugging Face's parameter names, so weights load unchanged.

    input_ids (B, T) → embed_tokens → blocks → norm → lm_head → logits (B, T, V)
    block              x + attention(norm(x)), then x + mlp(norm(x))

The decoder has no state: positions, masks and, for inference, a KV cache (infer/cache.py) are passed in.
Shapes: B batch, T new tokens, S cached keys, C hidden, H query heads, K key/value heads, D head_dim, F intermediate,
V vocabulary, N tokens whose output is needed.

Read next: ops.py for the maths, load.py for the weights.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from minscl.model.config import ModelConfig
from minscl.model.int8 import Int8Linear
from minscl.model.ops import Mask, apply_rope, attention, rms_norm, rope_frequencies


class RMSNorm(nn.Module):
    """rms_norm with a weight: x (..., size) → the same shape and dtype."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., size) → the same shape and dtype."""
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention, with Qwen2's biases and Qwen3's norms of each head's query and key."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_dim = config.head_dim
        hidden, bias = config.hidden_size, config.attention_bias
        self.qkv_sizes = [
            heads * config.head_dim
            for heads in (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        ]
        self.q_proj = nn.Linear(hidden, self.qkv_sizes[0], bias=bias)
        self.k_proj = nn.Linear(hidden, self.qkv_sizes[1], bias=bias)
        self.v_proj = nn.Linear(hidden, self.qkv_sizes[2], bias=bias)
        self.qkv_proj: nn.Module | None = None
        self.o_proj = nn.Linear(self.qkv_sizes[0], hidden, bias=bias and config.model_type != "qwen2")
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions, mask, layer_cache, logits_to_keep
    ) -> torch.Tensor:
        """x (B, T, C) → (B, T, C), or (B, N, C) with `logits_to_keep`, in x's dtype.

        cos, sin: (B, 1, T, D) in x's dtype, from DecoderModel.rope_cos_sin. positions: int64 (B, T), where the cache
        stores the new keys. mask: as for ops.attention; with a cache it covers S cached keys. layer_cache: a
        cache.LayerCache, or None. logits_to_keep: as for DecoderModel.forward. With a cache, only the queries of these
        tokens attend; without, all do, because a training mask describes all queries.
        """
        query, key, value = self.heads(x, cos, sin)
        if layer_cache is not None:
            key, value = layer_cache.update(key, value, positions)  # (B, K, S, D)
            if logits_to_keep is not None:
                query, mask = query[:, :, logits_to_keep], mask.last_queries()  # (B, H, N, D)
        output = attention(query, key, value, mask).transpose(1, 2)  # (B, T or N, H, D)
        if layer_cache is None and logits_to_keep is not None:
            output = output[:, logits_to_keep]  # (B, N, H, D)
        return self.o_proj(output.flatten(2))

    def heads(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor):
        """x (B, T, C) → queries (B, H, T, D), keys and values (B, K, T, D), RoPE applied."""
        B, T, _ = x.shape
        query, key, value = (projected.view(B, T, -1, self.head_dim) for projected in self.project(x))
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        query = apply_rope(query.transpose(1, 2), cos, sin)
        key = apply_rope(key.transpose(1, 2), cos, sin)
        return query, key, value.transpose(1, 2)

    def project(self, x: torch.Tensor):
        """x (B, T, C) → queries (B, T, H·D), keys and values (B, T, K·D)."""
        if self.qkv_proj is not None:
            return self.qkv_proj(x).split(self.qkv_sizes, dim=-1)
        return self.q_proj(x), self.k_proj(x), self.v_proj(x)

    @property
    def is_fused(self) -> bool:
        """Whether fuse_projections has been here."""
        return self.qkv_proj is not None

    def fuse_projections(self) -> None:
        """Replace q_proj, k_proj and v_proj by one frozen qkv_proj, in place: one matmul. For inference only.

        The layer can no longer be trained, saved or wrapped by LoRA. Does nothing where LoRA wraps one of them.
        """
        self.qkv_proj = fuse_linears(self, ("q_proj", "k_proj", "v_proj"))


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.gate_up_proj: nn.Module | None = None
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (B, T, C) → (B, T, C), in x's dtype."""
        gate, up = self.project(x)
        return self.down_proj(F.silu(gate) * up)

    def project(self, x: torch.Tensor):
        """x (B, T, C) → gate and up, each (B, T, F)."""
        if self.gate_up_proj is not None:
            return self.gate_up_proj(x).chunk(2, dim=-1)
        return self.gate_proj(x), self.up_proj(x)

    @property
    def is_fused(self) -> bool:
        """Whether fuse_projections has been here."""
        return self.gate_up_proj is not None

    def fuse_projections(self) -> None:
        """As Attention.fuse_projections: gate_proj and up_proj become one gate_up_proj."""
        self.gate_up_proj = fuse_linears(self, ("gate_proj", "up_proj"))


def fuse_linears(parent: nn.Module, names: tuple[str, ...]) -> nn.Linear | Int8Linear | None:
    """One frozen layer with the concatenated outputs of these children of `parent`, which are deleted.

    All children are nn.Linear or all Int8Linear, with biases or without; otherwise returns None and changes nothing.
    """
    linears = [getattr(parent, name) for name in names]
    kinds = set(map(type, linears))
    if kinds not in ({nn.Linear}, {Int8Linear}):
        return None
    weight = torch.cat([linear.weight.detach() for linear in linears])
    bias = None if linears[0].bias is None else torch.cat([linear.bias.detach() for linear in linears])
    scale = torch.cat([linear.scale for linear in linears]) if kinds == {Int8Linear} else None
    for name in names:
        delattr(parent, name)
    if scale is not None:
        return Int8Linear(weight, scale, bias)
    fused = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    fused.weight = nn.Parameter(weight, requires_grad=False)
    fused.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return fused


class Block(nn.Module):
    """One decoder block: attention and MLP, each on a normed copy of the residual stream and added to it."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions, mask, layer_cache, logits_to_keep
    ) -> torch.Tensor:
        """x (B, T, C) → (B, T, C), or (B, N, C) with `logits_to_keep`, in x's dtype; arguments as for Attention."""
        attended = self.self_attn(self.input_layernorm(x), cos, sin, positions, mask, layer_cache, logits_to_keep)
        return self.feed_forward(x if logits_to_keep is None else x[:, logits_to_keep], attended)

    def feed_forward(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """The block after its attention: residual stream and attention's output, (B, N, C) each, → (B, N, C)."""
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class DecoderModel(nn.Module):
    """The decoder without its output projection: embeddings, blocks and the last norm."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        table = torch.empty(config.vocab_size, config.hidden_size)
        # normal_ on load.py's meta device would import torch's compiler: a second at every start
        self.embed_tokens = nn.Embedding.from_pretrained(table if table.is_meta else table.normal_(), freeze=False)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.recompute = False  # gradient checkpointing: save only each block's input and rerun the block in backward

    def forward(
        self, input_ids: torch.Tensor, positions=None, mask: Mask = None, cache=None, logits_to_keep=None
    ) -> torch.Tensor:
        """input_ids and positions int64 (B, T) → hidden states (B, T, C) after the last norm, in the weights' dtype.

        positions: 0 .. T-1 by default. mask: as for ops.attention. cache: a cache.KVCache, or None.
        logits_to_keep: bool (T,) or int64 (N,): the tokens whose hidden states are needed → (B, N, C); the others are
        dropped in the last block, once its attention has read them. With a cache these must be the last token of each
        of the mask's segments.
        """
        B, T = input_ids.shape
        if positions is None:
            positions = torch.arange(T, device=input_ids.device).expand(B, T)
        x = self.embed_tokens(input_ids)  # (B, T, C)
        cos, sin = self.rope_cos_sin(positions, x.dtype)
        for index, block in enumerate(self.layers):
            layer_cache = cache.layer(index) if cache is not None else None
            keep = logits_to_keep if index == len(self.layers) - 1 else None
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, positions, mask, layer_cache, keep, use_reentrant=False)
            else:
                x = block(x, cos, sin, positions, mask, layer_cache, keep)
        return self.norm(x)

    def rope_cos_sin(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin for ops.apply_rope: positions (B, T) → (B, 1, T, D) each.

        Angles are float32 whatever the weights' dtype; cos and sin are then cast to `dtype`.
        """
        frequencies, factor = rope_frequencies(
            self.config.rope, self.config.head_dim, self.config.max_position_embeddings, positions.device
        )
        angles = positions[:, None, :, None].float() * frequencies  # (B, 1, T, D/2)
        angles = torch.cat((-angles, angles), dim=-1)
        return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


class Decoder(nn.Module):
    """A causal language model: `model` computes hidden states, `lm_head` turns them into logits."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = DecoderModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def fuse_projections(self) -> None:
        """Fuse the projections of every block (Attention.fuse_projections, MLP.fuse_projections), in place, once."""
        for layer in [layer for block in self.model.layers for layer in (block.self_attn, block.mlp)]:
            if not layer.is_fused:
                layer.fuse_projections()

    def forward(self, input_ids: torch.Tensor, positions=None, mask: Mask = None, cache=None) -> torch.Tensor:
        """int64 (B, T) → float32 logits (B, T, V), float64 for float64 weights; arguments as for DecoderModel."""
        logits = self.lm_head(self.model(input_ids, positions, mask, cache))
        return logits if logits.dtype == torch.float64 else logits.float()
