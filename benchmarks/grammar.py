"""What grounded decoding adds to a token: deciding what is forced, the tokens allowed, the choice among their logits.

    python -m benchmarks.grammar [--notes 12] [--write]

A byte-level BPE vocabulary of Llama 3.1's size and pattern, 128,256 tokens, is trained on the repository's texts and,
as those alone do not fill it, on the sources of Python's standard library. Invented notes and case reports are answered
without a model, by random logits: in the gold answer's tokens, which are made the most probable ones, and in random
tokens among those allowed, where those that end a section are made improbable, so that answers are long. Only the time
that is not the model's is counted, one thread, from the first token of the first note on. `log-sum-exp`, of a row over
the vocabulary, gives the probability of the token among all; free decoding needs it too.

The peer, llguidance, is measured in the same run where it is installed (grammar_peer.py).

Read next: minscl/infer/constrained.py.
"""

import argparse
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from benchmarks.grammar_peer import measure_peer
from benchmarks.grammar_times import PARTS, PREFERENCE, ROWS, VOCABULARY, Times
from benchmarks.report import provenance, write_section
from minscl.data.icd import CodeBook
from minscl.data.prompts import render_document_target
from minscl.data.types import CodedDocument
from minscl.infer.constrained import Guide
from minscl.infer.jobs import MAX_NEW_TOKENS
from minscl.infer.sequence import Sequence, Summary, log_sum_exp
from minscl.infer.token_trie import token_trie
from minscl.model import load_tokenizer
from study.corpus import invented, written
from study.demo_data import tokenizer_texts

SPECIAL_TOKENS = 256
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


class TimedGuide(Guide):
    """A guide that adds up what its work takes since it was last asked."""

    def __init__(self, *args, **kwargs) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        super().__init__(*args, **kwargs)

    def timed(self, part: str, function, *args):
        began = time.perf_counter()
        result = function(*args)
        self.seconds[part] += time.perf_counter() - began
        return result

    def forced(self):
        return self.timed("forced", super().forced)

    def allowed(self, stop_ids):
        return self.timed("allowed", super().allowed, stop_ids)

    def advance(self, token):
        self.timed("forced", super().advance, token)


def train_vocabulary(folder: Path) -> int:
    """Write a tokenizer of VOCABULARY tokens in Llama 3's format; returns how many characters it learned from."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    characters = 0

    def texts() -> Iterator[str]:
        nonlocal characters
        for text in (*tokenizer_texts(), *python_sources()):
            characters += len(text)
            yield text

    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - SPECIAL_TOKENS,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts(), trainer)
    names = ["begin_of_text", "start_header_id", "end_header_id", "eot_id"]
    names += [f"reserved_special_token_{number}" for number in range(SPECIAL_TOKENS - len(names))]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in names])
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the texts give {tokenizer.get_vocab_size():,} tokens, not {VOCABULARY:,}")
    tokenizer.save(str(folder / "tokenizer.json"))
    return characters


def python_sources() -> Iterator[str]:
    """The modules of Python's standard library, without its tests."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if not {"test", "tests", "site-packages", "idlelib"} & set(path.parts):
            yield path.read_text(encoding="utf-8", errors="replace")


def gold_documents(notes: int) -> list[CodedDocument]:
    """Invented test notes and as many invented case reports, which have more codes; billable codes only."""
    book = CodeBook.load()
    documents = invented("test")[:notes] + written("cases", book)[:notes]
    return [replace(item, codes=tuple(c for c in item.codes if book.is_billable(c.code))) for item in documents]


def answer(tokenizer, document: CodedDocument, rows: torch.Tensor, gold: list[int] | None, times: Times) -> None:
    """Answer one note, token by token as engine.py does; `gold`: the tokens to write, or None for random ones."""
    stop_ids = frozenset(tokenizer.stop_ids)
    guide = TimedGuide(tokenizer, document.text, MAX_NEW_TOKENS)
    sequence = Sequence([], MAX_NEW_TOKENS, stop_ids, guide)
    while not sequence.done:
        row = rows[len(times.parts["choose"]) % ROWS][None].clone()  # (1, V), as the output head has just written it
        token = None if gold is None else gold[len(guide.ids)]
        if token is not None:
            row[0, token] += PREFERENCE
        began = time.perf_counter() - sum(guide.seconds.values())  # what was forced before the first token counts too
        sequence.prepare()
        sequence.accept(row, Summary(guide.timed("log-sum-exp", log_sum_exp, row), []))
        guide.seconds["choose"] += time.perf_counter() - began - sum(guide.seconds.values())
        for part in PARTS:
            times.parts[part].append(guide.seconds[part])
            guide.seconds[part] = 0.0
    if gold is not None and guide.ids != gold[:-1]:
        raise SystemExit(f"{document.id}: the gold answer was not written")
    times.tokens += len(sequence.ids)


def gold_tokens(tokenizer, document: CodedDocument) -> list[int]:
    """The tokens of the gold answer, the end included."""
    return tokenizer.encode_answer(render_document_target(document))


def main() -> None:
    """Print the table; with --write put it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grammar", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=12, help="of invented test notes and of case reports")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    documents = gold_documents(args.notes)
    rows = torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0)) * 3
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        characters = train_vocabulary(folder)
        tokenizer = load_tokenizer(folder)
        began = time.perf_counter()
        token_trie(tokenizer)
        trie_seconds = time.perf_counter() - began
        by_gold, by_chance, build = Times(), Times(), []
        for document in documents:
            began = time.perf_counter()
            Guide(tokenizer, document.text, MAX_NEW_TOKENS)
            build.append(time.perf_counter() - began)
            answer(tokenizer, document, rows, gold_tokens(tokenizer, document), by_gold)
        endings = [token for word in ("n", "no", "none", "C", "Code", "Codes") for token in tokenizer.encode(word)]
        rows[:, [*endings, *tokenizer.stop_ids]] -= PREFERENCE
        for document in documents:
            answer(tokenizer, document, rows, None, by_chance)
        rows[:, [*endings, *tokenizer.stop_ids]] += PREFERENCE
        answers = [gold_tokens(tokenizer, item) for item in documents]
        peer = measure_peer(tokenizer, folder, documents, answers, rows)
    lines = [
        f"{provenance('tokenizers')}; one thread",
        "",
        f"Microseconds a chosen token, beside the model; {VOCABULARY:,} tokens learned from {characters / 1e6:.0f} "
        f"million characters of this repository and Python's standard library; {len(documents)} notes of "
        f"{statistics.median(len(item.text) for item in documents):,.0f} characters. Log-sum-exp, over the vocabulary, "
        "is in free decoding too.",
        "",
        f"| answers | tokens | chosen | {', median | '.join(PARTS)}, median | all, median | 95% | mean |",
        f"|-|-|-|{'-|' * len(PARTS)}-|-|-|",
        by_gold.row("gold"),
        by_chance.row("random"),
        *peer,
        "",
        f"Once a tokenizer: {trie_seconds:.2f} s. Once a note: {1e3 * statistics.median(build):.1f} ms.",
    ]
    print("\n".join(lines))
    if args.write:
        write_section("Grammar", lines)


if __name__ == "__main__":
    main()
