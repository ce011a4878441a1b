"""The decoder: Llama and Qwen as one stack of blocks, with Hugging Face's parameter names, so that weights load as they are.

    input_ids (B, T) → embed_tokens → blocks: x + attention(norm(x)); x + mlp(norm(x)) → norm → lm_head → logits (B, T, V)

Positions and masks are passed in; a cache, where given, keeps keys and values (infer/cache.py) and the decoder holds no state.
Shapes: B batch, T new tokens, S cached keys, C hidden, H query heads, K key/value heads, D head_dim, F intermediate, V vocabulary.

Read next: ops.py for the maths, load.py for the weights.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from minscl.model.config import ModelConfig
from minscl.model.ops import attention, rms_norm, rope_frequencies, rotate


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention, with Qwen2's biases and Qwen3's norms on each head's query and key."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_dim = config.head_dim
        hidden, queries, keys = (
            config.hidden_size,
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        )
        self.q_proj = nn.Linear(hidden, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(hidden, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(hidden, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, hidden, bias=config.attention_bias and config.model_type != "qwen2")
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions, mask, layer, rows=None
    ) -> torch.Tensor:
        """`rows`: as for DecoderModel.forward. With a cache only these attend; without, a training mask wants all queries, and they are picked after it."""
        B, T, _ = x.shape
        query = self.q_proj(x).view(B, T, -1, self.head_dim)  # (B, T, H, D)
        key = self.k_proj(x).view(B, T, -1, self.head_dim)  # (B, T, K, D)
        value = self.v_proj(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, K, T, D)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        query = rotate(query.transpose(1, 2), cos, sin)  # (B, H, T, D)
        key = rotate(key.transpose(1, 2), cos, sin)  # (B, K, T, D)
        if layer is not None:
            key, value = layer.update(key, value, positions)  # (B, K, S, D)
            query = query if rows is None else query[:, :, rows]
        mixed = attention(query, key, value, mask).transpose(1, 2)  # (B, T, H, D)
        mixed = mixed if rows is None or layer is not None else mixed[:, rows]
        return self.o_proj(mixed.flatten(2))  # (B, T, C), or (B, N, C) for N rows


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))  # (B, T, F) inside


class Block(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: torch.Tensor, cos, sin, positions, mask, layer, rows=None) -> torch.Tensor:
        """`layer`: this block's part of a cache, or None."""
        attended = self.self_attn(self.input_layernorm(x), cos, sin, positions, mask, layer, rows)
        x = (x if rows is None else x[:, rows]) + attended
        return x + self.mlp(self.post_attention_layernorm(x))


class DecoderModel(nn.Module):
    """Everything below the output projection."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        table = torch.empty(
            config.vocab_size, config.hidden_size
        )  # on load.py's meta device normal_ would import torch's compiler: a second at every start
        self.embed_tokens = nn.Embedding.from_pretrained(table if table.is_meta else table.normal_(), freeze=False)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.recompute = (
            False  # in training, keep each block's input alone and run the block again in the backward pass
        )

    def forward(self, input_ids: torch.Tensor, positions=None, mask=None, cache=None, rows=None) -> torch.Tensor:
        """input_ids and positions int64 (B, T), mask as for ops.attention → (B, T, C) after the last norm; (B, N, C) where `rows`, bool (T,) or
        int64 (N,), says which are wanted: with a cache, the last token of each slot that reads. After the last attention tokens no longer see one
        another, so the rest is left out there."""
        B, T = input_ids.shape
        if positions is None:
            positions = torch.arange(T, device=input_ids.device).expand(B, T)
        x = self.embed_tokens(input_ids)  # (B, T, C)
        cos, sin = self.angles(positions, x.dtype)
        for number, block in enumerate(self.layers):
            layer = cache.layer(number) if cache is not None else None
            wanted = rows if number == len(self.layers) - 1 else None
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, cos, sin, positions, mask, layer, wanted, use_reentrant=False)
            else:
                x = block(x, cos, sin, positions, mask, layer, wanted)
        return self.norm(x)

    def angles(self, positions: torch.Tensor, dtype: torch.dtype):
        """cos and sin (B, 1, T, D) as for ops.rotate: angles in float32 whatever the weights' dtype, then cast."""
        frequencies, factor = rope_frequencies(
            self.config.rope, self.config.head_dim, self.config.max_position_embeddings, positions.device
        )
        angles = positions[:, None, :, None].float() * frequencies  # (B, 1, T, D/2)
        angles = torch.cat((-angles, angles), dim=-1)
        return (angles.cos() * factor).to(dtype), (angles.sin() * factor).to(dtype)


class Decoder(nn.Module):
    """A causal language model. `decoder.model` gives hidden states, `decoder.lm_head` logits of the rows one wants."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.model = DecoderModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def forward(self, input_ids: torch.Tensor, positions=None, mask=None, cache=None) -> torch.Tensor:
        """int64 (B, T) → float32 logits (B, T, V); see DecoderModel.forward for the other arguments."""
        logits = self.lm_head(self.model(input_ids, positions, mask, cache))
        return logits if logits.dtype == torch.float64 else logits.float()
