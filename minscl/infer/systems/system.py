"""The systems of the paper's Table 1 that generate: SCL, and the baselines that are compared with it on the same decoder.

    scl      evidence, then codes (Eq. 1)
    sft      codes alone (Eq. 2), by an adapter trained with --no-evidence
    cot      zero-shot chain of thought: reason, then list the codes (Wei et al. 2022)
    cot-sc   self-consistency (Wang et al. 2023): several sampled chains; a code stands if at least half of them give it

A baseline names no evidence. deviates: the paper prints neither its prompts nor cot-sc's settings; the vote on sets of codes is ours.

Read next: data/prompts.py for the prompts and their parsers; coder.py, which runs them.
"""

import random
from collections import Counter
from dataclasses import dataclass

from minscl.data.prompts import render_document_prompt, render_reasoning_prompt
from minscl.errors import InputError
from minscl.infer.sampling import Sampler

SYSTEMS = ("scl", "sft", "cot", "cot-sc")


@dataclass(frozen=True)
class System:
    """One of SYSTEMS. The rest is for cot-sc: `chains` a note, drawn at `temperature` from the likeliest tokens that reach `top_p` together."""

    name: str = "scl"
    chains: int = 5
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0

    def __post_init__(self):
        if self.name not in SYSTEMS:
            raise InputError(f"--system {self.name}: choose one of {', '.join(SYSTEMS)}")
        if self.chains < 1 or not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"--chains {self.chains}, --temperature {self.temperature}, --top-p {self.top_p}: at least 1; above 0; above 0 and at most 1"
            )

    def prompt(self, text: str) -> str:
        """What the model is asked about a note."""
        return (
            render_reasoning_prompt(text)
            if self.name.startswith("cot")
            else render_document_prompt(text, evidence_first=self.name == "scl")
        )

    def samplers(self, id: str) -> list[Sampler | None]:
        """One an answer to the note `id`: None writes the likeliest tokens. A chain's draws depend on seed, note and number alone."""
        if self.name != "cot-sc":
            return [None]
        seeds = [random.Random(f"{self.seed}-{id}-{number}").getrandbits(62) for number in range(self.chains)]
        return [Sampler(self.temperature, self.top_p, seed) for seed in seeds]


def vote(answers: list[list[str]]) -> list[tuple[str, float]]:
    """(code, share of the answers that give it), for shares of at least a half: most votes first, then as they first appeared."""
    votes = Counter(code for codes in answers for code in dict.fromkeys(codes))
    return [(code, number / len(answers)) for code, number in votes.most_common() if 2 * number >= len(answers)]
