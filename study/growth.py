"""Growing a pretrained model: another vocabulary, and more layers, without starting again.

    vocabulary   the embedding of a new token is the mean of those of the old tokens that spell it
    depth        a copy of a layer is put after it, its two output projections zero: the function is the same at first,
                 and the copy learns from there (Gong et al., 2019; Wu et al., arXiv 2401.02415)

Read next: pretrain.py.
"""

import dataclasses
from pathlib import Path

import torch
from tokenizers import Tokenizer

from minscl.model import Decoder


@torch.no_grad()
def with_vocabulary(model: Decoder, old_folder: Path, new_folder: Path) -> Decoder:
    """`model` (tied embeddings) for the tokenizer.json of `new_folder` in place of that of `old_folder`."""
    old_tokenizer, new_tokenizer = (
        Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (old_folder, new_folder)
    )
    old_ids = old_tokenizer.get_vocab()
    table = model.model.embed_tokens.weight
    result = Decoder(dataclasses.replace(model.config, vocab_size=new_tokenizer.get_vocab_size()))
    parameters = dict(model.named_parameters())
    for name, parameter in result.named_parameters():
        if parameter.shape == parameters[name].shape:
            parameter.copy_(parameters[name])
    rows = result.model.embed_tokens.weight
    for token, new_id in new_tokenizer.get_vocab().items():
        spelt = [old_ids[token]] if token in old_ids else old_tokenizer.encode(new_tokenizer.decode([new_id])).ids
        rows[new_id] = table[spelt].mean(dim=0) if spelt else table.mean(dim=0)
    return result


@torch.no_grad()
def with_depth(model: Decoder, copied: set[int]) -> Decoder:
    """`model` with a copy after each layer whose index is in `copied`; its logits are unchanged."""
    number = model.config.num_hidden_layers
    origin = [index for index in range(number) for _ in range(2 if index in copied else 1)]
    result = Decoder(dataclasses.replace(model.config, num_hidden_layers=len(origin)))
    source = model.state_dict()
    target = result.state_dict()
    for name, tensor in target.items():
        if not name.startswith("model.layers."):
            tensor.copy_(source[name])
            continue
        index, rest = name.removeprefix("model.layers.").split(".", 1)
        tensor.copy_(source[f"model.layers.{origin[int(index)]}.{rest}"])
        is_copy = int(index) > 0 and origin[int(index)] == origin[int(index) - 1]
        if is_copy and rest in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
            tensor.zero_()
    return result
