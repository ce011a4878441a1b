"""What silver and synthetic spans share: prompts sent to an LLM in batches, and a log of its answers.

An answer is logged with a digest of its prompt, so a job that was stopped continues where it was, and one whose notes
or candidates have changed asks only what has changed.

`llm` is an object with `name` and `ask(prompts)`, such as those of infer/llm.py: `ask` yields (number of the prompt,
answer) in any order, None as the answer to a prompt that is too long. `truncated`, if it has it, is the set of those
whose answers its length limit has cut off: their last line may lack its end.

Read next: answers.py, what is logged; silver.py, synthetic.py; ../answer_log.py.
"""

import contextlib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from tqdm import tqdm

from minscl.data.answer_log import AnswerLog
from minscl.data.answer_sections import blank_thinking
from minscl.errors import InputError

MAX_PHRASE_CHARACTERS = 200  # a longer line of an answer is not a phrase
MIN_PROMPTS = 64  # per call of `ask`, except for the last one
_LIST_MARK = re.compile(r"^(?:[-*•]|\(?\d{1,3}[.):])\s+")
Subject = TypeVar("Subject")
Answer = TypeVar("Answer")  # one of answers.py


def prompt_digest(prompt: str) -> str:
    """16 hex digits of SHA-256: a logged answer is used again for exactly the same prompt."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


@contextlib.contextmanager
def open_answer_log(path: str, cls: type, llm) -> Iterator[AnswerLog]:
    """The log at `path` with answers of class `cls`. Raises InputError where it has another model's answers."""
    with AnswerLog(path, cls) as log:
        for answer in log.records:
            if answer.llm != llm.name:
                # Versions before 0.2.0 stored an endpoint's address with its password or query.
                name = re.sub(r"(://[^\s?#]*)[?#]\S*", r"\1", re.sub(r"://\S*@", "://", answer.llm))
                raise InputError(
                    f"{path}: has answers of {name}, not {llm.name}; continue with that model or name another --out"
                )
        yield log


def answer_lines(answer: str) -> list[str]:
    """The lines of an answer after its reasoning: no headings, no "none"; bullets, numbers and quotation marks cut."""
    items = []
    # not str.splitlines, which would also cut a quotation at a form feed or U+2028
    for line in re.split(r"\r?\n", blank_thinking(answer)):
        line = _LIST_MARK.sub("", line.strip()).strip()
        if len(line) > 1 and line[0] + line[-1] in ('""', "''", "“”"):
            line = line[1:-1].strip()
        if line and line.lower().rstrip(".") != "none" and not line.endswith(":"):
            items.append(line)
    return items


def ask_in_batches(llm, groups: Iterable[list[tuple[Subject, str]]], bar: tqdm) -> Iterator[tuple[Subject, str | None]]:
    """(subject, answer) in order of arrival, for groups of (subject, prompt).

    A group is never split between two calls of `llm.ask`, so that a local model computes its shared prefix only once.
    """
    batch: list[tuple[Subject, str]] = []
    for group in itertools.chain(groups, [None]):
        batch += group or []
        if batch and (group is None or len(batch) >= MIN_PROMPTS):
            for number, answer in llm.ask([prompt for _, prompt in batch]):
                bar.update()
                if answer and number in getattr(llm, "truncated", ()):
                    answer = answer.rpartition("\n")[0]
                yield batch[number][0], answer
            batch = []


def ask_about_codes(
    llm, prompts: Mapping[str, str], log: AnswerLog, title: str, read_answer: Callable[[str, str, list[str]], Answer]
) -> dict[str, Answer]:
    """{code: its answer} for {code: prompt}; asks, under the progress bar `title`, only what is not in `log`.

    `read_answer(code, digest of the prompt, lines of the answer)` makes the record that is logged; its key is (code,
    digest).
    """
    logged = {answer.key: answer for answer in log.records}
    digests = {code: prompt_digest(prompt) for code, prompt in prompts.items()}
    answers: dict[str, Answer] = {
        code: logged[code, digests[code]] for code in prompts if (code, digests[code]) in logged
    }
    unanswered = [code for code in prompts if code not in answers]
    with tqdm(desc=title, total=len(prompts), initial=len(answers)) as bar:
        for code, text in ask_in_batches(llm, ([(code, prompts[code])] for code in unanswered), bar):
            answers[code] = read_answer(code, digests[code], answer_lines(text or ""))
            if text is not None:  # a prompt that was too long is asked again: the context may be longer then
                log.append([answers[code]])
    return answers
