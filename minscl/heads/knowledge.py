"""GKI-ICD: PLM-CA's attention, trained on what the books say about a note's codes, beside the note itself.

    note      codes I50.9, E11.9
    guidance  "<hierarchy>, <synonym>. <hierarchy>, <synonym>"      one expression per code, shuffled, same labels

    loss = (BCE(note) + BCE(guidance)) / 2 + CONSISTENCY · mean over the note's codes of (1 - cos(V_note, V_guidance))

V are the codes' label vectors (cross_attention.py). Queries and outputs begin as the max over tokens of the hidden
states of the codes' descriptions. Nothing of this is needed to code a note.

Source: Zhang et al. 2025 (A General Knowledge Injection Framework for ICD Coding, arXiv 2505.18708; code:
github.com/xuzhang0112/GKI-ICD). Theirs: all of the above; synonyms of UMLS; as hierarchy the names of chapter, block
and category; AdamW, 5e-5, 2,000 warm-up steps, batches of 8, 12 epochs. Their published script has a weight of 0 for
the consistency term (the README's example 1) and R-drop of weight 5 from the second epoch. Ours: the Alphabetic Index
and the inclusion terms instead of UMLS; weight 1; no R-drop, since the decoder has no dropout of its own; vectors of
descriptions scaled to the standard deviation of the other weights, since a decoder's states are many times larger (on
the embedded model the first loss is 1.3 instead of 6.0).

Read next: train.py.
"""

import random
import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F

from minscl.data.icd import CodeBook
from minscl.data.spans import gold_pairs
from minscl.heads.label_attention import INIT_STD
from minscl.heads.windows import hidden_states
from minscl.model import Decoder, Tokenizer

CONSISTENCY = 1.0  # weight of the consistency term
CODE_RANGE = re.compile(r"\s*\([A-Z0-9]{3}(-[A-Z0-9]{3})?\)$")  # after the name of a chapter or section


def expressions_of(codes: Sequence[str], codebook: CodeBook) -> dict[str, list[str]]:
    """Code → its synonyms: phrases of the Alphabetic Index, inclusion terms; the description where there are none."""
    synonyms: dict[str, list[str]] = {code: [] for code in codes}
    for pair in gold_pairs(codebook):
        if pair.code in synonyms:
            synonyms[pair.code].append(pair.evidence)
    return {code: phrases or [codebook.description(code) or code] for code, phrases in synonyms.items()}


def hierarchy_of(code: str, codebook: CodeBook) -> str:
    """The names of the chapter, section and category of `code`, without code ranges; "" if it is not listed."""
    if codebook.description(code) is None:
        return ""
    nodes = [node for node in reversed(codebook.ancestors(code)) if "." not in node]
    return ", ".join(CODE_RANGE.sub("", codebook.description(node) or node) for node in nodes)


def guidance_text(
    codes: Sequence[str], expressions: Mapping[str, Sequence[str]], hierarchy: Mapping[str, str], rng: random.Random
) -> str:
    """One expression of each code, drawn from `expressions` and preceded by its hierarchy, in random order."""
    texts = [", ".join(filter(None, (hierarchy[code], rng.choice(expressions[code])))) for code in codes]
    rng.shuffle(texts)
    return ". ".join(texts)


def description_vectors(
    decoder: Decoder, tokenizer: Tokenizer, descriptions: Sequence[str], window: int, bidirectional: bool
) -> torch.Tensor:
    """The max over tokens of each description's hidden states, scaled to standard deviation INIT_STD: float32 (L, C) on
    the decoder's device."""
    with torch.no_grad():
        states = (hidden_states(decoder, tokenizer.encode(text), window, bidirectional) for text in descriptions)
        vectors = torch.stack([rows.amax(0).float() for rows in states])
    return vectors * (INIT_STD / vectors.std(correction=0).clamp(min=torch.finfo(vectors.dtype).tiny))


def inconsistency(note_vectors: torch.Tensor, guidance_vectors: torch.Tensor) -> torch.Tensor:
    """Σ over codes of 1 - cos: label vectors of a note's codes and of their guidance, (n, C) each → ()."""
    return (1 - F.cosine_similarity(note_vectors, guidance_vectors, dim=-1)).sum()
