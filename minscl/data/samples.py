"""Documents and span pairs as training samples: text first, then ids and loss mask, born together (Eq. 3).

    CodedDocument → (instruction + note, evidence and codes)      Pair → (instruction + evidence, code and description)

Only the target's tokens, its end-of-turn token included, are trained. A sample that is too long is never cut: a document
is skipped and named, a span is refused.

Read next: packing.py.
"""

from collections import Counter

from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, read_samples
from minscl.data.prompts import render_document_prompt, render_document_target, render_span_prompt, render_span_target
from minscl.data.types import CodedDocument, Pair, Sample, TextSample
from minscl.errors import InputError


def document_sample(document, evidence_first: bool = True) -> TextSample:
    """x → E → C of a CodedDocument; `evidence_first=False` gives x → C (Eq. 2)."""
    return TextSample(
        render_document_prompt(document.text, evidence_first),
        render_document_target(document, evidence_first),
        "document",
        document.id,
    )


def span_sample(pair, codebook, name: str = "") -> TextSample:
    """e → c of a Pair, with the Tabular List's description; `name` (file and line) is for messages. Raises InputError for a code that the List
    does not have."""
    description = codebook.description(pair.code)
    if description is None:
        raise InputError(
            f"{name or 'span'}: {pair.evidence!r}: code {pair.code} is not in the Tabular List; mend or drop the pair"
        )
    return TextSample(render_span_prompt(pair.evidence), render_span_target(pair.code, description), "span", name)


def encode_sample(tokenizer, text: TextSample) -> Sample:
    """Prompt and target as ids: the prompt a user turn with the assistant's header after it, the target that turn's answer."""
    prompt = tokenizer.encode_chat([{"role": "user", "content": text.prompt}], add_generation_prompt=True)
    return Sample(tuple(prompt), tuple(tokenizer.encode_answer(text.target)), text.kind, text.name)


def encode_samples(tokenizer, texts, max_length: int) -> tuple[list[Sample], list[str]]:
    """(samples, what was skipped). `texts` holds TextSamples or ready Samples; lengths are tokens.

    A document longer than `max_length` is skipped; any other sample raises InputError.
    """
    samples, skipped = [], []
    for number, text in enumerate(texts, 1):
        sample = text if isinstance(text, Sample) else encode_sample(tokenizer, text)
        if len(sample) <= max_length:
            samples.append(sample)
            continue
        line = f"{sample.kind or 'sample'} {sample.name or number} has {len(sample):,} tokens, more than --max-length {max_length:,}"
        if sample.kind != "document":
            raise InputError(f"{line}; raise --max-length or drop the sample")
        skipped.append(line)
    return samples, skipped


def read_training_data(
    documents, spans, ready, tokenizer, max_length: int, evidence_first: bool = True
) -> tuple[list[Sample], Counter, list[str]]:
    """(samples in file order, how many of each kind, what was skipped), from the paths of documents and span pairs, or of `ready` samples.

    An empty path is left out. Raises InputError where nothing is left.
    """
    if ready:
        texts = read_samples(ready)
        counts = Counter(f"ready {one.kind or 'sample'}s" for one in texts)
    else:
        coded, pairs = (
            read_jsonl(documents, CodedDocument) if documents else [],
            read_jsonl(spans, Pair) if spans else [],
        )
        codebook = CodeBook.load()
        texts = [document_sample(one, evidence_first) for one in coded] + [
            span_sample(one, codebook, f"{spans}: pair {number}") for number, one in enumerate(pairs, 1)
        ]
        counts = Counter({"documents": len(coded)}) + Counter(f"{one.source} spans" for one in pairs)
    samples, skipped = encode_samples(tokenizer, texts, max_length)
    if not samples:
        raise InputError(f"no sample is left to train on ({len(skipped)} too long); raise --max-length {max_length}")
    return samples, counts, skipped


def show_sample(tokenizer, sample: Sample) -> str:
    """The sample as text, token by token, each trained token between ⟦ and ⟧. Special tokens show by name."""
    prompt = tokenizer.decode(list(sample.prompt_ids), skip_special=False)
    trained = "".join(f"⟦{tokenizer.decode([token], skip_special=False)}⟧" for token in sample.target_ids)
    return prompt + trained
