"""Command: note(s) → evidence and codes, each quotation located in the note.

    python -m minscl.generate note.txt [more.txt | notes.jsonl] [--model DIR] [--adapter DIR] [--evidence FILE]
                              [--free] [--passage N] [--min-score P] [--no-calibration]
                              [--system scl | sft | cot | cot-sc] [--verify]
    python -m minscl.generate notes.jsonl --endpoint URL --served-model NAME --model DIR [--grounded] --out FILE
    python -m minscl.generate note.txt --system clh | mac [--verify] [--endpoint URL --served-model NAME]
    python -m minscl.generate note.txt --system plm-icd | plm-ca | gki-icd --heads DIR [--attribution attingrad]
    python -m minscl.generate note.txt --system lookup --documents train.jsonl [--spans spans.jsonl]
                              [--edition 2026] [--date 2026-09-30] [--strict] [--json | --html FILE | --out FILE]

Decoding is grounded: every quotation is the note's, every code billable. --free is the paper's plain generation. Where
the model has a calibration.json, scores are calibrated and codes below its threshold are left out.

On a terminal, the answer to a single note is shown as it is written, above the table.

With --out, coded notes are appended as they finish, and an interrupted run resumes where it stopped; torchrun shares
the notes among several processes. Nothing leaves the machine, unless --endpoint names a server elsewhere and
--allow-remote allows it: only then is a connection opened.

Read next: infer/coder.py; infer/systems/clh.py, a system of several questions; infer/systems/lookup.py, the baseline
without a model; heads/predict.py; infer/shards.py, the files of several processes.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

from minscl.cli import parse_flags
from minscl.command import print_json, run_command
from minscl.config import HEADS
from minscl.data.answer_log import AnswerLog
from minscl.data.calibration import VERIFIED, Calibration, threshold
from minscl.data.checks import breaks_rules, check_document
from minscl.data.icd import CodeBook
from minscl.data.notes import Skip, read_evidence, read_notes
from minscl.data.record_checks import show_id
from minscl.data.resuming import already_coded, evidence_setting
from minscl.data.types import CodedDocument, Note
from minscl.edition_flags import load_codebook
from minscl.errors import InputError, printable
from minscl.files import replace_file
from minscl.generate_config import GenerateConfig, settings_of
from minscl.hardware import choose_device, default_cache_bytes, memory_errors
from minscl.heads.predict import code_with_head, head_settings, load_coder
from minscl.infer.answer import filter_by_score
from minscl.infer.asker import EndpointAsker, LocalAsker
from minscl.infer.coder import code_notes
from minscl.infer.endpoint import EndpointLLM
from minscl.infer.jobs import MAX_NEW_TOKENS
from minscl.infer.linear import prepare_for_inference
from minscl.infer.processes import Process, explain_sigterm
from minscl.infer.report import text_table
from minscl.infer.served import ServedModel
from minscl.infer.shards import Shards
from minscl.infer.systems import DIALOGUES, choose_system
from minscl.infer.systems.clh import CLH, code_like_humans
from minscl.infer.systems.lookup import LOOKUP
from minscl.infer.systems.lookup_notes import look_up_notes, lookup_settings, read_table
from minscl.infer.systems.mac import multi_agent_coding
from minscl.infer.systems.questions import Asker, Dialogue, run_dialogues
from minscl.infer.systems.retrieval import Retriever
from minscl.infer.systems.verify import verify_documents
from minscl.live_answer import LiveAnswer
from minscl.page import page_html
from minscl.pretrained import describe_weights, load_pretrained

ANSWER_SECONDS = 600.0  # in which a server that is busy with --batch-size answers must have written one


def weights_of(config: GenerateConfig) -> dict[str, str]:
    """{"model", "adapter"} of coded_with: name and digest of the folders; the server and what it calls its model."""
    served = f"{config.served_model} at {config.endpoint}"
    if config.endpoint and not config.is_served:
        return {"model": served, "adapter": "none"}
    return describe_weights(config.model, config.adapter) | ({"endpoint": served} if config.is_served else {})


def code(
    config: GenerateConfig,
    notes: list[Note],
    evidence,
    skip: Skip | None,
    codebook: CodeBook,
    calibration: Calibration | None,
    show_progress: bool = True,
    served: ServedModel | None = None,
    grounded: str = "",
) -> Iterator[CodedDocument]:
    """Load the model and code `notes`; yields their documents in order. The other arguments are as for code_notes."""
    if not notes:
        return
    device, _ = choose_device(config.device, config.dtype)
    memory = int(config.memory * 1e9) or default_cache_bytes(device)
    model = tokenizer = None
    if config.needs_weights:
        model, tokenizer = load_pretrained(
            config.model, config.adapter, device=config.device, dtype=config.dtype, weights=config.weights
        )
        prepare_for_inference(model)
    asker = make_asker(config, model, tokenizer, codebook, memory)
    if config.system == LOOKUP:
        table = read_table(config.documents, config.spans, codebook)
        coded = look_up_notes(table, notes, codebook, config.min_score or 0.0, skip)
    elif config.system in HEADS:
        coder = load_coder(config.head_choice(), config.device, config.dtype)
        coded = code_with_head(coder, notes, codebook, skip)
    elif config.system in DIALOGUES:
        coded = run_dialogues(dialogue_of(config.system, codebook), notes, asker, config.batch_size, skip)
        coded = (finish(document, codebook, calibration, config.min_score) for document in coded)
    elif served:
        coded = served.code_notes(
            notes,
            codebook,
            system=choose_system(config.system),
            evidence=evidence,
            grounded=grounded,
            skip=skip,
            calibration=calibration,
            min_score=config.min_score,
            passage=config.passage,
        )
    else:
        coded = code_locally(config, model, tokenizer, notes, evidence, skip, codebook, calibration, memory)
    if config.verify:
        verified = verify_documents(coded, codebook, asker, config.batch_size, skip)
        coded = (check_document(document, codebook) for document in verified)
    with memory_errors("--attribution attention, or shorter notes" if config.system in HEADS else "a smaller --memory"):
        is_quiet = not show_progress or len(notes) == 1 or config.system == LOOKUP
        yield from tqdm(coded, total=len(notes), unit="note", disable=is_quiet)


def code_locally(
    config: GenerateConfig, model, tokenizer, notes: list[Note], evidence, skip, codebook, calibration, memory: int
) -> Iterator[CodedDocument]:
    """coder.code_notes with the settings of `config`; a single note's answer is shown on a terminal as it grows."""
    system = choose_system(config.system, config.sampling())
    alone = len(notes) == system.chains == 1 and not (config.json or config.html or config.out)
    live = LiveAnswer(tokenizer) if alone and sys.stdout.isatty() else None
    coded = code_notes(
        model,
        tokenizer,
        notes,
        system=system,
        evidence=evidence,
        grounded=config.is_grounded,
        batch_size=config.batch_size,
        memory=memory,
        compile=config.compile,
        skip=skip,
        codebook=codebook,
        calibration=calibration,
        min_score=config.min_score,
        passage=config.passage,
        on_tokens=live.on_tokens if live else None,
    )
    return live.until_finished(coded) if live else coded


def make_asker(config: GenerateConfig, model, tokenizer, codebook: CodeBook, memory: int) -> Asker:
    """Who answers the questions of a dialogue: the server of --endpoint, or the local model."""
    if config.endpoint:
        return EndpointAsker(connect(config))
    return LocalAsker(model, tokenizer, codebook, config.batch_size, memory)


def connect(config: GenerateConfig) -> EndpointLLM:
    """The server of --endpoint. Raises InputError as EndpointLLM does; nothing is sent yet."""
    return EndpointLLM(
        config.endpoint,
        config.served_model,
        concurrency=config.batch_size,
        timeout=ANSWER_SECONDS,
        allow_remote=config.allow_remote,
        max_tokens=MAX_NEW_TOKENS,
    )


def dialogue_of(system: str, codebook: CodeBook) -> Callable[[Note], Dialogue]:
    """What starts the dialogue of a system about a note."""
    if system == CLH:
        retriever = Retriever(codebook)
        return lambda note: code_like_humans(note, codebook, retriever)
    return lambda note: multi_agent_coding(note, codebook)


def finish(
    document: CodedDocument, codebook: CodeBook, calibration: Calibration | None, min_score: float | None
) -> CodedDocument:
    """A dialogue's document as code_notes finishes its own: calibrated, without low scores, checked."""
    document = calibration.apply(document) if calibration else document
    return check_document(filter_by_score(document, threshold(calibration, min_score)), codebook)


def main(argv=None) -> int:
    """Parse the flags, code the notes, print or write the documents; returns the exit status.

    It is 2 if a note was skipped, 1 if --strict finds a document that breaks rules, else 0.
    """
    config = parse_flags(GenerateConfig, "generate", "Code clinical notes in ICD-10-CM, with the evidence.", argv)
    process = Process.from_environment()
    config = config.for_process(process)
    if process.size > 1:
        explain_sigterm(f"{process.name} is stopped: what is coded is kept; start again, with any number of processes")
    skipped: list[str] = []

    def skip(note: Note, error: InputError) -> None:
        skipped.append(note.id)
        # tqdm.write: a line of its own, above the progress bar
        tqdm.write(f"minscl: skipped: {printable(' '.join(str(error).split()))}", file=sys.stderr)

    notes = read_notes(config.notes, skip if len(config.notes) > 1 else None)
    evidence = read_evidence(config.evidence, notes)
    codebook = load_codebook(config)
    calibration = config.calibration()
    served, grounded = ServedModel(config.model, connect(config)) if config.is_served else None, ""
    if config.system == LOOKUP:
        settings = lookup_settings(config.documents, config.spans, config.min_score or 0.0, codebook)
    elif config.system in HEADS:
        _, dtype = choose_device(config.device, config.dtype)
        settings = head_settings(config.head_choice(), dtype, codebook)
    else:
        grounded = served.grounded(config.grounded, config.free or config.system != "scl") if served else ""
        settings = settings_of(config, weights_of(config), codebook, calibration, grounded)
    if config.verify:
        settings |= weights_of(config) | {VERIFIED: "True"}

    def checked(records: Iterable[CodedDocument], path: str) -> dict[str, CodedDocument]:
        return already_coded(records, notes, path, settings, evidence)

    shards = Shards(config.out, process) if config.out else None
    with AnswerLog(shards.log, CodedDocument) if shards else contextlib.nullcontext() as log:
        documents = shards.start(log, checked) if shards and log else {}
        remaining = [note for note in process.share(notes) if note.id not in documents]
        arguments = (config, remaining, evidence, skip if len(notes) > 1 else None, codebook, calibration)
        for coded in code(*arguments, show_progress=process.rank == 0, served=served, grounded=grounded):
            document = dataclasses.replace(coded, coded_with=settings | evidence_setting(evidence, coded.id))
            documents[document.id] = document
            if log:
                log.append([document])
            if config.json:
                print_json(document.to_dict())
            elif not (config.html or config.out):
                print(text_table(document), flush=True)
    if shards and shards.is_split:
        merged = shards.finish(notes, skipped, checked)
        if merged is None:
            print(f"minscl: {process.name} is done: {shards.promise}", file=sys.stderr)
            return 0
        documents, skipped = merged
    coded_notes = [documents[note.id] for note in notes if note.id in documents]
    # those that a version before 0.3.0 has written to --out were not checked
    coded_notes = [item if item.edition else check_document(item, codebook) for item in coded_notes]
    if config.html:
        with replace_file(config.html) as handle:
            handle.write(page_html(coded_notes, codebook, about=f"{codebook.label}: {codebook.edition.about}"))
    if skipped:
        total = len({*skipped, *(note.id for note in notes)})
        print(
            f"minscl: {len(skipped)} of {total} notes were skipped, the first is {show_id(skipped[0])}; the others "
            "are coded",
            file=sys.stderr,
        )
        return 2
    return strict_status(coded_notes) if config.strict else 0


def strict_status(documents: list[CodedDocument]) -> int:
    """1, after a line on stderr, if one of `documents` breaks an Excludes1 note or has an invalid code, else 0."""
    breaking = [document.id for document in documents if breaks_rules(document)]
    if not breaking:
        return 0
    number, shown = f"{len(breaking)} of {len(documents)} documents", ", ".join(map(show_id, breaking[:5]))
    print(f"minscl: --strict: {number} break Excludes1 or have an invalid code, first {shown}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    run_command(main)
