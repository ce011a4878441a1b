"""Documents and span pairs as training samples: text first, then token ids with the loss mask, made together (Eq. 3).

    CodedDocument  →  prompt: instruction + note        target: evidence and codes      x → E → C, first term of Eq. 3
    Pair           →  prompt: instruction + evidence    target: code and description    e → c, second term of Eq. 3

A Sample holds `prompt_ids` and `target_ids`. The loss mask is that boundary: only the target's tokens, its end-of-turn
token included, are trained. Nothing is ever truncated: a document that is too long is skipped and reported, a span that
is too long raises InputError.

Read next: packing.py.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from minscl.data.coded_records import read_documents, read_pairs
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_samples
from minscl.data.prompts import render_document_prompt, render_document_target, render_span_prompt, render_span_target
from minscl.data.record_checks import show_id
from minscl.data.sample_types import Sample, TextSample
from minscl.data.types import CodedDocument, Pair
from minscl.errors import InputError

MAX_TOKEN_CHARACTERS = 256  # no vocabulary has longer tokens; a text above it is not tokenised to count its tokens
UNLISTED = "codes of theirs that the Tabular List lacks (trained as they are)"
WITHOUT_EVIDENCE = "of them with codes but no evidence (give evidence, or train with --no-evidence)"


class Tokenizer(Protocol):
    """The methods of model.Tokenizer that are used here; data/ does not import model/."""

    def encode_chat(self, messages: list[dict], add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a conversation."""
        ...

    def encode_answer(self, text: str) -> list[int]:
        """Token ids of the assistant's answer, its end token included."""
        ...

    def decode(self, ids: list[int], skip_special: bool = True) -> str:
        """Text of token ids."""
        ...


def document_sample(document: CodedDocument, evidence_first: bool = True, reference_first: bool = True) -> TextSample:
    """A document as text: x → E → C (Eq. 1 and 4), or with `evidence_first=False` x → C (Eq. 2).

    `reference_first=False`: the earlier order of a code line (prompts.py).
    """
    return TextSample(
        prompt=render_document_prompt(document.text, evidence_first, reference_first),
        target=render_document_target(document, evidence_first, reference_first),
        kind="document",
        name=show_id(document.id),
    )


def span_sample(pair: Pair, codebook: CodeBook, name: str = "") -> TextSample:
    """A span pair as text: e → c (Eq. 5), with the Tabular List's description. `name`, file and line, is for messages.

    Raises InputError for a code that is not in the Tabular List.
    """
    description = codebook.description(pair.code)
    if description is None:
        raise InputError(
            f"{name or 'span'}: code {pair.code} is not in the Tabular List; correct the code or drop the pair"
        )
    return TextSample(render_span_prompt(pair.evidence), render_span_target(pair.code, description), "span", name)


def encode_sample(tokenizer: Tokenizer, text: TextSample) -> Sample:
    """Text → ids. Prompt: a user turn and the assistant's header; target: the assistant's turn up to its end token."""
    prompt_ids = tokenizer.encode_chat([{"role": "user", "content": text.prompt}], add_generation_prompt=True)
    return Sample(tuple(prompt_ids), tuple(tokenizer.encode_answer(text.target)), text.kind, text.name)


def encode_samples(
    tokenizer: Tokenizer, texts: Iterable[TextSample | Sample], max_length: int
) -> tuple[list[Sample], list[str]]:
    """(samples, one line per document that was skipped). `max_length` is in tokens; Samples are passed through.

    A document longer than `max_length` is skipped; any other sample of that length raises InputError.
    """
    samples, skipped = [], []
    for number, text in enumerate(texts, 1):
        name = f"{text.kind or 'sample'} {text.name or number}"
        if isinstance(text, TextSample) and len(text.prompt + text.target) > MAX_TOKEN_CHARACTERS * max_length:
            message = f"{name} has {len(text.prompt + text.target):,} characters, more than --max-length {max_length:,}"
        else:
            sample = text if isinstance(text, Sample) else encode_sample(tokenizer, text)
            if len(sample) <= max_length:
                samples.append(sample)
                continue
            message = f"{name} has {len(sample):,} tokens, more than --max-length {max_length:,}"
        if text.kind != "document":
            raise InputError(f"{message}; raise --max-length or drop the sample")
        skipped.append(message)
    return samples, skipped


def read_training_data(
    documents: str,
    spans: str,
    ready_samples: str,
    tokenizer: Tokenizer,
    max_length: int,
    evidence_first: bool = True,
) -> tuple[list[Sample], Counter[str], list[str]]:
    """(samples in file order, their number by kind and source, one line per skipped document).

    Reads the JSONL files `documents` and `spans`, or `ready_samples` instead of both; "" means no file. Both terms
    of Eq. 3 end up in one list, which training/loop.py shuffles. Raises InputError where no sample is left and for a
    code that coded_records.py refuses.
    """
    texts: list[TextSample | Sample] = []
    counts: Counter[str] = Counter()
    if ready_samples:
        texts += read_samples(ready_samples)
        counts.update(f"ready {sample.kind or 'sample'}s" for sample in texts)
    if documents and not ready_samples:
        book = CodeBook.load()
        coded = read_documents(documents, book)
        texts += [document_sample(document, evidence_first) for document in coded]
        counts["documents"] = len(coded)
        if unlisted := sum(book.description(item.code) is None for document in coded for item in document.codes):
            counts[UNLISTED] = unlisted
        if evidence_first:  # their answer is "Evidence: none", then codes
            counts[WITHOUT_EVIDENCE] = sum(_lacks_evidence(document) for document in coded)
    if spans and not ready_samples:
        codebook = CodeBook.load()
        pairs = read_pairs(spans, codebook, listed=True)
        texts += [span_sample(pair, codebook, f"{spans}: pair {number}") for number, pair in enumerate(pairs, 1)]
        counts.update(f"{pair.source} spans" for pair in pairs)
    if not texts:
        names = ", ".join(filter(None, [ready_samples] if ready_samples else [documents, spans]))
        raise InputError(f"{names}: no record to train on; name a file that has some")
    samples, skipped = encode_samples(tokenizer, texts, max_length)
    if not samples:
        raise InputError(f"no sample is left to train on ({len(skipped)} too long); raise --max-length {max_length}")
    return samples, counts, skipped


def _lacks_evidence(document: CodedDocument) -> bool:
    """Whether the document has codes and none of them has evidence."""
    return bool(document.codes) and not any(assignment.evidence for assignment in document.codes)


def show_sample(tokenizer: Tokenizer, sample: Sample) -> str:
    """The sample as text, each trained token between ⟦ and ⟧. Special tokens show by name."""
    prompt = tokenizer.decode(list(sample.prompt_ids), skip_special=False)
    trained = "".join(f"⟦{tokenizer.decode([token], skip_special=False)}⟧" for token in sample.target_ids)
    return prompt + trained
