"""Who answers the questions of systems/questions.py: the local decoder, or an OpenAI-compatible server.

The local decoder is held to a question's form by a guide, whatever its weights: one of the options, quotations from the
note, billable codes. A server's tokens cannot be forbidden, so its answer is read: as the option that it names, or the
question's first option where it names none.

One engine serves all rounds: the keys and values of a note, with which all its prompts begin, stay in their slot.

Read next: systems/questions.py; choices.py and constrained.py, the guides; engine.py.
"""

import math
from collections.abc import Sequence

from minscl.data.icd import CodeBook
from minscl.infer import BATCH_SIZE
from minscl.infer.choices import choice_guide, read_choice
from minscl.infer.constrained import MIN_NEW_TOKENS, Guide
from minscl.infer.endpoint import EndpointLLM
from minscl.infer.engine import Engine, Request
from minscl.infer.jobs import MAX_NEW_TOKENS, exceeds_context, slots_for
from minscl.infer.systems.questions import CHOICE, CODES, QUOTATIONS, Question, Reply

MAX_TEXT_TOKENS = 384  # of a free text
MAX_CHOICE_TOKENS = 32  # of an option: a guide ends it long before
LENGTH_STEP = 1024  # tokens; an engine is rebuilt for longer prompts, and not for slightly longer ones


class LocalAsker:
    """minscl's own decoder, greedy; `batch_size`, `memory` as for coder.code_notes.

    `codebook`: the code set of answers with codes. `prompt_tokens`, `computed_tokens`: of all prompts so far, and of
    these the ones that were in no shared prefix.
    """

    def __init__(
        self, model, tokenizer, codebook: CodeBook, batch_size: int = BATCH_SIZE, memory: int | None = None
    ) -> None:
        self.model, self.tokenizer, self.codebook = model, tokenizer, codebook
        self.batch_size, self.memory = batch_size, memory
        self.engine: Engine | None = None
        self.length = 0  # tokens of a slot
        self.prompt_tokens = self.computed_tokens = 0

    def ask(self, questions: Sequence[Question]) -> list[Reply | None]:
        """See Asker.ask. Raises InputError where the model's logits are not finite."""
        requests = {}
        for number, question in enumerate(questions):
            if (request := self._request(question)) is not None:
                requests[number] = request
        replies: list[Reply | None] = [None] * len(questions)
        if not requests:
            return replies
        engine = self._engine_for(max(len(item.prompt) + item.max_new_tokens for item in requests.values()))
        before = engine.prompt_tokens, engine.computed_tokens
        numbers = list(requests)
        for position, answer in engine.run(requests.values()):
            probability = math.prod(answer.probabilities)
            truncated = answer.closed_by_limit or not answer.stopped
            text = self.tokenizer.decode(answer.ids).strip()
            replies[numbers[position]] = Reply(text, probability, truncated=truncated)
        self.prompt_tokens += engine.prompt_tokens - before[0]
        self.computed_tokens += engine.computed_tokens - before[1]
        return replies

    def _request(self, question: Question) -> Request | None:
        """The question as tokens; None where they do not fit into the model's context."""
        if exceeds_context(self.model, self.tokenizer, question.prompt):
            return None
        ids = self.tokenizer.encode_chat([{"role": "user", "content": question.prompt}], add_generation_prompt=True)
        room = self.model.config.context_length - len(ids)
        if question.form == CHOICE:
            limit, guide = MAX_CHOICE_TOKENS, choice_guide(self.tokenizer, question.options)
        elif question.form in (QUOTATIONS, CODES):
            limit = min(MAX_NEW_TOKENS, max(room, MIN_NEW_TOKENS))
            quotations_only = question.form == QUOTATIONS
            guide = Guide(self.tokenizer, question.note, limit, codebook=self.codebook, quotations_only=quotations_only)
        else:
            limit, guide = MAX_TEXT_TOKENS, None
        return Request(ids, limit, guide) if limit <= room else None

    def _engine_for(self, length: int) -> Engine:
        """The engine of the rounds before, or a new one where `length` tokens are more than its slots hold."""
        if self.engine is None or length > self.length:
            longest = self.model.config.context_length
            self.length = min(longest, math.ceil(length / LENGTH_STEP) * LENGTH_STEP)
            slots = max(1, slots_for(self.model, self.length, self.batch_size, self.memory))
            self.engine = None  # its keys and values first: memory may not hold both
            self.engine = Engine(self.model, slots=slots, length=self.length, stop_ids=self.tokenizer.stop_ids)
        return self.engine


class EndpointAsker:
    """A server that the user names (endpoint.py)."""

    def __init__(self, llm: EndpointLLM) -> None:
        self.llm = llm

    def ask(self, questions: Sequence[Question]) -> list[Reply | None]:
        """See Asker.ask. Raises InputError once a request has failed for good."""
        replies: list[Reply | None] = [None] * len(questions)
        for number, answer in self.llm.ask([question.prompt for question in questions]):
            if answer is None:
                continue
            question, is_truncated = questions[number], number in self.llm.truncated
            if question.form == CHOICE:
                option = read_choice(answer, question.options)
                replies[number] = Reply(option or question.options[0], raw=answer, truncated=is_truncated)
            else:
                replies[number] = Reply(answer, truncated=is_truncated)
        return replies
