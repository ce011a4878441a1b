"""Error injection in pretraining: the base reads errors that it is never trained to write.

A model trained on correct answers alone has never read an error: after its first one at inference ("Outside rec rec
rec …") it makes more, and gives every line that it quotes, right or wrong, a code. So errors of two kinds are put into
the training data, and none of them is a label:

    token errors  some tokens of an answer are replaced in the input by repeated or random ones; the labels stay
    line errors   evidence lines are inserted that do not belong: denied diseases, other words of the note, repeated
                  and garbled lines. No code refers to them, so the code section learns to ignore them

Read next: pretrain.py.
"""

import dataclasses
import itertools
import random
import re

import torch

from minscl.data.loss import IGNORE
from minscl.data.packing import Pack, Step
from minscl.data.sample_types import Sample

TOKEN_ERROR_RATE = 0.01  # the probability that a run of token errors begins at a target token
LINE_ERROR_RATES = (0.0, 0.1, 0.3, 0.5)  # of a wrong line at each place between lines; one rate per document
REFERENCES = re.compile(r"^\[[\d, ]+\]|\[[\d, ]+\]$")  # of a code line, in either order of prompts.py


def inject_token_errors(pack: Pack, rng: random.Random) -> Pack:
    """The pack with runs of answer tokens in `input_ids` replaced by the tokens before them or by random ones."""
    ids, in_answer = pack.input_ids.tolist(), (pack.labels != IGNORE).tolist()
    for start in itertools.accumulate(pack.lengths[:-1]):
        in_answer[start] = False  # a segment begins with a prompt token, whose label may be the answer's first token
    index = 1
    while index < len(ids):
        if not (in_answer[index - 1] and in_answer[index]) or rng.random() >= TOKEN_ERROR_RATE:
            index += 1
            continue
        period, end = rng.choice((1, 1, 2, 3)), min(index + rng.randint(1, 8), len(ids))
        use_random = rng.random() < 0.3
        while index < end and in_answer[index]:  # never past the end of the answer
            ids[index] = rng.choice(ids) if use_random else ids[max(0, index - period)]
            index += 1
    return dataclasses.replace(pack, input_ids=torch.tensor(ids))


def inject_line_errors(
    target: str, note: str, phrases: frozenset[str], rng: random.Random
) -> tuple[str, list[tuple[int, int]]]:
    """(target with wrong evidence lines inserted and references renumbered, half-open offsets of these lines in it).

    `target`: a text of prompts.render_document_target; `phrases`: lower-cased phrases that may name a disease.
    """
    head, _, codes = target.partition("\nCodes:\n")
    lines = [line.split(" ", 1)[1] for line in head.split("\n")[1:] if line != "none"]
    if not lines:
        return target, []
    rate = rng.choice(LINE_ERROR_RATES)
    written: list[tuple[str, bool]] = []  # (line, whether it is evidence)
    for number in range(len(lines) + 1):
        while rng.random() < rate:
            written.append((wrong_line(note, lines, number, phrases, rng), False))
        written += [(line, True) for line in lines[number : number + 1]]
    new_numbers = [number for number, (_, is_evidence) in enumerate(written, 1) if is_evidence]  # by old number - 1
    text, offsets = "Evidence:", []
    for number, (line, is_evidence) in enumerate(written, 1):
        start = len(text)
        text += f"\n{number}. {line}"
        if not is_evidence:
            offsets.append((start + 1, len(text) + 1))  # from its number to its line break, inclusive

    def renumber(match: re.Match) -> str:
        return f"[{', '.join(str(new_numbers[int(number) - 1]) for number in match[0][1:-1].split(', '))}]"

    renumbered = "\n".join(REFERENCES.sub(renumber, line, count=1) for line in codes.split("\n"))
    return f"{text}\nCodes:\n{renumbered}", offsets


def wrong_line(note: str, lines: list[str], number: int, phrases: frozenset[str], rng: random.Random) -> str:
    """A line that is not evidence: a disease that the note mentions but does not affirm, other words of the note, a
    garbled line of `lines`, or one of its first `number` lines again."""
    words, kind = note.split(), rng.random()
    if kind < 0.15 and number:
        return rng.choice(lines[:number])
    if kind < 0.3:
        garbled = rng.choice(lines).split() + rng.sample(words, min(2, len(words)))
        rng.shuffle(garbled)
        return " ".join(garbled[: rng.randint(1, 4)])
    evidence = [line.casefold() for line in lines]
    spans = (
        [" ".join(words[a : a + n]).strip(".,;:()") for a in range(len(words)) for n in range(1, 6)]
        if kind < 0.75
        else []
    )
    diseases = [
        span
        for span in spans
        if span.lower() in phrases and not any(span.casefold() in line or line in span.casefold() for line in evidence)
    ]
    if diseases:
        return rng.choice(diseases)
    first = rng.randrange(len(words))
    return " ".join(words[first : first + rng.randint(1, 5)])


def mark_unlabelled(sample: Sample, pieces: list[bytes | None], target: str, offsets) -> Sample:
    """The sample with each target token that touches `offsets` stored as ~id, which is negative.

    `pieces`: the bytes of each token id. prepare_step restores the ids and gives them no label.
    """
    marked, end = [], 0
    byte_offsets = [(len(target[:a].encode()), len(target[:b].encode())) for a, b in offsets]
    for token in sample.target_ids:
        start, end = end, end + len(pieces[token] or b"")
        marked.append(~token if any(start < b and a < end for a, b in byte_offsets) else token)
    return dataclasses.replace(sample, target_ids=tuple(marked))


def prepare_step(step: Step, rng: random.Random) -> Step:
    """The step as it is trained: marked tokens are input without a label, and token errors are injected."""
    packs = []
    for pack in step.packs:
        ids, labels = pack.input_ids, pack.labels
        pack = dataclasses.replace(
            pack, input_ids=torch.where(ids < 0, ~ids, ids), labels=torch.where(labels < 0, IGNORE, labels)
        )
        packs.append(inject_token_errors(pack, rng))
    target_tokens = sum(int((pack.labels != IGNORE).sum()) for pack in packs)
    return dataclasses.replace(step, packs=tuple(packs), target_tokens=target_tokens)
