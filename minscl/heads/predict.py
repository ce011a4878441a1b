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

from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip
from minscl.data.record_checks import show_id
from minscl.data.resuming import EDITION
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.heads.evidence import att_in_grad, evidence_spans, token_offsets
from minscl.heads.flags import ATT_IN_GRAD, default_attribution
from minscl.heads.folder import HeadSettings, load_head, read_head_settings
from minscl.heads.head_model import HeadModel, check_window
from minscl.lora.peft_io import CONFIG_FILE
from minscl.model import Tokenizer
from minscl.model.digest import folder_digest
from minscl.pretrained import load_pretrained


@dataclass(frozen=True)
class HeadCoder:
    """A trained head, its tokenizer, and how it codes: `threshold`, `attribution` (one of ATTRIBUTIONS)."""

    model: HeadModel
    tokenizer: Tokenizer
    threshold: float
    attribution: str

    def code(self, note: Note, codebook: CodeBook) -> CodedDocument:
        """The coded document of `note`, not yet checked. Raises InputError for an empty note."""
        if not note.text.strip():
            raise InputError(f"{show_id(note.id)}: the note is empty; give a note with text")
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


def load_coder(
    folder: str,
    model_folder: str,
    *,
    system: str,
    attribution: str = "",
    min_score: float | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> HeadCoder:
    """The head in `folder` on the decoder in `model_folder`; `min_score` and `attribution` instead of its own.

    Raises InputError for a folder that is damaged, of another system, or trained on another model.
    """
    settings = read_matching_settings(folder, model_folder, system)
    decoder, tokenizer = load_pretrained(model_folder, folder, device=device, dtype=dtype)
    check_window(settings.window, decoder.config)
    head = load_head(folder, settings).to(decoder.model.embed_tokens.weight.device)
    model = HeadModel(system, decoder, head, settings.labels, settings.window, settings.bidirectional)
    threshold = settings.threshold if min_score is None else min_score
    return HeadCoder(model, tokenizer, threshold, attribution or default_attribution(system))


def read_matching_settings(folder: str, model_folder: str, system: str) -> HeadSettings:
    """head.json of `folder`. Raises InputError where it is another system's, or was trained on another model."""
    settings = read_head_settings(folder)
    if settings.system != system:
        raise InputError(f"--heads {folder}: its head is of {settings.system}; give --system {settings.system}")
    if settings.model != folder_digest(model_folder):
        raise InputError(f"--heads {folder}: was trained on another model than --model {model_folder}; give that model")
    return settings


def head_settings(
    folder: str,
    model_folder: str,
    *,
    system: str,
    attribution: str,
    min_score: float | None,
    dtype: str,
    book: CodeBook,
) -> dict[str, str]:
    """What decides about the codes, as generate.settings_of says it for a generating model. Raises InputError."""
    settings = read_matching_settings(folder, model_folder, system)
    path = Path(folder)
    values = {
        "system": system,
        "model": f"{Path(model_folder).resolve().name} {settings.model}",
        "heads": f"{path.resolve().name} {folder_digest(path, CONFIG_FILE)}",
        "attribution": attribution or default_attribution(system),
        "min_score": str(settings.threshold if min_score is None else min_score),
        "dtype": dtype,
        EDITION: book.edition.id,
    }
    return values | ({"date": str(book.date)} if book.date else {})


def code_with_head(
    coder: HeadCoder, notes: Sequence[Note], codebook: CodeBook, skip: Skip | None = None
) -> Iterator[CodedDocument]:
    """The coded document of each note, checked against `codebook`; `skip` as for infer.coder.code_notes."""
    for note in notes:
        try:
            document = coder.code(note, codebook)
        except InputError as error:
            if skip is None:
                raise
            skip(note, error)
            continue
        yield check_document(document, codebook)
