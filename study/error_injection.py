"""Mistakes shown to the base in training, so that one of its own does not lead to the next.

A model trained on right answers alone has never read a wrong one: after its first slip ("Outside rec rec rec ...") it goes on slipping, and every
line it quotes, right or wrong, gets a code. Two kinds are shown, and neither is ever a label:

    stutter     some tokens of an answer, as the model reads them, repeat what stood before or come from elsewhere; the labels stay the answer's
    mislead     whole evidence lines that do not belong: denied diseases, any words of the note, a line once more, a line garbled. The codes
                do not refer to them, so the code section learns to pass them over

Read next: pretrain.py.
"""

import dataclasses
import itertools
import random
import re

import torch

from minscl.data.loss import IGNORE
from minscl.data.packing import Pack, Step
from minscl.data.types import Sample

STUTTERS = 0.01  # a target token begins a stutter with this chance
MISLED = (0.0, 0.1, 0.3, 0.5)  # chance of a wrong line at each place between evidence lines; one is drawn a document
REFERENCES = re.compile(r"\[([\d, ]+)\]$")


def stutter(pack: Pack, rng: random.Random) -> Pack:
    """The pack with some of its answers' tokens, as the model reads them, replaced by what stood just before or by any token of the pack."""
    ids, trained = pack.input_ids.tolist(), (pack.labels != IGNORE).tolist()
    for start in itertools.accumulate(pack.lengths[:-1]):
        trained[start] = (
            False  # a segment's first token belongs to no answer, though it may have a label: the answer's first
        )
    at = 1
    while at < len(ids):
        if not (trained[at - 1] and trained[at]) or rng.random() >= STUTTERS:
            at += 1
            continue
        period, end = rng.choice((1, 1, 2, 3)), min(at + rng.randint(1, 8), len(ids))
        foreign = rng.random() < 0.3
        while at < end and trained[at]:  # never past the answer's end
            ids[at] = rng.choice(ids) if foreign else ids[max(0, at - period)]
            at += 1
    return dataclasses.replace(pack, input_ids=torch.tensor(ids))


def mislead(target: str, note: str, phrases: frozenset[str], rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """(target with wrong evidence lines put in and the rest renumbered, their places in it as half-open characters).

    `target`: render_document_target's text; `phrases`: what may be a disease, in lower case.
    """
    head, _, codes = target.partition("\nCodes:\n")
    lines = [line.split(" ", 1)[1] for line in head.split("\n")[1:] if line != "none"]
    if not lines:
        return target, []
    rate = rng.choice(MISLED)
    shown: list[tuple[str, bool]] = []  # text, whether it belongs
    for number in range(len(lines) + 1):
        while rng.random() < rate:
            shown.append((wrong_line(note, lines, number, phrases, rng), False))
        shown += [(text, True) for text in lines[number : number + 1]]
    renumbered = [place for place, (_, belongs) in enumerate(shown, 1) if belongs]  # old number - 1 → new number
    text, places = "Evidence:", []
    for number, (line, belongs) in enumerate(shown, 1):
        start = len(text)
        text += f"\n{number}. {line}"
        if not belongs:
            places.append((start + 1, len(text) + 1))  # from its number to its line break

    def refer(match: re.Match) -> str:
        return f"[{', '.join(str(renumbered[int(one) - 1]) for one in match[1].split(', '))}]"

    return f"{text}\nCodes:\n" + "\n".join(REFERENCES.sub(refer, line) for line in codes.split("\n")), places


def wrong_line(note: str, lines: list[str], number: int, phrases: frozenset[str], rng: random.Random) -> str:
    """A line that is not evidence: a disease that the note names and does not affirm, other words of it, one of `lines` garbled, or one
    of the first `number` of them again."""
    words, kind = note.split(), rng.random()
    if kind < 0.15 and number:
        return rng.choice(lines[:number])
    if kind < 0.3:
        other = rng.choice(lines).split() + rng.sample(words, min(2, len(words)))
        rng.shuffle(other)
        return " ".join(other[: rng.randint(1, 4)])
    quoted = [line.casefold() for line in lines]
    spans = (
        [" ".join(words[a : a + n]).strip(".,;:()") for a in range(len(words)) for n in range(1, 6)]
        if kind < 0.75
        else []
    )
    diseases = [
        one
        for one in spans
        if one.lower() in phrases and not any(one.casefold() in line or line in one.casefold() for line in quoted)
    ]
    if diseases:
        return rng.choice(diseases)
    first = rng.randrange(len(words))
    return " ".join(words[first : first + rng.randint(1, 5)])


def unlearned(sample: Sample, pieces: list[bytes | None], target: str, places) -> Sample:
    """The sample with the target tokens that touch `places` marked: as ~id, a negative number, which `learn` turns back into an id without a label."""
    marked, end = [], 0
    bounds = [(len(target[:a].encode()), len(target[:b].encode())) for a, b in places]
    for token in sample.target_ids:
        start, end = end, end + len(pieces[token] or b"")
        marked.append(~token if any(start < b and a < end for a, b in bounds) else token)
    return dataclasses.replace(sample, target_ids=tuple(marked))


def learn(step: Step, rng: random.Random) -> Step:
    """The step as it is trained: marked tokens are read and are nobody's label, and answers stutter."""
    packs = []
    for one in step.packs:
        ids, labels = one.input_ids, one.labels
        one = dataclasses.replace(
            one, input_ids=torch.where(ids < 0, ~ids, ids), labels=torch.where(labels < 0, IGNORE, labels)
        )
        packs.append(stutter(one, rng))
    return dataclasses.replace(
        step, packs=tuple(packs), target_tokens=sum(int((one.labels != IGNORE).sum()) for one in packs)
    )
