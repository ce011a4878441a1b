"""Documents and span pairs as training samples: text first, then ids and loss mask, born together (Eq. 3).

    CodedDocument → (instruction + note, evidence and codes)      Pair → (instruction + evidence, code and description)

Only the target's tokens, its end-of-turn token included, are trained. A sample that is too long is never cut: a document
is skipped and named, a span is refused.

Read next: packing.py.
"""

import sys

from minscl.data.prompts import render_document_prompt, render_document_target, render_span_prompt, render_span_target
from minscl.data.types import Sample, TextSample
from minscl.errors import InputError


def document_sample(document, evidence_first: bool = True) -> TextSample:
    """x → E → C of a CodedDocument; `evidence_first=False` gives x → C (Eq. 2)."""
    return TextSample(render_document_prompt(document.text, evidence_first), render_document_target(document, evidence_first), "document")


def span_sample(pair, codebook) -> TextSample:
    """e → c of a Pair, with the Tabular List's description. Raises InputError for a code that the List does not have."""
    description = codebook.description(pair.code)
    if description is None:
        raise InputError(f"span {pair.evidence!r}: code {pair.code} is not in the Tabular List; mend or drop the pair")
    return TextSample(render_span_prompt(pair.evidence), render_span_target(pair.code, description), "span")


def encode_sample(tokenizer, text: TextSample) -> Sample:
    """Prompt and target as ids: the prompt a user turn with the assistant's header after it, the target that turn's answer."""
    prompt = tokenizer.encode_chat([{"role": "user", "content": text.prompt}], add_generation_prompt=True)
    return Sample(tuple(prompt), tuple(tokenizer.encode_answer(text.target)), text.kind)


def encode_samples(tokenizer, texts, max_length: int) -> tuple[list[Sample], list[str]]:
    """(samples, what was skipped). `texts` holds TextSamples or ready Samples; lengths are tokens.

    A document longer than `max_length` is skipped and named on stderr; any other sample raises InputError.
    """
    samples, skipped = [], []
    for number, text in enumerate(texts, 1):
        sample = text if isinstance(text, Sample) else encode_sample(tokenizer, text)
        if len(sample) <= max_length:
            samples.append(sample)
            continue
        line = f"sample {number} ({sample.kind}) has {len(sample):,} tokens, more than --max-length {max_length:,}"
        if sample.kind != "document":
            raise InputError(f"{line}; raise --max-length or drop the sample")
        print(f"skipped: {line}", file=sys.stderr)
        skipped.append(line)
    return samples, skipped


def show_sample(tokenizer, sample: Sample) -> str:
    """The sample as text, token by token, each trained token between ⟦ and ⟧. Special tokens show by name."""
    prompt = tokenizer.decode(list(sample.prompt_ids), skip_special=False)
    trained = "".join(f"⟦{tokenizer.decode([token], skip_special=False)}⟧" for token in sample.target_ids)
    return prompt + trained
