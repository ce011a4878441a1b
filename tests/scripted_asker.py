"""An LLM that answers as a test says, and remembers what it was asked."""

from collections.abc import Callable, Sequence

from minscl.infer.systems.questions import CHOICE, Question, Reply, run_dialogues


class Scripted:
    """`answer(question)` is the reply's text, None for a prompt that is too long; each has the probability 0.5."""

    def __init__(self, answer: Callable[[Question], str | None]):
        self.answer = answer
        self.rounds: list[list[Question]] = []

    def ask(self, questions: Sequence[Question]) -> list[Reply | None]:
        """As LocalAsker.ask."""
        self.rounds.append(list(questions))
        replies: list[Reply | None] = []
        for question in questions:
            text = self.answer(question)
            assert text is None or question.form != CHOICE or text in question.options, (question.stage, text)
            replies.append(None if text is None else Reply(text, 0.5))
        return replies

    @property
    def stages(self) -> list[list[str]]:
        """The stages of the questions, round by round."""
        return [[question.stage for question in questions] for questions in self.rounds]


def converse(start, notes, answer, together=4, skip=None):
    """(documents, asker) of the dialogues that `start` opens about `notes`, answered by `answer`."""
    asker = Scripted(answer)
    return list(run_dialogues(start, notes, asker, together, skip)), asker
