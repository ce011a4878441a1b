"""A head start for quoting: two attention heads that begin as a copying circuit instead of noise.

Quoting is copying: find where the last token stood in the note, write down the token after it. Transformers learn it as two heads, one
that looks at the previous token and, a layer up, one that looks for the current token among those "previous tokens" (induction heads;
Olsson et al., arXiv 2209.11895). On two cores a small model may need hours until they appear, so they are written into the random
weights. Everything trains from there, these weights and the embeddings slowly at first, since large first steps would wash them out.

    layer 0  score(t, s) = Σ_i w² cos(θ_i (t - 1 - s)): RoPE's own angles peak at s = t - 1; writes P e_{t-1} into the subspace S
    layer 1  score(t, s) = (P e_t) · (S' x_s) on RoPE's slow dimensions; writes the token found, e_s

Read next: pretrain.py.
"""

import torch

PREVIOUS_GAP = 5.0  # how much more the previous token's score is than its neighbours'
FAST = 8  # rotation pairs that tell neighbours apart
SLOW_ANGLE = 0.003  # radians a token: pairs slower than this still match hundreds of tokens away
MATCH_GAIN, WRITE_GAIN, COPY_GAIN = 2.2, 0.06, 0.5
CONSTANT = 4.0  # size of the constant first dimension of every embedding, in deviations of the others


def orthonormal(rows: int, columns: int, generator) -> torch.Tensor:
    """(rows, columns) with orthonormal rows, none of which reads the constant first dimension."""
    q = torch.linalg.qr(torch.randn(columns - 1, rows, generator=generator))[0].T  # (rows, columns - 1)
    return torch.cat((torch.zeros(rows, 1), q), dim=1)


@torch.no_grad()
def write_copying_circuit(model, angles: torch.Tensor, seed: int) -> None:
    """Put the two heads into `model` in place. `angles` (D/2,): RoPE's radians a position."""
    generator = torch.Generator().manual_seed(seed)
    config, embedding = model.config, model.model.embed_tokens.weight
    C, D, groups = config.hidden_size, config.head_dim, config.num_attention_heads // config.num_key_value_heads
    half, deviation = D // 2, embedding.std().item()
    embedding[:, 0] = CONSTANT * deviation
    below = model.model.layers[0].self_attn
    gap = (1 - angles[:FAST].cos()).sum() / D**0.5
    weight = (PREVIOUS_GAP / gap) ** 0.5 / CONSTANT
    below.q_proj.weight[:D], below.k_proj.weight[:D] = 0.0, 0.0
    below.k_proj.weight[:FAST, 0] = weight
    below.q_proj.weight[:FAST, 0] = weight * angles[:FAST].cos()
    below.q_proj.weight[half : half + FAST, 0] = -weight * angles[:FAST].sin()
    slow = torch.nonzero(angles < SLOW_ANGLE).flatten()
    slow = torch.cat((slow, slow + half))  # both dimensions of each slow pair
    read, place = orthonormal(len(slow), C, generator), orthonormal(len(slow), C, generator)
    below.v_proj.weight[:D] = 0.0
    below.v_proj.weight[slow] = read
    below.o_proj.weight[:, :D] = 0.0
    below.o_proj.weight[:, slow] = WRITE_GAIN * place.T

    above = model.model.layers[1].self_attn
    for head in range(config.num_key_value_heads):
        query, key = head * groups * D, head * D  # the first query head of each group
        above.q_proj.weight[query : query + D], above.k_proj.weight[key : key + D] = 0.0, 0.0
        above.q_proj.weight[query + slow] = MATCH_GAIN * read
        above.k_proj.weight[key + slow] = MATCH_GAIN * place
        token = orthonormal(D, C, generator)
        above.v_proj.weight[key : key + D] = token
        above.o_proj.weight[:, query : query + D] = COPY_GAIN * token.T


def is_part(name: str) -> bool:
    """Whether the circuit stands on the parameter `name`."""
    return name == "model.embed_tokens.weight" or name.startswith(
        ("model.layers.0.self_attn", "model.layers.1.self_attn")
    )
