"""Induction-head initialisation: two attention heads that begin as a copying circuit instead of noise.

Quoting is copying: find an earlier occurrence of the current token in the note and write the token after it.
Transformers learn this as two heads, a previous-token head and, one layer up, an induction head that looks for the
current token among the previous tokens (Olsson et al., arXiv 2209.11895). On two cores a small model may need hours
until they form, so they are written into the random weights. All parameters train from there; these heads and the
embeddings start with a low learning rate, because large first steps would destroy the circuit.

    layer 0  score(t, s) = Σ_i w² cos(θ_i (t - 1 - s)), maximal at s = t - 1; writes P e_{t-1} into the subspace S
    layer 1  score(t, s) = (P e_t) · (S' x_s) on RoPE's slow dimensions; writes the attended token, e_s

Shapes: C hidden, D head_dim.

Read next: pretrain.py.
"""

import torch

PREVIOUS_GAP = 5.0  # by how much the score of the previous token exceeds its neighbours'
FAST = 8  # rotation pairs, from the fastest, that distinguish neighbouring positions
SLOW_FREQUENCY = 0.003  # radians per token: slower pairs still match over hundreds of tokens
MATCH_GAIN, WRITE_GAIN, COPY_GAIN = 2.2, 0.06, 0.5
CONSTANT = 4.0  # the constant first dimension of every embedding, in standard deviations of the others


def orthonormal(rows: int, columns: int, generator) -> torch.Tensor:
    """(rows, columns) float32 with orthonormal rows; the first column is 0, so no row reads the constant dimension."""
    q = torch.linalg.qr(torch.randn(columns - 1, rows, generator=generator))[0].T  # (rows, columns - 1)
    return torch.cat((torch.zeros(rows, 1), q), dim=1)


@torch.no_grad()
def write_induction_heads(model, frequencies: torch.Tensor, seed: int) -> None:
    """Write the two heads into `model` in place. `frequencies` (D/2,): RoPE's radians per position."""
    generator = torch.Generator().manual_seed(seed)
    config, embedding = model.config, model.model.embed_tokens.weight
    C, D, queries_per_key = (
        config.hidden_size,
        config.head_dim,
        config.num_attention_heads // config.num_key_value_heads,
    )
    half, deviation = D // 2, embedding.std().item()
    embedding[:, 0] = CONSTANT * deviation
    below = model.model.layers[0].self_attn
    gap = (1 - frequencies[:FAST].cos()).sum() / D**0.5
    weight = (PREVIOUS_GAP / gap) ** 0.5 / CONSTANT
    below.q_proj.weight[:D], below.k_proj.weight[:D] = 0.0, 0.0
    below.k_proj.weight[:FAST, 0] = weight
    below.q_proj.weight[:FAST, 0] = weight * frequencies[:FAST].cos()
    below.q_proj.weight[half : half + FAST, 0] = -weight * frequencies[:FAST].sin()
    slow = torch.nonzero(frequencies < SLOW_FREQUENCY).flatten()
    slow = torch.cat((slow, slow + half))  # both dimensions of each slow pair
    match, previous = orthonormal(len(slow), C, generator), orthonormal(len(slow), C, generator)
    below.v_proj.weight[:D] = 0.0
    below.v_proj.weight[slow] = match
    below.o_proj.weight[:, :D] = 0.0
    below.o_proj.weight[:, slow] = WRITE_GAIN * previous.T

    above = model.model.layers[1].self_attn
    for head in range(config.num_key_value_heads):
        query, key = head * queries_per_key * D, head * D  # the first query head of each group
        above.q_proj.weight[query : query + D], above.k_proj.weight[key : key + D] = 0.0, 0.0
        above.q_proj.weight[query + slow] = MATCH_GAIN * match
        above.k_proj.weight[key + slow] = MATCH_GAIN * previous
        token = orthonormal(D, C, generator)
        above.v_proj.weight[key : key + D] = token
        above.o_proj.weight[:, query : query + D] = COPY_GAIN * token.T


def in_circuit(name: str) -> bool:
    """Whether parameter `name` belongs to the circuit: the embeddings and the attention of the first two layers."""
    return name == "model.embed_tokens.weight" or name.startswith(
        ("model.layers.0.self_attn", "model.layers.1.self_attn")
    )
