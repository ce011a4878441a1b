"""A long note through the decoder: overlapping windows; each token keeps the hidden state with the most context.

    tokens    0 1 2 3 4 5 6 7 8 9
    window 1  0 1 2 3 4 5                 size 6, overlap 2
    window 2          4 5 6 7 8 9
    kept      1 1 1 1 1 1 2 2 2 2         causal: the earlier window has seen more
              1 1 1 1 1 2 2 2 2 2         bidirectional: the border is in the middle of the overlap

Every token after the first window has seen at least `overlap` tokens before it, or half as many on both sides. A note
that fits in one window is one pass of the decoder, unchanged. Positions begin at 0 in every window.

Source: PLM-ICD encodes chunks of 128 tokens apart and concatenates their states. deviates: the overlap is ours, so that
no finding is cut in two; no note is cut short; padding of the last window is never attended to.

Shapes: B windows, T their tokens, N tokens of the note, C hidden.

Read next: ../model/decoder.py; predict.py.
"""

import torch

from minscl.model import Decoder

OVERLAP = 4  # a window shares one token in 4 with the one before it
WINDOW_BATCH = 16  # windows of a note in one pass where no gradient is needed


def window_starts(tokens: int, window: int, overlap: int) -> list[int]:
    """Where the windows of a text of `tokens` begin; each has `window` tokens, the last perhaps fewer."""
    step = window - overlap
    return [0, *range(step, max(tokens - overlap, 1), step)]


def window_tokens(tokens: int, window: int) -> int:
    """Tokens that the decoder computes for a text of `tokens`: all windows, padding included; 0 for an empty text."""
    return len(window_starts(tokens, window, window // OVERLAP)) * min(window, tokens)


def kept_positions(tokens: int, window: int, overlap: int, bidirectional: bool) -> torch.Tensor:
    """int64 (tokens,): of each token its place in the windows laid end to end, window · number + offset."""
    token = torch.arange(tokens)
    into_overlap = overlap // 2 if bidirectional else overlap
    number = ((token - into_overlap).clamp(min=0) // (window - overlap)).clamp(
        max=len(window_starts(tokens, window, overlap)) - 1
    )
    return number * window + token - number * (window - overlap)


def window_batch(ids: list[int], window: int, overlap: int) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 (B, T) windows of `ids`, T = `window` or less for a shorter text, padded with 0; their lengths, (B,)."""
    size = min(window, len(ids))
    rows = [ids[start : start + size] for start in window_starts(len(ids), window, overlap)]
    padded = [row + [0] * (size - len(row)) for row in rows]
    return torch.tensor(padded), torch.tensor([len(row) for row in rows])


def attention_mask(lengths: torch.Tensor, size: int) -> torch.Tensor:
    """The mask of bidirectional attention, bool (B, 1, T, T): every token attends to all that are no padding."""
    return (torch.arange(size, device=lengths.device) < lengths[:, None])[:, None, None].expand(-1, 1, size, -1)


def hidden_states(model: Decoder, ids: list[int], window: int, bidirectional: bool) -> torch.Tensor:
    """The states (N, C) of a text's tokens after the decoder's last norm, in the weights' dtype.

    `window`: tokens of a window, at most the model's context. Causal attention needs no mask: padding comes last.
    Differentiable; without gradients, WINDOW_BATCH windows are computed at a time. Raises ValueError for no tokens.
    """
    if not ids:
        raise ValueError("a text without tokens has no hidden states")
    overlap = window // OVERLAP
    device = model.model.embed_tokens.weight.device
    input_ids, lengths = (x.to(device) for x in window_batch(ids, window, overlap))
    (B, T), at_a_time = input_ids.shape, len(input_ids) if torch.is_grad_enabled() else WINDOW_BATCH
    states = [
        model.model(rows, mask=attention_mask(row_lengths, T) if bidirectional else None)
        for rows, row_lengths in zip(input_ids.split(at_a_time), lengths.split(at_a_time), strict=True)
    ]
    kept = kept_positions(len(ids), window, overlap, bidirectional) if B > 1 else torch.arange(len(ids))
    return torch.cat(states).flatten(0, 1)[kept.to(device)]
