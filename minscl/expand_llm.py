"""The part of `expand` that asks a language model: silver and synthetic pairs.

Read next: data/silver.py (Eq. 7, 8), data/synthetic.py (Eq. 9), infer/llm.py.
"""

import sys
from collections import Counter
from dataclasses import dataclass

from minscl.cli import flag, format_counts, path_flag, require
from minscl.config import DEMO
from minscl.data.answer_log import AnswerLog
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans.silver import StageOneAnswer, StageTwoAnswer, candidates, choose, mine, silver_pairs
from minscl.data.spans.synthetic import Written, neighbours, synthesise, template_pairs
from minscl.data.types import CodedDocument, Pair
from minscl.errors import InputError


@dataclass(frozen=True)
class Asking:
    """Who is asked: a server where --endpoint names one, else a local model."""

    model: str = flag(
        "",
        "local model folder (default: the embedded model, too small to be of use), or the name of the endpoint's model",
    )
    adapter: str = flag("", "LoRA adapter folder of a local model")
    dtype: str = flag("auto", "of a local model: float32, bfloat16 or float16")
    device: str = flag("auto", "of a local model: cpu, cuda, cuda:1 ...")
    together: int = flag(16, "questions under way at a time")
    endpoint: str = flag(
        "", "OpenAI-compatible server, as http://127.0.0.1:8000/v1; its key is read from MINSCL_API_KEY"
    )
    timeout: float = flag(120.0, "seconds of the endpoint's silence before a question is repeated")
    retries: int = flag(5, "times that a question to the endpoint is repeated, with growing pauses")
    allow_remote: bool = flag(False, "let notes leave this machine for the endpoint")

    def __post_init__(self):
        if self.together < 1:
            raise InputError(f"--together {self.together}: must be at least 1")
        if self.retries < 0:
            raise InputError(f"--retries {self.retries}: must be at least 0")
        if not 0 < self.timeout <= 86_400:
            raise InputError(f"--timeout {self.timeout}: must be above 0, and at most a day's 86400 seconds")


@dataclass(frozen=True)
class SilverConfig(Asking):
    notes: str = path_flag("coded documents without evidence, JSON Lines (expand documents mimic-iv)")
    out: str = path_flag("span pairs to write, JSON Lines; two journals stand beside it meanwhile")


@dataclass(frozen=True)
class SyntheticConfig(Asking):
    pairs: str = path_flag("gold and silver pairs, JSON Lines; several with commas between")
    out: str = path_flag("span pairs to write, JSON Lines; a journal stands beside it meanwhile")
    template: bool = flag(False, "no model: one phrase a code by rule")


def asked_model(config: Asking):
    """The LLM that `config` names. Imported here, since it brings torch, which the rest of `expand` does without."""
    from minscl.hardware import free_memory
    from minscl.infer.llm import EndpointLLM, LocalLLM
    from minscl.pretrained import load_pretrained

    if config.endpoint:
        if not config.model:
            raise InputError(f"--endpoint {config.endpoint}: --model is missing; give the name of the server's model")
        return EndpointLLM(
            config.endpoint,
            config.model,
            concurrency=config.together,
            timeout=config.timeout,
            retries=config.retries,
            allow_remote=config.allow_remote,
        )
    folder = config.model or str(DEMO)
    model, tokenizer = load_pretrained(folder, config.adapter, device=config.device, dtype=config.dtype)
    return LocalLLM(
        model,
        tokenizer,
        " + ".join(filter(None, [folder, config.adapter])),
        config.together,
        memory=free_memory(model.model.embed_tokens.weight.device) * 3 // 4,
    )


def journal(path: str, cls, llm) -> AnswerLog:
    """The journal at `path`; raises InputError where another model's answers are in it."""
    opened = AnswerLog(path, cls)
    for one in opened.records:
        if one.llm != llm.name:
            opened.handle.close()
            raise InputError(
                f"{path}: holds answers of {one.llm}, not of {llm.name}; go on with that one, or name another --out"
            )
    return opened


def reading(llm) -> list[tuple[str, int]]:
    return (
        [("prompt tokens asked", llm.asked), ("  of them computed", llm.computed)] if hasattr(llm, "computed") else []
    )


def silver(config: SilverConfig) -> None:
    """Both stages; then the pairs, and what was counted."""
    documents, codebook = read_jsonl(require(config.notes, "--notes"), CodedDocument), CodeBook.load()
    llm = asked_model(config)
    with journal(f"{config.out}.quoted.jsonl", StageOneAnswer, llm) as kept:
        mined = mine(documents, codebook, llm, kept)
    found = candidates(mined)
    with journal(f"{config.out}.chosen.jsonl", StageTwoAnswer, llm) as kept:
        chosen = choose(found, codebook, llm, kept)
    pairs = silver_pairs(chosen, found)
    write_jsonl(config.out, pairs)
    print(
        format_counts(
            [
                ("notes", len(documents)),
                ("codes asked about", len(mined)),
                ("  with a quotation", sum(bool(one.evidence) for one in mined)),
                ("  whose note is too long to ask", sum(not one.answered for one in mined)),
                ("quotations", sum(len(one.evidence) for one in mined)),
                ("  rejected: not in the note", sum(one.rejected for one in mined)),
                ("  rejected: in the note, too long for a phrase", sum(one.too_long for one in mined)),
                ("candidates", sum(map(len, found.values()))),
                ("  chosen", sum(len(one.evidence) for one in chosen)),
                ("  answers outside them, rejected", sum(one.rejected for one in chosen)),
                ("pairs written", len(pairs)),
                ("  distinct codes", len({one.code for one in pairs})),
                *reading(llm),
            ]
        )
    )
    print(f"written to {config.out}", file=sys.stderr)


def synthetic(config: SyntheticConfig) -> None:
    """A phrase for every billable code that the given pairs do not cover."""
    codebook = CodeBook.load()
    given = [one for path in config.pairs.split(",") for one in read_jsonl(require(path.strip(), "--pairs"), Pair)]
    if not any(codebook.is_billable(one.code) for one in given):
        raise InputError(
            f"{config.pairs}: no pair with a billable code, so no code has a neighbour; give gold pairs (expand gold)"
        )
    rejected: Counter = Counter()
    if config.template:
        pairs, counts = template_pairs(given, codebook), []
    else:
        llm = asked_model(config)
        with journal(f"{config.out}.written.jsonl", Written, llm) as kept:
            pairs, rejected = synthesise(given, codebook, llm, kept)
        counts = reading(llm)
    write_jsonl(config.out, pairs)
    print(
        format_counts(
            [
                ("uncovered codes", len(neighbours(given, codebook))),
                ("pairs written", len(pairs)),
                ("  distinct codes", len({one.code for one in pairs})),
                ("phrases rejected", rejected.total()),
                *((f"  {why}", number) for why, number in rejected.most_common()),
                *counts,
            ]
        )
    )
    print(f"written to {config.out}", file=sys.stderr)


ASKED = {  # words of the command line → (help, flags, what is done)
    ("silver",): ("pairs that an LLM quotes from notes with codes", SilverConfig, silver),
    ("synthetic",): ("pairs that an LLM writes for codes without any", SyntheticConfig, synthetic),
}
