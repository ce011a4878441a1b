"""Training of a head and of LoRA below it, by binary cross-entropy on label-only documents.

    step of 16 notes → each: windows → hidden states → head → BCE, the mean over all codes → the mean over the notes

The loop, its schedule, checkpoints, progress and resume are those of LoRA training (training/loop.py, task.py); the
samples and the loss alone are of this file; with --freeze the head alone is trained (frozen.py). A note's backward pass
follows its forward pass, so one note's graph exists at a time. deviates from all three systems: LoRA and the head are
trained at one learning rate, with a cosine decay; theirs train the whole encoder, with a linear one.

Read next: ../training/task.py; knowledge.py for gki-icd; folder.py for what is written.
"""

import dataclasses
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm

from minscl.config import GKI_ICD, RunConfig
from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument
from minscl.errors import InputError, printable
from minscl.files import lock_folder, remove_file
from minscl.hardware import choose_device
from minscl.heads.estimate import estimate_seconds
from minscl.heads.folder import HeadSettings, save_head
from minscl.heads.frozen import freeze_decoder
from minscl.heads.head_model import HeadModel, check_window, make_head, probabilities
from minscl.heads.knowledge import (
    CONSISTENCY,
    description_vectors,
    expressions_of,
    guidance_text,
    hierarchy_of,
    inconsistency,
)
from minscl.heads.notes import LabelledNote, encode_notes, label_list, read_coded_notes
from minscl.heads.threshold import DEFAULT, best_threshold, scored_codes
from minscl.heads.windows import window_tokens
from minscl.lora import lora_parameters, save_adapter
from minscl.model import Tokenizer, load_tokenizer, read_config
from minscl.model.digest import folder_digest
from minscl.training.distributed import join_process_group
from minscl.training.estimate import format_duration
from minscl.training.loop import count_steps
from minscl.training.run import load_model_with_lora, measure_machine, warn_if_nothing_is_learned
from minscl.training.run_folder import HEAD_SETTINGS, check_out
from minscl.training.run_settings import checkpoint_settings
from minscl.training.task import Task, run_steps
from minscl.training.tensorboard import check_tensorboard
from minscl.training.validation import check_held_out

Guide = Callable[[LabelledNote, random.Random], list[int]]  # the token ids of a note's guidance


@dataclass(frozen=True)
class HeadStep:
    """One optimiser step: `notes`, and with gki-icd the `guidance` of each, [] for a note without codes."""

    sample_indices: tuple[int, ...]
    notes: tuple[LabelledNote, ...]
    guidance: tuple[list[int], ...]
    window: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(note) for note in self.notes] + [len(ids) for ids in self.guidance]

    @property
    def tokens(self) -> int:
        """Tokens of all texts, those that two windows share counted once."""
        return sum(self.lengths)

    @property
    def computed_tokens(self) -> int:
        """The same with all windows whole: shared tokens counted twice, and padding."""
        return sum(window_tokens(length, self.window) for length in self.lengths)


def train_head(config: RunConfig) -> Path:
    """Train a head; returns its folder, `config.out`. Signals and errors as for training.run.train_adapter."""
    out, codebook = Path(config.out), CodeBook.load()
    check_out(config)
    check_tensorboard(config)
    device, dtype = choose_device(config.device, config.dtype)
    group, device = join_process_group(device)
    if group.size > 1:
        raise InputError(f"--system {config.system}: trains in one process; start it without torchrun")
    if not config.documents:
        raise InputError("nothing to train on: give --documents FILE, coded documents")
    tokenizer, model_config = load_tokenizer(config.model), read_config(Path(config.model))
    check_window(config.window, model_config)
    documents = read_coded_notes(config.documents, codebook, "--documents")
    labels = label_list(documents)
    notes, skipped = encode_notes(documents, labels, tokenizer, config.max_length)
    validation = read_coded_notes(config.validate, codebook, "--validate") if config.validate else []
    check_held_out(config.validate, validation, documents)
    print(describe_notes(notes, labels, skipped, validation), file=sys.stderr)
    rate, machine = measure_machine(config, device, dtype)
    seconds = estimate_seconds([len(note) for note in notes], len(labels), model_config, config, rate)
    steps = count_steps(notes, config)
    print(f"machine: {machine}; 1 process\nrun: {steps:,} steps, about {format_duration(seconds)}", file=sys.stderr)
    warn_if_nothing_is_learned(config, steps)
    if config.dry_run:
        load_model_with_lora(config, device, dtype)
        return out
    with lock_folder(out):
        check_out(config)  # again: another run may have written since
        decoder = load_model_with_lora(config, device, dtype)
        head = make_head(config.system, model_config.hidden_size, labels, config.seed).to(device)
        model = HeadModel(config.system, decoder, head, labels, config.window, config.bidirectional)
        if config.system == GKI_ICD:
            initialise_from_descriptions(model, tokenizer, codebook)
        if config.freeze:
            freeze_decoder(model, notes)
        guide = make_guide(labels, tokenizer, codebook) if config.system == GKI_ICD else None
        edition = codebook.edition.id if guide else ""
        task = head_task(model, notes, validation, tokenizer, config, dtype, guide, edition)
        run_steps(task, config, device, group)
    return out


def describe_notes(
    notes: Sequence[LabelledNote], labels: Sequence[str], skipped: Sequence[str], validation: Sequence[CodedDocument]
) -> str:
    """Notes, tokens, codes, and a line for each note that was skipped."""
    assigned = sum(len(note.labels) for note in notes)
    lines = [
        f"data: {len(notes):,} documents, {sum(map(len, notes)):,} tokens, the longest has {max(map(len, notes)):,}; "
        f"{assigned:,} codes assigned, {len(labels):,} different ones; no other code can be assigned"
    ]
    known = set(labels)
    if validation:
        codes = [item.code for document in validation for item in document.codes]
        unknown = sum(code not in known for code in codes)
        lines.append(f"validation: {len(validation):,} documents, {len(codes):,} codes, {unknown:,} of them no label")
    else:
        lines.append(f"validation: none, so the threshold is {DEFAULT}; give --validate FILE to choose it")
    return "\n".join([*lines, *(f"skipped: {printable(line)}" for line in skipped)])


def head_task(
    model: HeadModel,
    notes: Sequence[LabelledNote],
    validation: Sequence[CodedDocument],
    tokenizer: Tokenizer,
    config: RunConfig,
    dtype: torch.dtype,
    guide: Guide | None = None,
    edition: str = "",
) -> Task:
    """What task.run_steps trains and writes: LoRA and the head of `model`. `guide`: gki-icd's, of `edition`."""
    parameters = {} if config.freeze else dict(lora_parameters(model.decoder))
    parameters |= {f"head.{name}": parameter for name, parameter in model.head.named_parameters()}

    def build_step(indices: list[int], number: int) -> HeadStep:
        members = tuple(notes[index] for index in indices)
        guidance: tuple[list[int], ...] = ()
        if guide:  # drawn anew in every epoch, and a function of seed, step and note, so that a run can be resumed
            generators = [random.Random(f"{config.seed}-{number}-{index}") for index in indices]
            guidance = tuple(guide(note, rng) for note, rng in zip(members, generators, strict=True))
        return HeadStep(tuple(indices), members, guidance, model.window)

    def save(finished: bool) -> str:
        chosen = choose_threshold(model, validation, tokenizer) if finished and validation else (DEFAULT, 0.0)
        settings = HeadSettings(
            config.system,
            model.labels,
            model.decoder.config.hidden_size,
            model.window,
            model.bidirectional,
            *chosen[:1],
            len(validation) if finished else 0,
            *chosen[1:],
            folder_digest(config.model),
        )
        remove_file(Path(config.out) / HEAD_SETTINGS)  # of an earlier save: it would stand beside another's tensors
        save_adapter(model.decoder, Path(config.out), base_model_name=config.model)
        save_head(config.out, model.head, settings)
        if finished and validation:
            print(f"threshold {chosen[0]:.4f}: micro-F1 {100 * chosen[1]:.1f} on {config.validate}", file=sys.stderr)
        return "head"

    # a note's labels are rows of the first
    ids = [(*model.labels, edition), *((note.input_ids, note.labels) for note in notes)]
    settings = checkpoint_settings(dataclasses.replace(config, samples="", spans=""), dtype, ids)
    return Task(model, notes, parameters, settings, forward_backward, save, build_step)


def forward_backward(model: HeadModel, step: HeadStep, device: torch.device) -> float:
    """Forward and backward of one optimiser step; gradients add up in `parameter.grad`. Returns the step's loss.

    With guidance it is GKI-ICD's (knowledge.py): both cross-entropies in equal parts, and the consistency term, the
    mean over all codes of the step's notes.
    """
    step_loss = torch.zeros((), device=device)
    codes = max(sum(len(note.labels) for note in step.notes), 1)
    for index, note in enumerate(step.notes):
        rows = torch.tensor(note.labels, dtype=torch.int64, device=device)
        output = model(list(note.input_ids))
        loss = cross_entropy(output.logits, rows)
        if step.guidance and step.guidance[index]:
            guided = model(step.guidance[index])
            loss = (loss + cross_entropy(guided.logits, rows)) / 2
            distance = inconsistency(output.label_vectors[rows], guided.label_vectors[rows])
            loss = loss + CONSISTENCY * distance * len(step.notes) / codes
        loss = loss / len(step.notes)
        loss.backward()
        step_loss += loss.detach()
    return step_loss.item()


def cross_entropy(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, the mean over all codes: logits (L,), `rows` int64 (n,) of the note's codes → ()."""
    targets = torch.zeros_like(logits).index_fill(0, rows, 1.0)
    return F.binary_cross_entropy_with_logits(logits, targets)


def choose_threshold(
    model: HeadModel, validation: Sequence[CodedDocument], tokenizer: Tokenizer
) -> tuple[float, float]:
    """(threshold, micro-F1) of threshold.best_threshold on the validation documents."""
    model.decoder.eval()
    rows = {code: row for row, code in enumerate(model.labels)}
    scored: list[tuple[float, bool]] = []
    for document in tqdm(validation, unit="note", desc="validation", leave=False):
        gold = [rows[item.code] for item in document.codes if item.code in rows]
        scored += scored_codes(probabilities(model, tokenizer.encode(document.text)), gold)
    model.decoder.train()
    return best_threshold(scored, sum(len({item.code for item in document.codes}) for document in validation))


def initialise_from_descriptions(model: HeadModel, tokenizer: Tokenizer, codebook: CodeBook) -> None:
    """Set queries and outputs of gki-icd's head to description_vectors, in place."""
    descriptions = [codebook.description(code) or code for code in model.labels]
    vectors = description_vectors(model.decoder, tokenizer, descriptions, model.window, model.bidirectional)
    with torch.no_grad():
        for parameter in (model.head.queries, model.head.outputs):
            parameter.copy_(vectors)


def make_guide(labels: Sequence[str], tokenizer: Tokenizer, codebook: CodeBook) -> Guide:
    """The function that draws a note's guidance, from the Alphabetic Index and the Tabular List."""
    expressions = expressions_of(labels, codebook)
    hierarchy = {code: hierarchy_of(code, codebook) for code in labels}

    def guide(note: LabelledNote, rng: random.Random) -> list[int]:
        codes = [labels[row] for row in note.labels]
        return tokenizer.encode(guidance_text(codes, expressions, hierarchy, rng)) if codes else []

    return guide
