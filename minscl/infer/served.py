"""Notes coded by a model on a server, as coder.py codes them with a local one: the same prompts, parser, location,
scores and checks.

    note → prompt as token ids → the server → text → evidence and codes → located in the note (Eq. 1)

`folder` is the one that the server serves (export.py); its tokenizer and config.json are read here, its weights are
not. Decoding is the server's, so it is plain generation: quotations that are not in the note are marked. With
--grounded the server's own grammar, where it has one, holds codes to the billable ones.

Read next: completions.py, the requests; coder.py.
"""

import functools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from minscl.data.calibration import Calibration, passage_length
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip
from minscl.data.record_checks import show_id
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError
from minscl.infer.answer import finish_document
from minscl.infer.coder import read_passages
from minscl.infer.completions import CompletionServer
from minscl.infer.endpoint import EndpointLLM
from minscl.infer.jobs import Job, make_jobs
from minscl.infer.sequence import Generation
from minscl.infer.server_grammar import server_grammar
from minscl.infer.systems import SCL, System
from minscl.model import ModelConfig, load_tokenizer
from minscl.settings import read_settings

PLAIN, CODES = "False", "codes"  # what a document's settings say of `grounded`: plain generation; a grammar for codes
LOG = logging.getLogger("minscl")


class ServedModel:
    """The model of `folder` behind `llm`'s server."""

    def __init__(self, folder: str | Path, llm: EndpointLLM):
        self.folder, self.llm = Path(folder), llm

    @functools.cached_property
    def config(self) -> ModelConfig:
        """The folder's config.json, for the length of the context. Raises InputError."""
        settings = read_settings(self.folder / "config.json", "name the folder that the server serves")
        return ModelConfig.from_dict(settings.values, settings.source)

    @functools.cached_property
    def server(self) -> CompletionServer:
        """The server's completions. Raises InputError for a folder without a tokenizer."""
        return CompletionServer(self.llm, load_tokenizer(self.folder))

    def grounded(self, wanted: bool, free: bool = False) -> str:
        """CODES if `wanted` and the server takes a grammar, else PLAIN, with a line in the log unless it is `free`."""
        if wanted and self.server.grammar_field:
            return CODES
        if not free:
            reason = "the server takes no grammar" if wanted else "--grounded would ask for the server's grammar"
            LOG.warning("minscl: --endpoint: plain generation, as with --free; %s", reason)
        return PLAIN

    def code_notes(
        self,
        notes: Iterable[Note],
        codebook: CodeBook,
        *,
        system: System = SCL,
        evidence: dict[str, list[str]] | None = None,
        grounded: str = PLAIN,
        skip: Skip | None = None,
        calibration: Calibration | None = None,
        min_score: float | None = None,
        passage: int | None = None,
    ) -> Iterator[CodedDocument]:
        """coder.code_notes with the server in place of the engine; `grounded` as `self.grounded` says.

        Documents come in order. Where the server fails for good, those that are complete come first, then InputError.
        """
        tokenizer = self.server.tokenizer
        passage = passage_length(calibration, passage)
        jobs = make_jobs(self, tokenizer, notes, system, evidence or {}, False, None, skip, passage)
        leading_space = bool(tokenizer.chat.before_answer) and not evidence
        grammar = server_grammar(codebook, bool(evidence), leading_space) if grounded == CODES else ""
        has_scores = True
        for job, answers in self._answers(jobs, grammar):
            error = next((answer for answer in answers if isinstance(answer, InputError)), None)
            if error:
                error = InputError(f"{show_id(job.note.id)}: {error}")
                if skip is None:
                    raise error
                skip(job.note, error)
                continue
            document = read_passages(job, answers, tokenizer, system, codebook)
            if has_scores and any(item.score is None for item in document.codes):
                has_scores = False
                LOG.warning("minscl: %s gives no probabilities of its tokens, so codes have no scores", self.llm.name)
            yield finish_document(document, codebook, calibration, min_score)

    def _answers(self, jobs: list[Job], grammar: str) -> Iterator[tuple[Job, list]]:
        """(job, the answers to its prompts) in order, each as soon as it and all before it are answered."""
        numbers: list[range] = []  # of each job's prompts
        prompts: list[tuple[list[int], int]] = []
        for job in jobs:
            numbers.append(range(len(prompts), len(prompts) + len(job.prompts)))
            prompts += [(prompt.ids, prompt.max_new_tokens) for prompt in job.prompts]
        answers: dict[int, Generation | InputError] = {}
        first = 0  # of the jobs that are not complete

        def complete(number: int) -> bool:
            return all(item in answers for item in numbers[number])

        try:
            for number, answer in self.server.ask(prompts, grammar):
                answers[number] = answer
                while first < len(jobs) and complete(first):
                    yield jobs[first], [answers.pop(item) for item in numbers[first]]
                    first += 1
        except (InputError, KeyboardInterrupt):
            for number in filter(complete, range(first, len(jobs))):
                yield jobs[number], [answers[item] for item in numbers[number]]
            raise
