"""Where a head found a code: token weights → character spans of the note.

    attention   a_t, the head's attention of the code to token t
    AttInGrad   a_t · ‖x_t ⊙ ∂logit/∂x_t‖₂ / the sum of these over the note, x_t the embedding of token t

    tokens with at least SHARE of the largest weight → whole words → neighbours joined → the MAX_SPANS strongest

Source: AttInGrad is Edin et al. 2024 (arXiv 2406.08958): attention times InputXGradient, whose norm over the embedding
is the Euclidean one. They normalise over all codes together and choose tokens above a boundary tuned on annotated
evidence; ours is a share of the code's own largest weight, since label-only documents have no evidence to tune on, and
whole words, since MDACE's evidence has no parts of words.

Shapes: T tokens, C hidden, B windows.

Read next: predict.py.
"""

import re
from collections.abc import Iterable, Sequence

import torch

from minscl.heads.head_model import HeadModel
from minscl.heads.windows import OVERLAP, window_starts

SHARE = 0.5  # of the largest weight
MAX_SPANS = 3  # of one code
WORD = re.compile(r"\w+|[^\w\s]")
GAP = re.compile(r"[ \t]*")  # between two spans that are joined
Span = tuple[int, int]  # half-open characters


def att_in_grad(model: HeadModel, ids: list[int], rows: Sequence[int]) -> torch.Tensor:
    """AttInGrad of the codes `rows`: float32 (len(rows), T) on the CPU, each row non-negative with sum 1.

    The gradient is that of one embedding per token, so what two windows make of a token they share adds up. One
    backward pass per code.
    """
    embeddings: list[torch.Tensor] = []

    def keep(module, inputs, output: torch.Tensor) -> torch.Tensor:
        embeddings.append(output.detach().requires_grad_())
        return embeddings[-1]

    hook = model.decoder.model.embed_tokens.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            output = model(ids)
    finally:
        hook.remove()
    [embedded] = embeddings  # (B, window, C): with gradients, all windows are one pass
    attributions = []
    for row in rows:
        (gradient,) = torch.autograd.grad(output.logits[row], embedded, retain_graph=True)
        influence = (join_windows(embedded, gradient, len(ids), model.window)).norm(dim=-1)  # (T,)
        weights = output.attention[row].detach() * influence
        attributions.append((weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)).float().cpu())
    return torch.stack(attributions) if attributions else torch.empty(0, len(ids))


def join_windows(embedded: torch.Tensor, gradient: torch.Tensor, tokens: int, window: int) -> torch.Tensor:
    """x ⊙ Σ over windows of ∂logit/∂x: (B, window, C) each → (T, C)."""
    joined = torch.zeros(tokens, embedded.shape[-1], dtype=embedded.dtype, device=embedded.device)
    for number, start in enumerate(window_starts(tokens, window, window // OVERLAP)):
        length = min(embedded.shape[1], tokens - start)
        joined[start : start + length] += embedded[number, :length] * gradient[number, :length]
    return joined


def token_offsets(text: str, pieces: Iterable[bytes | None]) -> list[Span]:
    """The half-open characters of each token; `pieces`: the bytes that each adds (Tokenizer.pieces).

    A token that ends inside a character has the whole character. Bytes that the text does not have, such as the space
    that sentencepiece puts before it, are passed over; a token that is found nowhere has no characters.
    """
    content = text.encode("utf-8", "surrogatepass")
    character = []  # of each byte
    for number, letter in enumerate(text):
        character += [number] * len(letter.encode("utf-8", "surrogatepass"))
    character.append(len(text))
    offsets, position = [], 0
    for piece in pieces:
        piece = piece or b""
        start = content.find(piece, position, position + len(piece) + 16)
        if start < 0:
            piece = piece.lstrip()
            start = content.find(piece, position, position + len(piece) + 16)
        if start < 0 or not piece:
            offsets.append((character[position], character[position]))
            continue
        position = start + len(piece)
        offsets.append((character[start], character[position - 1] + 1))
    return offsets


def evidence_spans(text: str, offsets: Sequence[Span], weights: Sequence[float]) -> list[Span]:
    """The spans of `text` that the tokens of largest `weights` make, in order; [] where no token has any weight."""
    largest = max(weights, default=0.0)
    if largest <= 0:
        return []
    words = [match.span() for match in WORD.finditer(text)]
    strength: dict[Span, float] = {}
    for (start, end), weight in zip(offsets, weights, strict=True):
        if weight >= SHARE * largest:
            for word in words_within(words, start, end):
                strength[word] = max(strength.get(word, 0.0), weight)
    joined: list[tuple[Span, float]] = []
    for (start, end), weight in sorted(strength.items()):
        if joined and GAP.fullmatch(text, joined[-1][0][1], start):
            (first, _), before = joined.pop()
            start, weight = first, max(weight, before)
        joined.append(((start, end), weight))
    strongest = sorted(joined, key=lambda item: -item[1])[:MAX_SPANS]
    return sorted(span for span, _ in strongest)


def words_within(words: Sequence[Span], start: int, end: int) -> list[Span]:
    """The `words` that share a character with start..end."""
    return [word for word in words if word[0] < end and start < word[1]]
