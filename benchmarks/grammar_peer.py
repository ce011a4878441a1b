"""llguidance on the notes, gold answers, vocabulary and random logits of grammar.py; `pip install llguidance`.

Its grammar, in Lark's notation: words of the note by `substring_words`, and all lines of codes with their descriptions.
It does not have: references that ascend and name an evidence line, a code at most once, a quotation at most twice and
as the parser reads it back, room for the end within the length limit.

Read next: grammar.py.
"""

import json
import statistics
import time
from pathlib import Path

import torch

from benchmarks.grammar_times import PARTS, PREFERENCE, ROWS, VOCABULARY, Times
from minscl.data.icd import CodeBook
from minscl.data.prompts import one_line
from minscl.data.types import CodedDocument
from minscl.infer.sequence import log_sum_exp

PEER_GRAMMAR = r"""
start: "Evidence:\n" ("none\nCodes:\nnone" | line+ "Codes:\n" ("none" | code ("\n" code)*))
line: /[1-9][0-9]?/ ". " quotation "\n"
quotation: %regex { "substring_words": NOTE }
code: "[" /[1-9][0-9]?/ (", " /[1-9][0-9]?/)* "] " CODE
CODE: LINES
"""


def answer_by_peer(tokenizer, matcher, rows: torch.Tensor, gold: list[int], times: Times) -> bool:
    """As `answer`, with llguidance's masks; returns False where its grammar refuses the gold answer."""
    from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask

    mask, written_ids = allocate_token_bitmask(1, VOCABULARY), []
    bits = torch.arange(32, dtype=torch.int32)
    while True:
        row, token = rows[len(written_ids) % ROWS].clone(), gold[len(written_ids)]
        row[token] += PREFERENCE
        began = time.perf_counter()
        fill_next_token_bitmask(matcher, mask)
        masked = time.perf_counter()
        log_sum = log_sum_exp(row[None])
        summed = time.perf_counter()
        allowed = ((mask[0, :, None] >> bits) & 1).view(-1).bool()
        choice = int(row.masked_fill(~allowed, float("-inf")).argmax())
        torch.exp(row[choice] - log_sum[0])
        chosen = time.perf_counter()
        if choice != token or not matcher.consume_token(choice):
            return False
        forced = matcher.compute_ff_tokens()
        matcher.consume_tokens(forced)
        ended = time.perf_counter()
        seconds_by_part = (ended - chosen, masked - began, chosen - summed, summed - masked)
        for part, seconds in zip(PARTS, seconds_by_part, strict=True):
            times.parts[part].append(seconds)
        times.tokens += 1 + len(forced)
        written_ids += [choice, *forced]
        if choice in tokenizer.stop_ids:
            return True
        if written_ids != gold[: len(written_ids)]:
            return False


def measure_peer(
    tokenizer, folder: Path, documents: list[CodedDocument], answers: list[list[int]], rows: torch.Tensor
) -> list[str]:
    """A row of the table and a remark for llguidance, or why there is none."""
    try:
        import llguidance
    except ImportError:
        return [f"| llguidance | not installed |{' |' * (len(PARTS) + 4)}"]
    book, times, written_notes = CodeBook.load(), Times(), 0
    codes = (f"{code} {one_line(book.description(code) or '')}" for code in book.billable)
    code_lines = " | ".join(json.dumps(line, ensure_ascii=False) for line in codes)
    ll_tokenizer = llguidance.LLTokenizer(str(folder / "tokenizer.json"), VOCABULARY, tokenizer.stop_ids[0])
    build = []
    for document, gold in zip(documents, answers, strict=True):
        grammar = PEER_GRAMMAR.replace("NOTE", json.dumps(one_line(document.text))).replace("LINES", code_lines)
        began = time.perf_counter()
        matcher = llguidance.LLMatcher(ll_tokenizer, llguidance.LLMatcher.grammar_from_lark(grammar))
        build.append(time.perf_counter() - began)
        if matcher.is_error():
            return [f"| llguidance | {' '.join(matcher.get_error().split())[:200]} |{' |' * (len(PARTS) + 4)}"]
        written_notes += answer_by_peer(tokenizer, matcher, rows, gold, times)
    name = f"llguidance {llguidance.__version__}, {written_notes} of {len(documents)} gold answers"
    return [times.row(name), "", f"llguidance's grammar takes {statistics.median(build):.2f} s a note."]
