"""Systems that ask an LLM several questions about a note, one round after another: what a question is, and the loop.

A system is a generator: it yields the questions of a round, is sent their replies, and returns the document.

    def code(note, codebook):
        [reply] = yield [Question("extract", intro, "…", QUOTATIONS, note=note.text)]
        replies = yield [Question("assign", intro, "…", options=("0", "1", "2")) for …]
        return CodedDocument(…)

So a system's file reads from top to bottom, and the rounds of several notes are answered together. A prompt begins with
`shared`, the note, which all questions of a note have alike: the engine computes it once. Every question and reply is
kept in the document's `output`, without the note.

Read next: clh.py, the first of these systems; ../asker.py, who answers.
"""

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from minscl.data.chains import append_steps
from minscl.data.notes import Skip, require_text
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError

CHOICE, TEXT, QUOTATIONS, CODES = "choice", "text", "quotations", "codes"  # forms of a reply
INTRODUCTION = "Read this clinical note, then answer the question below it."
YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Question:
    """A prompt in two parts, and the form of its reply.

    `stage`: what the question is called in the output. `shared`: what comes first, alike in all questions of a note.
    `form`: one of `options` (CHOICE; the first is what a reply counts as that names none of them), free TEXT, an
    evidence section that quotes `note` (QUOTATIONS), or a whole answer of evidence and codes (CODES).
    """

    stage: str
    shared: str
    asks: str
    form: str = CHOICE
    options: tuple[str, ...] = ()
    note: str = ""

    @property
    def prompt(self) -> str:
        """The text that the model reads."""
        return f"{self.shared}\n\n{self.asks}"


@dataclass(frozen=True)
class Reply:
    """The answer to a question: its text, and how probable the model found it (None: a server does not say).

    `raw`: what a server wrote, where `text` is the option that it was read as. `truncated`: stopped at its length
    limit.
    """

    text: str
    probability: float | None = None
    raw: str | None = None
    truncated: bool = False


Dialogue = Generator[list[Question], list[Reply], CodedDocument]


class Asker(Protocol):
    """Who answers: the local decoder or a server."""

    def ask(self, questions: Sequence[Question]) -> list[Reply | None]:
        """The replies in order; None for a prompt that is too long."""


def introduce(note: Note) -> str:
    """The beginning of all prompts about `note`. Raises InputError for an empty one."""
    require_text(note)
    return f"{INTRODUCTION}\n\n{note.text}"


def yes_no(stage: str, shared: str, asks: str) -> Question:
    """A question whose reply is yes or no; no where a server's reply is neither."""
    return Question(stage, shared, f"{asks} Answer yes or no.", options=YES_NO)


def score(*replies: Reply) -> float | None:
    """The product of the replies' probabilities; None where a server did not say them."""
    product = 1.0
    for reply in replies:
        if reply.probability is None:
            return None
        product *= reply.probability
    return product


def run_dialogues(
    start: Callable[[Note], Dialogue], notes: Iterable[Note], asker: Asker, together: int, skip: Skip | None = None
) -> Iterator[CodedDocument]:
    """The document of each note, in order; the rounds of `together` notes are asked at once.

    A note that is empty, or with a question that is too long for the model, is passed to `skip(note, error)` and left
    out; without `skip`, InputError is raised.
    """
    remaining = iter(notes)
    while group := list(itertools.islice(remaining, together)):
        yield from _run_group(start, group, asker, skip)


def _run_group(
    start: Callable[[Note], Dialogue], notes: list[Note], asker: Asker, skip: Skip | None
) -> Iterator[CodedDocument]:
    dialogues = [start(note) for note in notes]
    steps: list[list[tuple[Question, Reply]]] = [[] for _ in notes]
    replies: dict[int, list[Reply] | None] = dict.fromkeys(range(len(notes)))  # number of the note → of its last round
    finished: dict[int, CodedDocument] = {}
    while replies:
        asked: dict[int, list[Question]] = {}
        for number, received in replies.items():
            try:
                asked[number] = next(dialogues[number]) if received is None else dialogues[number].send(received)
            except StopIteration as end:
                finished[number] = with_steps(end.value, steps[number])
            except InputError as error:
                if skip is None:
                    raise
                skip(notes[number], error)
        questions_of_all = [question for questions in asked.values() for question in questions]
        answers = iter(asker.ask(questions_of_all) if questions_of_all else [])
        replies = {}
        for number, questions in asked.items():
            received = [reply for reply in itertools.islice(answers, len(questions)) if reply is not None]
            steps[number] += zip(questions, received, strict=False)
            if len(received) == len(questions):
                replies[number] = received
                continue
            too_long = InputError(
                f"{show_id(notes[number].id)}: a question about the note has more tokens than the model's context "
                "holds with the answer; split the note or use a model with a longer context"
            )
            if skip is None:
                raise too_long
            skip(notes[number], too_long)
    yield from (finished[number] for number in sorted(finished))


def with_steps(document: CodedDocument, steps: Sequence[tuple[Question, Reply]]) -> CodedDocument:
    """`document` with its questions and replies in `output`, and with what went wrong in them."""
    texts = [(question.stage, f"{question.asks}\n> {show_reply(reply)}") for question, reply in steps]
    truncated = sum(reply.truncated for _, reply in steps)
    return dataclasses.replace(
        document,
        output=append_steps(document.output, texts) if texts else document.output,
        truncated=(document.truncated or 0) + truncated or None,
    )


def show_reply(reply: Reply) -> str:
    """The reply as it was written; a server's is followed by the option that it was read as, where they differ."""
    if reply.raw is None or reply.raw.strip() == reply.text:
        return reply.text
    return f"{reply.raw.strip()}\n= {reply.text}"
