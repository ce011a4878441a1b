"""Notes → coded documents with a trained head: every code whose probability reaches the threshold, with its evidence.

    note → tokens → hidden states → probability and attention of every label → codes → spans → checked document

Deterministic. A code's score is its probability. Codes stand in the order of their first evidence, those without any
last; check_document then applies code-first notes.

Read next: evidence.py; folder.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from minscl.data.icd import CodeBook
from minscl.data.notes import Skip, code_each_note
from minscl.data.resuming import code_set_settings
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.heads.evidence import att_in_grad, evidence_spans, token_offsets
from minscl.heads.flags import ATT_IN_GRAD, HeadChoice, default_attribution
from minscl.heads.folder import HeadSettings, load_head, read_head_settings
from minscl.heads.head_model import HeadModel, check_window
from minscl.lora.adapter_config import CONFIG_FILE
from minscl.model import Tokenizer
from minscl.model.digest import folder_digest
from minscl.pretrained import load_pretrained
from minscl.training.run_folder import HEAD_SETTINGS


@dataclass(frozen=True)
class HeadCoder:
    """A trained head, its tokenizer, and how it codes: `threshold`, `attribution` (one of ATTRIBUTIONS)."""

    model: HeadModel
    tokenizer: Tokenizer
    threshold: float
    attribution: str

    def code(self, note: Note, codebook: CodeBook) -> CodedDocument:
        """The coded document of `note`, which has text; not yet checked."""
        ids = self.tokenizer.encode(note.text)
        with torch.no_grad():
            output = self.model(ids)
        scores = output.logits.sigmoid().tolist()
        rows = [row for row, score in enumerate(scores) if score >= self.threshold]
        if self.attribution == ATT_IN_GRAD and rows:
            weights = att_in_grad(self.model, ids, rows)  # (codes, T)
        else:
            weights = output.attention[rows].float().cpu()
        pieces = self.tokenizer.pieces()
        offsets = token_offsets(note.text, [pieces[token] for token in ids])
        codes = []
        for row, row_weights in zip(rows, weights.tolist(), strict=True):
            spans = evidence_spans(note.text, offsets, row_weights)
            evidence = tuple(Evidence(note.text[start:end], start, end, grounded=True) for start, end in spans)
            code = self.model.labels[row]
            codes.append(Assignment(code, codebook.description(code) or "", evidence, scores[row]))
        codes.sort(key=lambda item: item.evidence[0].start or 0 if item.evidence else len(note.text))
        return CodedDocument(note.id, note.text, tuple(codes), warnings=())


def load_coder(choice: HeadChoice, device: str = "auto", dtype: str = "auto") -> HeadCoder:
    """The head of `choice` on its decoder.

    Raises InputError for a folder that is damaged, of another system, or trained on another model.
    """
    settings = read_matching_settings(choice)
    decoder, tokenizer = load_pretrained(choice.model, choice.folder, device=device, dtype=dtype)
    check_window(settings.window, decoder.config, f"{Path(choice.folder) / HEAD_SETTINGS}: window")
    head = load_head(choice.folder, settings).to(decoder.model.embed_tokens.weight.device)
    model = HeadModel(choice.system, decoder, head, settings.labels, settings.window, settings.bidirectional)
    threshold = settings.threshold if choice.min_score is None else choice.min_score
    return HeadCoder(model, tokenizer, threshold, choice.attribution or default_attribution(choice.system))


def read_matching_settings(choice: HeadChoice) -> HeadSettings:
    """head.json of the folder. Raises InputError where it is another system's, or was trained on another model."""
    settings = read_head_settings(choice.folder)
    if settings.system != choice.system:
        raise InputError(f"--heads {choice.folder}: its head is of {settings.system}; give --system {settings.system}")
    if settings.model != folder_digest(choice.model):
        raise InputError(
            f"--heads {choice.folder}: was trained on another model than --model {choice.model}; give that model"
        )
    return settings


def head_settings(choice: HeadChoice, dtype: torch.dtype, codebook: CodeBook) -> dict[str, str]:
    """What determines the codes, as generate_config.settings_of says it for an LLM. Raises InputError."""
    settings, folder = read_matching_settings(choice), Path(choice.folder)
    return {
        "system": choice.system,
        "model": f"{Path(choice.model).resolve().name} {settings.model}",
        "heads": f"{folder.resolve().name} {folder_digest(folder, CONFIG_FILE)}",
        "attribution": choice.attribution or default_attribution(choice.system),
        "min_score": str(settings.threshold if choice.min_score is None else choice.min_score),
        "dtype": str(dtype).removeprefix("torch."),
    } | code_set_settings(codebook)


def code_with_head(
    coder: HeadCoder, notes: Sequence[Note], codebook: CodeBook, skip: Skip | None = None
) -> Iterator[CodedDocument]:
    """The coded document of each note, checked against `codebook`; `skip` as for infer.coder.code_notes."""
    return code_each_note(notes, lambda note: coder.code(note, codebook), codebook, skip)
