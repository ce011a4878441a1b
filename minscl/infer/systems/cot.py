"""The zero-shot baselines that reason before they list codes.

    cot      chain of thought, decoded greedily (Wei et al. 2022, arXiv 2201.11903; zero-shot: Kojima et al. 2022,
             arXiv 2205.11916)
    cot-sc   self-consistency: several sampled chains and a vote (Wang et al. 2023, arXiv 2203.11171)

Self-consistency takes the majority among single answers. An answer here is a set of codes, so each code is voted on: it
is assigned if at least half of the chains have it, and its score is their share.

deviates: the paper prints neither the prompts nor the sampling settings of these baselines; the vote on sets of codes
is ours.

Read next: ../coder.py.
"""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from minscl.data.chains import CHAIN, join_answers
from minscl.data.icd import CodeBook
from minscl.data.prompts import parse_codes, render_reasoning_prompt
from minscl.data.types import Assignment, CodedDocument, Note
from minscl.errors import InputError
from minscl.infer.sampling import Sampler
from minscl.infer.sequence import Generation
from minscl.infer.systems.system import System

COT = System("cot", render_reasoning_prompt, parse_codes)
COT_SC = "cot-sc"
FLAGS = ("--chains", "--temperature", "--top-p", "--seed")


@dataclass(frozen=True)
class Sampling:
    """Settings of cot-sc: `chains` per note, sampled at `temperature` from the nucleus of probability `top_p`.

    Raises InputError for a value outside its range.
    """

    chains: int = 5
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self):
        for name, value, valid, allowed in (
            ("chains", self.chains, 1 <= self.chains <= 1000, "1 to 1000"),
            ("temperature", self.temperature, 0.001 <= self.temperature <= 100, "0.001 to 100"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("seed", self.seed, abs(self.seed) < 2**63, "a whole number of 64 bits"),
        ):
            if not valid:
                raise InputError(f"--{name} {value}: must be {allowed}")

    def sampler(self, note_id: str, chain: int) -> Sampler:
        """A sampler whose draws depend only on the seed, the note and the number of the chain, not on the batch."""
        seed = random.Random(f"{self.seed}-{note_id}-{chain}").getrandbits(62)
        return Sampler(self.temperature, self.top_p, seed)


def check_sampling_flags(system: str, flags: Collection[str]) -> None:
    """Raises InputError where one of `flags`, those that the user gave, samples answers and `system` does not."""
    for name in FLAGS:
        if system != COT_SC and name in flags:
            raise InputError(
                f"--system {system} {name}: its answers are not sampled; leave {name} out, or give --system {COT_SC}"
            )


def self_consistency(sampling: Sampling) -> System:
    """The system cot-sc."""
    return System(COT_SC, render_reasoning_prompt, parse_codes, chains=sampling.chains, sampler=sampling.sampler)


def vote(answers: list[list[str]]) -> list[tuple[str, float]]:
    """(code, share of the answers that have it), at least half: most votes first, ties in order of appearance."""
    votes = Counter(code for codes in answers for code in dict.fromkeys(codes))
    return [(code, count / len(answers)) for code, count in votes.most_common() if 2 * count >= len(answers)]


def count_votes(note: Note, chains: list[Generation], tokenizer, codebook: CodeBook | None = None) -> CodedDocument:
    """The document of several chains: the codes that win the vote, their share as score; `output` holds all chains."""
    book = codebook or CodeBook.load()
    texts = [tokenizer.decode(chain.ids) for chain in chains]
    parsed = [
        parse_codes(text, book.has_category, truncated=not chain.stopped)
        for text, chain in zip(texts, chains, strict=True)
    ]
    codes = tuple(
        Assignment(code, book.description(code) or "", score=share)
        for code, share in vote([[item.code for item in answer.codes] for answer in parsed])
    )
    truncated = sum(answer.truncated for answer in parsed)
    warnings = [f"{truncated} of {len(chains)} chains stopped at their length limit"] if truncated else []
    output = join_answers(texts, CHAIN)
    return CodedDocument(
        note.id, note.text, codes, output=output, warnings=tuple(warnings), truncated=truncated or None
    )
