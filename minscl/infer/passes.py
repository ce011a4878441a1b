"""The passes of the engine through the model: prompts packed end to end (prefill), a few tokens a slot (decode_step).

compiled_step.py and cuda_graph.py are other forms of decode_step, for passes of few tokens.

Letters: B slots in use, T new tokens, S cached positions, C hidden, V vocabulary.
Read next: cache.py, which gives positions and masks; ../model/decoder.py.
"""

import torch

from minscl.infer.cache import KVCache

MAX_PREFILL_TOKENS = 2048  # per pass; with more, activations no longer fit in a CPU's caches
MAX_ATTENTION_PAIRS = 2**26  # (query, key) pairs per prefill pass; bounds the masks of long notes


def prefill(model, unread: dict[int, list[int]], cache: KVCache) -> dict[int, torch.Tensor]:
    """Append `unread[slot]` to each slot; returns slot → float32 logits (V,) after its last token.

    Prompts are packed, at most MAX_PREFILL_TOKENS per pass; a longer one takes several. The last block's MLP and the
    output head are computed for the last position of each prompt only.
    """
    device, unread, last = model.model.embed_tokens.weight.device, dict(unread), {}
    while unread:
        parts: dict[int, list[int]] = {}
        budget = max(1, min(MAX_PREFILL_TOKENS, MAX_ATTENTION_PAIRS // cache.max_length))
        for slot, tokens in unread.items():
            if budget and (len(tokens) <= budget or not parts):
                parts[slot] = tokens[:budget]
                budget -= len(parts[slot])
        positions, mask = cache.append_packed(parts)
        ids = torch.tensor([[token for part in parts.values() for token in part]], device=device)  # (1, T)
        ends = torch.tensor([len(part) for part in parts.values()], device=device).cumsum(0) - 1  # (B,)
        hidden = model.model(ids, positions=positions, mask=mask, cache=cache, logits_to_keep=ends)[0]  # (B, C)
        for (slot, part), state in zip(parts.items(), hidden, strict=True):
            unread[slot] = unread[slot][len(part) :]
            if not unread[slot]:
                last[slot] = state
                del unread[slot]
    logits = model.lm_head(torch.stack(list(last.values()))).float()  # (B, V)
    return dict(zip(last, logits, strict=True))


def decode_step(model, pending: list[list[int]], drafts: list[list[int]], cache: KVCache) -> list[torch.Tensor]:
    """Append to slot b its `pending[b]`, at least one token, and its draft.

    Returns float32 logits (1 + draft, V) per slot: after the last pending token and after each draft token.

    One pass, padded to the longest. But on a CPU, where time grows with the rows of a pass, lengths that differ are
    packed, as prompts are: a code's description, forced in one slot, would otherwise pad all slots to its length.
    """
    if cache.keys[0].device.type == "cpu" and not any(drafts) and len({len(tokens) for tokens in pending}) > 1:
        last = prefill(model, dict(enumerate(pending)), cache)
        return [last[slot][None] for slot in range(len(pending))]
    device, parts = model.model.embed_tokens.weight.device, [a + b for a, b in zip(pending, drafts, strict=True)]
    longest = max(map(len, parts))
    ids = torch.tensor([part + [0] * (longest - len(part)) for part in parts], device=device)  # (B, T)
    positions, mask = cache.append_padded(parts)  # (B, T), (B, 1, T, S)
    hidden = model.model(ids, positions=positions, mask=mask, cache=cache)  # (B, T, C)
    needed = torch.cat(
        [row[len(part) - len(draft) - 1 : len(part)] for row, part, draft in zip(hidden, parts, drafts, strict=True)]
    )
    return list(model.lm_head(needed).float().split([1 + len(draft) for draft in drafts]))
