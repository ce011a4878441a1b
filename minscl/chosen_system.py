"""The system that `generate --system` chooses: what determines its codes, and notes → coded documents.

A local model or a server codes by SCL or by a baseline of one answer; dialogues, heads and the look-up of phrases have
modules of their own. `--verify` then questions a model about the codes of any of them.

Read next: infer/coder.py; infer/served.py, a server; infer/systems/clh.py, a system of several questions;
infer/systems/lookup.py, the baseline without a model; heads/predict.py.
"""

import functools
import sys
from collections.abc import Callable, Iterator

from tqdm import tqdm

from minscl.config import HEADS
from minscl.data.calibration import VERIFIED
from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip
from minscl.data.types import CodedDocument, Note
from minscl.generate_config import GenerateConfig, settings_of
from minscl.hardware import choose_device, default_cache_bytes, memory_errors
from minscl.heads.predict import code_with_head, head_settings, load_coder
from minscl.infer.answer import finish_document
from minscl.infer.asker import EndpointAsker, LocalAsker
from minscl.infer.coder import code_notes
from minscl.infer.endpoint import EndpointLLM
from minscl.infer.jobs import MAX_NEW_TOKENS
from minscl.infer.linear import prepare_for_inference
from minscl.infer.served import ServedModel
from minscl.infer.systems import DIALOGUES, SYSTEMS, choose_system
from minscl.infer.systems.clh import CLH, code_like_humans
from minscl.infer.systems.lookup import LOOKUP
from minscl.infer.systems.lookup_notes import look_up_notes, lookup_settings, read_table
from minscl.infer.systems.mac import multi_agent_coding
from minscl.infer.systems.questions import Asker, Dialogue, run_dialogues
from minscl.infer.systems.retrieval import Retriever
from minscl.infer.systems.verify import verify_documents
from minscl.live_answer import LiveAnswer
from minscl.model import Decoder, Tokenizer
from minscl.pretrained import describe_weights, load_pretrained

ANSWER_SECONDS = 600.0  # in which a server that is busy with --batch-size answers must have written one


class ChosenSystem:
    """The system of `config`; `evidence`: human quotations by note id, or None.

    A model is loaded when notes are coded. Raises InputError for a device that is not there and a damaged calibration.
    """

    def __init__(self, config: GenerateConfig, codebook: CodeBook, evidence: dict[str, list[str]] | None):
        self.config, self.codebook, self.evidence = config, codebook, evidence
        self.device, _ = choose_device(config.device, config.dtype)
        self.calibration = config.calibration()
        self.served = ServedModel(config.model, self._connect()) if config.is_served else None

    def settings(self) -> dict[str, str]:
        """What determines the codes: CodedDocument.coded_with. A server is asked what it can do.

        Raises InputError for a missing or damaged folder or file, and where the server cannot be asked.
        """
        config, codebook = self.config, self.codebook
        if config.system == LOOKUP:
            settings = lookup_settings(config.documents, config.spans, config.min_score or 0.0, codebook)
        elif config.system in HEADS:
            _, dtype = choose_device(config.device, config.dtype)
            settings = head_settings(config.head_choice(), dtype, codebook)
        else:
            settings = settings_of(config, self._weights(), codebook, self.calibration, self.grounded)
        return settings | self._weights() | {VERIFIED: "True"} if config.verify else settings

    @functools.cached_property
    def grounded(self) -> str:
        """How the server decodes (ServedModel.grounded); "" for the local decoder."""
        config = self.config
        return self.served.grounded(config.grounded, config.free or config.system != "scl") if self.served else ""

    def code(self, notes: list[Note], skip: Skip | None, show_progress: bool = True) -> Iterator[CodedDocument]:
        """The documents of `notes`, in order; `skip` as for coder.code_notes. Raises InputError as each system does."""
        if not notes:
            return
        config = self.config
        is_quiet = not show_progress or len(notes) == 1 or config.system == LOOKUP
        remedy = "--attribution attention, or shorter notes" if config.system in HEADS else "a smaller --memory"
        with memory_errors(remedy):
            yield from tqdm(self._code(notes, skip), total=len(notes), unit="note", disable=is_quiet)

    def _code(self, notes: list[Note], skip: Skip | None) -> Iterator[CodedDocument]:
        """What `code` yields. The model is loaded here, the notes are coded as the documents are asked for."""
        config, codebook = self.config, self.codebook
        if config.system == LOOKUP:
            table = read_table(config.documents, config.spans, codebook)
            coded = look_up_notes(table, notes, codebook, config.min_score or 0.0, skip)
        elif config.system in HEADS:
            coder = load_coder(config.head_choice(), config.device, config.dtype)
            coded = code_with_head(coder, notes, codebook, skip)
        elif config.system in DIALOGUES:
            dialogue = dialogue_of(config.system, codebook)
            answered = run_dialogues(dialogue, notes, self.asker, config.batch_size, skip)
            coded = (finish_document(item, codebook, self.calibration, config.min_score) for item in answered)
        elif self.served:
            coded = self._code_on_server(self.served, notes, skip)
        else:
            coded = self._code_locally(notes, skip)
        if config.verify:
            verified = verify_documents(coded, codebook, self.asker, config.batch_size, skip)
            coded = (check_document(document, codebook) for document in verified)
        return coded

    def _code_locally(self, notes: list[Note], skip: Skip | None) -> Iterator[CodedDocument]:
        """By coder.code_notes; a single note's answer is shown on a terminal as it grows."""
        config, (model, tokenizer) = self.config, self.pretrained
        system = choose_system(config.system, config.sampling())
        alone = len(notes) == system.chains == 1 and not (config.json or config.html or config.out)
        live = LiveAnswer(tokenizer) if alone and sys.stdout.isatty() else None
        coded = code_notes(
            model,
            tokenizer,
            notes,
            system=system,
            evidence=self.evidence,
            grounded=config.is_grounded,
            batch_size=config.batch_size,
            memory=self.memory,
            compile=config.compile,
            skip=skip,
            codebook=self.codebook,
            calibration=self.calibration,
            min_score=config.min_score,
            passage=config.passage,
            on_tokens=live.on_tokens if live else None,
        )
        return live.until_finished(coded) if live else coded

    def _code_on_server(self, served: ServedModel, notes: list[Note], skip: Skip | None) -> Iterator[CodedDocument]:
        return served.code_notes(
            notes,
            self.codebook,
            system=choose_system(self.config.system),
            evidence=self.evidence,
            grounded=self.grounded,
            skip=skip,
            calibration=self.calibration,
            min_score=self.config.min_score,
            passage=self.config.passage,
        )

    @functools.cached_property
    def pretrained(self) -> tuple[Decoder, Tokenizer]:
        """The local model, ready for inference, and its tokenizer. Raises InputError as load_pretrained does."""
        config = self.config
        model, tokenizer = load_pretrained(
            config.model, config.adapter, device=config.device, dtype=config.dtype, weights=config.weights
        )
        prepare_for_inference(model)
        return model, tokenizer

    @functools.cached_property
    def memory(self) -> int:
        """Bytes for the keys and values of an engine. With --verify there are two: one codes, one asks."""
        memory = int(self.config.memory * 1e9) or default_cache_bytes(self.device)
        return memory // 2 if self.config.verify and self.config.system in SYSTEMS else memory

    @functools.cached_property
    def asker(self) -> Asker:
        """Who answers the questions of a dialogue: the server of --endpoint, or the local model."""
        if self.config.endpoint:
            return EndpointAsker(self._connect())
        return LocalAsker(*self.pretrained, self.codebook, self.config.batch_size, self.memory)

    def _connect(self) -> EndpointLLM:
        """The server of --endpoint. Raises InputError as EndpointLLM does; nothing is sent yet."""
        return EndpointLLM(
            self.config.endpoint,
            self.config.served_model,
            concurrency=self.config.batch_size,
            timeout=ANSWER_SECONDS,
            allow_remote=self.config.allow_remote,
            max_tokens=MAX_NEW_TOKENS,
        )

    def _weights(self) -> dict[str, str]:
        """{"model", "adapter"}: name and digest of the folders; "endpoint": the server and what it calls its model.

        The server takes the model's place where it does not code with the folder's prompts.
        """
        config = self.config
        served = f"{config.served_model} at {config.endpoint}"
        if config.endpoint and not config.is_served:
            return {"model": served, "adapter": "none"}
        return describe_weights(config.model, config.adapter) | ({"endpoint": served} if config.is_served else {})


def dialogue_of(system: str, codebook: CodeBook) -> Callable[[Note], Dialogue]:
    """What starts the dialogue of a system about a note."""
    if system == CLH:
        retriever = Retriever(codebook)
        return lambda note: code_like_humans(note, codebook, retriever)
    return lambda note: multi_agent_coding(note, codebook)
