"""Validation while a run trains (--validate): held-out documents and spans, which no step reads.

    loss         Eq. 6 over them: Σ over target tokens, -log p(y_t | x, y_<t)  /  number of their target tokens
    code_f1      micro-F1 of the codes that the model writes for documents
    evidence_f1  of the words it quotes for them: MDACE's token_exact_match, a word at its place with its code

A larger file is sampled, the same records every time, so that a validation costs a bounded part of the run. Documents
are coded as `generate` codes them by default, by a function that train.py passes in. Several processes share the packs
and the documents, and add up their counts. With --fsdp each would wait for the others' every token, so no document is
coded.

Read next: best.py, which chooses the best adapter; task.py, which calls this.
"""

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch

from minscl.config import RunConfig
from minscl.data.coded_records import read_documents, read_documents_and_pairs
from minscl.data.icd import CodeBook
from minscl.data.loss import IGNORE, masked_loss
from minscl.data.packing import Pack, pack_step
from minscl.data.record_checks import show_id
from minscl.data.sample_types import Sample
from minscl.data.samples import Tokenizer, document_sample, encode_samples, span_sample
from minscl.data.types import CodedDocument
from minscl.errors import InputError, printable
from minscl.model import Decoder, SharedPrefixMask
from minscl.training.best import check_finite
from minscl.training.distributed import ProcessGroup
from minscl.training.loop import LOGIT_CHUNK

# At most, for the loss and to be coded. The forward passes of 128 notes cost what four steps of 16 such notes do.
MAX_DOCUMENTS, MAX_SPANS, MAX_CODED = 128, 1024, 32
SEED = 0  # of their choice, so that runs with other seeds are compared on the same records
SAMPLES_AT_A_TIME = 16  # between two looks at whether the run is to stop


Item = TypeVar("Item")


class Stopped(Exception):
    """The run is to stop; the validation is given up."""


class Counts(NamedTuple):
    """Of coded documents: codes, and words of evidence with their code, that are right, predicted, and in gold."""

    right_codes: int
    predicted_codes: int
    gold_codes: int
    right_words: int
    predicted_words: int
    gold_words: int


# (model, tokenizer, documents, whether the run is to stop) → Counts; raises Stopped
CodeDocuments = Callable[[Decoder, Tokenizer, Sequence[CodedDocument], Callable[[], bool]], Counts]


@dataclass(frozen=True)
class HeldOut:
    """What is validated on: `samples` for the loss, `coded`: the documents to be coded; `skipped`: too long ones.

    `available`: samples in the file.
    """

    available: int
    samples: tuple[Sample, ...]
    coded: tuple[CodedDocument, ...]
    skipped: tuple[str, ...]

    def describe(self, config: RunConfig) -> str:
        """A line for the user, and one for each document that was skipped."""
        documents = sum(sample.kind == "document" for sample in self.samples)
        part = f", of {self.available:,} in the file" if self.available > len(self.samples) else ""
        coded = f"{len(self.coded):,} documents are coded" if self.coded else "no document is coded"
        if config.fsdp and documents:
            coded += " with --fsdp, so the lowest loss is the best"
        line = (
            f"validation: {documents:,} documents, {len(self.samples) - documents:,} spans{part}; {coded}; every "
            f"{config.validate_every:,} steps"
        )
        return "\n".join([line, *(f"not validated on: {printable(text)}" for text in self.skipped)])

    def digest(self) -> str:
        """SHA-256 of the samples, so that a resumed run compares its scores with those of the same ones."""
        ids = repr([(sample.prompt_ids, sample.target_ids) for sample in self.samples])
        return hashlib.sha256(ids.encode()).hexdigest()


def read_held_out(config: RunConfig, tokenizer: Tokenizer, training: Sequence[Sample]) -> HeldOut:
    """A sample of the records of `config.validate`.

    Raises InputError as read_documents_and_pairs does, for a record that is also in `training`, and where all have more
    than `config.max_length` tokens.
    """
    codebook = CodeBook.load()
    documents, pairs = read_documents_and_pairs(config.validate, codebook)
    trained = read_documents(config.documents, codebook) if config.documents and not config.samples else []
    check_held_out(config.validate, documents, trained)
    texts = [document_sample(document, not config.no_evidence) for document in documents]
    encoded = [encode_samples(tokenizer, [text], config.max_length) for text in texts]
    spans = [span_sample(pair, codebook, f"{config.validate}: pair {number}") for number, pair in enumerate(pairs, 1)]
    fitting = [(text, found[0]) for text, (found, _) in zip(documents, encoded, strict=True) if found]
    span_samples, _ = encode_samples(tokenizer, spans, config.max_length)
    samples = [sample for _, sample in fitting] + span_samples
    check_samples_held_out(config.validate, samples, training)
    if not samples:
        raise InputError(
            f"--validate {config.validate}: no record of at most --max-length {config.max_length} tokens; give shorter "
            "ones"
        )
    chosen = choose(fitting, MAX_DOCUMENTS)
    coded = choose([document for document, _ in chosen if document.text.strip()], 0 if config.fsdp else MAX_CODED)
    used = [sample for _, sample in chosen] + choose(span_samples, MAX_SPANS)
    return HeldOut(len(samples), tuple(used), tuple(coded), tuple(line for _, lines in encoded for line in lines))


def choose(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, in their order, the same ones at every call."""
    chosen = random.Random(SEED).sample(range(len(items)), min(most, len(items)))
    return [items[index] for index in sorted(chosen)]


def check_held_out(path: str, documents: Iterable[CodedDocument], training: Sequence[CodedDocument]) -> None:
    """Raises InputError naming the first document of `path` that `training` has too: its id, or its text.

    Texts that differ in white space only count as the same.
    """
    ids = {document.id for document in training}
    id_of_text = {" ".join(document.text.split()): document.id for document in training}
    for document in documents:
        other = document.id if document.id in ids else id_of_text.get(" ".join(document.text.split()))
        if other is not None:
            name = "" if other == document.id else f" as {show_id(other)}"
            raise InputError(
                f"--validate {path}: document {show_id(document.id)} is also trained on{name}; remove it from one of "
                "the files"
            )


def check_samples_held_out(path: str, samples: Iterable[Sample], training: Iterable[Sample]) -> None:
    """The same for samples: the prompt of a document, prompt and target of a span (one phrase may have two codes)."""
    trained = {key for sample in training for key in (sample.prompt_ids, (sample.prompt_ids, sample.target_ids))}
    for sample in samples:
        key = sample.prompt_ids if sample.kind == "document" else (sample.prompt_ids, sample.target_ids)
        if key in trained:
            raise InputError(f"--validate {path}: {sample.name} is also trained on; remove it from one of the files")


class Validation:
    """Scores a model on held-out data: `validation(is_stopping)` → the scores for metrics.jsonl, None if stopped.

    `code_documents`: codes documents and counts; None: the loss alone is computed.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        held_out: HeldOut,
        config: RunConfig,
        device: torch.device,
        group: ProcessGroup,
        code_documents: CodeDocuments | None,
    ):
        self.model, self.tokenizer, self.held_out, self.config = model, tokenizer, held_out, config
        self.device, self.group, self.code_documents = device, group, code_documents

    def __call__(self, is_stopping: Callable[[], bool]) -> dict | None:
        """{"loss", "code_f1", "evidence_f1", "seconds"}: fractions, nats a token. F1 only where documents are coded,
        evidence_f1 where they have evidence. None where a process is to stop. The model's training mode is kept."""
        start, was_training = time.monotonic(), self.model.training
        self.model.eval()  # no dropout
        try:
            scores = self._loss(is_stopping)
            if scores and self.code_documents and self.held_out.coded:
                scores = self._coded(scores, is_stopping)
        finally:
            self.model.train(was_training)
        if scores is None:
            return None
        check_finite(scores)
        return scores | {"seconds": time.monotonic() - start}

    def _loss(self, is_stopping: Callable[[], bool]) -> dict | None:
        """{"loss"}; None where a process is to stop. All processes make equally many passes, as --fsdp needs."""
        samples, total = self.held_out.samples, 0.0
        order = sorted(range(len(samples)), key=lambda index: len(samples[index]))  # similar lengths fill packs best
        for first in range(0, len(order), SAMPLES_AT_A_TIME):
            [stopping] = self.group.sum(is_stopping())
            if stopping:
                return None
            indices = order[first : first + SAMPLES_AT_A_TIME]
            step = pack_step(samples, indices, self.config.pack_length, self.group.rank, self.group.size)
            total += sum(pack_loss(self.model, pack.to(self.device)) for pack in step.packs)
        [total] = self.group.sum(total)
        return {"loss": total / sum(len(sample.target_ids) for sample in samples)}

    def _coded(self, scores: dict, is_stopping: Callable[[], bool]) -> dict | None:
        """`scores` with the F1 of the codes and of the evidence; None where a process is to stop."""
        share = self.held_out.coded[self.group.rank :: self.group.size]
        counts, stopped = Counts(*[0] * 6), 0
        try:
            if share and self.code_documents:
                counts = self.code_documents(self.model, self.tokenizer, share, is_stopping)
        except Stopped:
            stopped = 1
        *sums, stopped = map(int, self.group.sum(*counts, stopped))
        if stopped:
            return None
        total = Counts(*sums)
        scores = scores | {"code_f1": f1(total.right_codes, total.predicted_codes, total.gold_codes)}
        if total.gold_words:
            scores["evidence_f1"] = f1(total.right_words, total.predicted_words, total.gold_words)
        return scores


@torch.no_grad()
def pack_loss(model: Decoder, pack: Pack) -> float:
    """Σ -log p over the target tokens of one pack, LOGIT_CHUNK of them at a time."""
    is_target = pack.labels != IGNORE  # (T,); none is one in the idle pack of a process without samples
    labels = pack.labels[is_target]
    mask = SharedPrefixMask(pack.lengths, pack.parents)
    [hidden] = model.model(pack.input_ids[None], positions=pack.positions[None], mask=mask, logits_to_keep=is_target)
    chunks = zip(hidden.split(LOGIT_CHUNK), labels.split(LOGIT_CHUNK), strict=True)  # (N, C) and (N,), N targets
    return sum(masked_loss(model.lm_head(states), targets).item() for states, targets in chunks)


def f1(right: int, predicted: int, gold: int) -> float:
    """2 TP / (predicted + gold), the harmonic mean of precision and recall; 0/0 is 0."""
    return 2 * right / (predicted + gold) if predicted + gold else 0.0
