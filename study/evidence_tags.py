"""Two more losses of pretraining: where in the note does a phrase end that will be quoted, and how did it begin?

Choosing what to quote is learned from one token a quotation, while hundreds of note tokens are read without a loss. So
two heads on the decoder's last states give note tokens a loss. Their gradients teach the layers below what evidence
looks like, and to keep a phrase's first token, which the answer copies first, where the phrase is known to be evidence:

    end     linear: does a quotation end with this note token, 0 or 1
    start   linear, then the model's output projection: of a token that ends a quotation, the quotation's first token

The heads are thrown away when pretraining ends. The tags travel in the token ids: V · (sum of NOTE, START, END) is
added to a token's id, for a vocabulary of V; `split_tags` takes it off again.

Read next: pretrain.py.
"""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Pack, Step
from minscl.data.sample_types import Sample
from minscl.model import Decoder, SharedPrefixMask

NOTE, START, END = 1, 2, 4  # bits of a token's tag: in the note; first, last token of a quotation
WEIGHTS = {"end": 1.0, "start": 0.3}  # of these losses beside the tokens' loss
END_WEIGHT = 4.0  # of a token that ends a quotation in the loss "end": about one note token in fifty does
LOGIT_CHUNK = {"cpu": 512, "cuda": 8192}  # target positions whose logits exist at a time, by device


class Losses(NamedTuple):
    """Means over target tokens, note tokens, tokens that end a quotation."""

    token: float
    end: float
    start: float

    def named(self) -> dict[str, float]:
        """For metrics.jsonl."""
        return {"loss": self.token, "end_loss": self.end, "start_loss": self.start}


def tag_heads(hidden_size: int) -> nn.ModuleDict:
    """The two heads, with random weights."""
    return nn.ModuleDict({"end": nn.Linear(hidden_size, 1), "start": nn.Linear(hidden_size, hidden_size, bias=False)})


def mark_note(
    sample: Sample, pieces: list[bytes | None], note: str, prompt: str, spans: Iterable[tuple[int, int]]
) -> Sample:
    """`sample` with tags in the prompt's ids. `spans`: half-open quotations, in characters of `note`."""
    offsets = [(len(note[:start].encode()), len(note[:end].encode())) for start, end in spans]
    position, vocabulary = len(note.encode()) - len(prompt.encode()), len(pieces)  # 0 where the note begins
    tagged = []
    for token in sample.prompt_ids:
        length = len(pieces[token] or b"")
        in_note = length > 0 and position >= 0
        after = position + length
        starts = in_note and any(position <= start < after for start, _ in offsets)
        ends = in_note and any(position < end <= after for _, end in offsets)
        tagged.append(token + vocabulary * (NOTE * in_note + START * starts + END * ends))
        position = after
    return dataclasses.replace(sample, prompt_ids=tuple(tagged))


def split_tags(step: Step, vocabulary: int) -> tuple[Step, list[torch.Tensor]]:
    """(the step with plain ids, tags (T,) of each pack: sums of NOTE, START, END)."""
    packs, tags = [], []
    for pack in step.packs:
        tag = torch.where(pack.input_ids >= 0, pack.input_ids // vocabulary, 0)
        packs.append(dataclasses.replace(pack, input_ids=pack.input_ids - vocabulary * tag))
        tags.append(tag)
    return dataclasses.replace(step, packs=tuple(packs)), tags


class Places(NamedTuple):
    """Where a pack has losses, int64 tensors; found before the pack goes to a GPU, which would have to be waited for.

    `needed` (N,): the positions that have one. The others are places in `needed`: `targets` (M,), where the token of
    `labels` (M,) is predicted; `notes`, the note's tokens, with bool `is_end`, whether a quotation ends there; `ends`
    (E,), where it does, with the quotation's first token in `starts` (E,).
    """

    needed: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    notes: torch.Tensor
    is_end: torch.Tensor
    ends: torch.Tensor
    starts: torch.Tensor

    @classmethod
    def of(cls, pack: Pack, tags: torch.Tensor) -> "Places":
        """Those of a pack with tags (T,)."""
        is_target, in_note, is_end = pack.labels != IGNORE, tags > 0, (tags & END) > 0
        needed = torch.nonzero(is_target | in_note)[:, 0]
        targets, notes, ends = (torch.nonzero(mask[needed])[:, 0] for mask in (is_target, in_note, is_end))
        starts = first_tokens(pack.input_ids, tags)
        return cls(needed, targets, pack.labels[is_target], notes, is_end[in_note], ends, starts)

    def to(self, device: torch.device) -> "Places":
        """The same on `device`."""
        return Places(*(tensor.to(device, non_blocking=True) for tensor in self))


def first_tokens(input_ids: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Of each END token, the token of the last START up to it: input_ids, tags (T,) → (N,)."""
    places = torch.arange(len(tags), device=tags.device)
    starts = torch.where((tags & START) > 0, places, 0).cummax(0).values
    return input_ids[starts[(tags & END) > 0]]


def forward_backward(
    model: Decoder, heads: nn.ModuleDict, step: Step, tags: list[torch.Tensor], device: torch.device
) -> Losses:
    """As training.loop.forward_backward, with the two losses more."""
    sums = {name: torch.zeros((), device=device) for name in Losses._fields}
    note_tokens = max(1, sum(int((tag > 0).sum()) for tag in tags))
    quotations = max(1, sum(int(((tag & END) > 0).sum()) for tag in tags))
    chunk = LOGIT_CHUNK[device.type]
    for pack, tag in zip(step.packs, tags, strict=True):
        places = Places.of(pack, tag).to(device)
        leaf, hidden = states(model, pack.to(device), places.needed)
        targets = leaf[places.targets]
        for states_chunk, labels in zip(targets.split(chunk), places.labels.split(chunk), strict=True):
            loss = masked_loss(model.lm_head(states_chunk), labels) / step.target_tokens
            loss.backward(retain_graph=True)
            sums["token"] += loss.detach()
        if len(places.notes):
            end_loss = tag_loss(heads["end"](leaf[places.notes])[:, 0], places.is_end) / note_tokens
            logits = model.lm_head(heads["start"](leaf[places.ends]))
            start_loss = F.cross_entropy(logits, places.starts, reduction="sum") / quotations
            (WEIGHTS["end"] * end_loss + WEIGHTS["start"] * start_loss).backward()
            sums["end"] += end_loss.detach()
            sums["start"] += start_loss.detach()
        hidden.backward(leaf.grad)
    return Losses(**{name: value.item() for name, value in sums.items()})


@torch.no_grad()
def token_loss(model: Decoder, step: Step, device: torch.device) -> float:
    """The mean loss of the step's target tokens, without gradients."""
    total = 0.0
    for pack in step.packs:
        pack = pack.to(device)
        is_target = pack.labels != IGNORE
        hidden = states(model, pack, is_target)[1]
        chunk = LOGIT_CHUNK[device.type]
        for states_chunk, labels in zip(hidden.split(chunk), pack.labels[is_target].split(chunk), strict=True):
            total += masked_loss(model.lm_head(states_chunk), labels).item()
    return total / step.target_tokens


def tag_loss(logits: torch.Tensor, is_end: torch.Tensor) -> torch.Tensor:
    """Summed binary cross-entropy of `logits` (N,), with END_WEIGHT where `is_end` (N,) is true."""
    labels = is_end.to(logits.dtype)
    weight = torch.where(is_end, END_WEIGHT, 1.0)
    return F.binary_cross_entropy_with_logits(logits, labels, weight, reduction="sum")


def states(model: Decoder, pack: Pack, needed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(a leaf, the states that it copies), (N, C) of the positions `needed`: int64 (N,), or where bool (T,) is true."""
    [hidden] = model.model(
        pack.input_ids[None],
        positions=pack.positions[None],
        mask=SharedPrefixMask(pack.lengths, pack.parents),
        logits_to_keep=needed,
    )
    return hidden.detach().requires_grad_(), hidden
