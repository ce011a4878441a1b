"""A second loss of pretraining: where in the note does a phrase end that will be quoted?

Choosing what to quote is learned from one token a quotation, while hundreds of note tokens are read without a loss. So
a linear head on the decoder's last states says of every note token whether a quotation ends with it, 0 or 1; its
gradient teaches the layers below what evidence looks like. The head is thrown away when pretraining ends.

The tags travel in the token ids: a note token has NOTE · V added, the last token of a quotation END · V, for a
vocabulary of V; `split_tags` takes them off again.

Read next: pretrain.py.
"""

import dataclasses

import torch
from torch.nn import functional as F

from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Pack, Step
from minscl.data.sample_types import Sample
from minscl.model import Decoder, SharedPrefixMask

NOTE, END = 1, 2
WEIGHT = 0.5  # of this loss beside the tokens' loss
END_WEIGHT = 4.0  # of a tag 1: about one note token in fifty ends a quotation
LOGIT_CHUNK = 512  # target positions whose logits exist at a time


def mark_note(sample: Sample, pieces: list[bytes | None], note: str, prompt: str, ends: set[int]) -> Sample:
    """`sample` with tags in the prompt's ids. `ends`: half-open ends of quotations, in characters of `note`."""
    byte_ends = {len(note[:end].encode()) for end in ends}
    position, vocabulary = len(note.encode()) - len(prompt.encode()), len(pieces)  # 0 where the note begins
    tagged = []
    for token in sample.prompt_ids:
        length = len(pieces[token] or b"")
        in_note = length > 0 and position >= 0
        is_end = in_note and any(position < end <= position + length for end in byte_ends)
        tagged.append(token + vocabulary * (END if is_end else NOTE if in_note else 0))
        position += length
    return dataclasses.replace(sample, prompt_ids=tuple(tagged))


def split_tags(step: Step, vocabulary: int) -> tuple[Step, list[torch.Tensor]]:
    """(the step with plain ids, tags (T,) of each pack: 0, NOTE or END)."""
    packs, tags = [], []
    for pack in step.packs:
        tag = torch.where(pack.input_ids >= 0, pack.input_ids // vocabulary, 0)
        packs.append(dataclasses.replace(pack, input_ids=pack.input_ids - vocabulary * tag))
        tags.append(tag)
    return dataclasses.replace(step, packs=tuple(packs)), tags


def forward_backward(
    model: Decoder, head: torch.nn.Linear, step: Step, tags: list[torch.Tensor], device: torch.device
) -> tuple[float, float]:
    """As training.loop.forward_backward, with the second loss: (mean over target tokens, mean over note tokens)."""
    token_loss = tag_loss = torch.zeros((), device=device)
    note_tokens = max(1, sum(int((tag > 0).sum()) for tag in tags))
    for pack, tag in zip(step.packs, tags, strict=True):
        pack, tag = pack.to(device), tag.to(device)
        is_target = pack.labels != IGNORE
        needed = is_target | (tag > 0)
        leaf, hidden = states(model, pack, needed)
        targets, notes = leaf[is_target[needed]], leaf[tag[needed] > 0]
        for states_chunk, labels in zip(
            targets.split(LOGIT_CHUNK), pack.labels[is_target].split(LOGIT_CHUNK), strict=True
        ):
            loss = masked_loss(model.lm_head(states_chunk), labels) / step.target_tokens
            loss.backward(retain_graph=True)
            token_loss = token_loss + loss.detach()
        if len(notes):
            labels = (tag[tag > 0] == END).to(notes.dtype)
            weight = torch.where(labels > 0, END_WEIGHT, 1.0)
            loss = F.binary_cross_entropy_with_logits(head(notes)[:, 0], labels, weight, reduction="sum") / note_tokens
            (WEIGHT * loss).backward()
            tag_loss = tag_loss + loss.detach()
        hidden.backward(leaf.grad)
    return token_loss.item(), tag_loss.item()


def states(model: Decoder, pack: Pack, needed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(a leaf, the states that it copies), (N, C) of the positions where `needed` (T,) is true."""
    [hidden] = model.model(
        pack.input_ids[None],
        positions=pack.positions[None],
        mask=SharedPrefixMask(pack.lengths, pack.parents),
        logits_to_keep=needed,
    )
    return hidden.detach().requires_grad_(), hidden
