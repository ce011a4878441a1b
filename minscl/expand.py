"""Command: public corpora as documents and notes (Eq. 4); span pairs by data expansion (Eq. 5), and their coverage.

    python -m minscl.expand gold --out gold.jsonl [--tables neoplasm,external-cause,drug] python -m minscl.expand silver
    --notes labels.jsonl --out silver.jsonl [--model DIR | --endpoint URL --model NAME] python -m minscl.expand
    synthetic --pairs gold.jsonl,silver.jsonl --out synthetic.jsonl [--model ... | --template] python -m minscl.expand
    coverage gold.jsonl [more.jsonl] [--json] [--plot coverage.png] python -m minscl.expand documents mdace --mdace
    MDACE --noteevents NOTEEVENTS.csv.gz --split train --out docs.jsonl python -m minscl.expand documents mimic-iv
    --discharge discharge.csv.gz --diagnoses diagnoses_icd.csv.gz --out l.jsonl python -m minscl.expand documents
    aci-bench --notes test1.csv --codes codes.csv --out aci.jsonl python -m minscl.expand notes aci-bench --notes
    test1.csv --out notes.jsonl python -m minscl.expand notes documents --documents documents.jsonl --out notes.jsonl
    python -m minscl.expand notes folder --folder DIR --out notes.jsonl

Read next: data/spans/gold.py, silver.py (Eq. 7, 8), synthetic.py (Eq. 9); data/corpora/mdace.py.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from minscl.cli import Parser, add_flags, flag, format_counts, make_config, path_flag, positional, require, run_command
from minscl.config import DEMO
from minscl.data.corpora.aci_bench import aci_documents, aci_notes
from minscl.data.corpora.counts import SPLITS, Counts
from minscl.data.corpora.folder import folder_notes
from minscl.data.corpora.mdace import CATEGORIES, LEAKS, SETS, read_mdace
from minscl.data.corpora.mimic_iv import mimic_iv_documents
from minscl.data.icd import CodeBook
from minscl.data.icd.index_tables import TABLES
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans.coverage import chapter_table, coverage, coverage_table, draw_coverage
from minscl.data.spans.gold import read_gold
from minscl.data.spans.silver import expand_silver
from minscl.data.spans.synthetic import expand_synthetic
from minscl.data.types import CodedDocument, Note, Pair
from minscl.errors import InputError
from minscl.infer import BATCH_SIZE


@dataclass(frozen=True)
class GoldConfig:
    """`expand gold`."""

    out: str = path_flag("span pairs to write, JSON Lines")
    tables: str = flag("", f"tables to read beside the Index, with commas between: {', '.join(TABLES)}")


@dataclass(frozen=True)
class LLMConfig:
    """The LLM of `silver` and `synthetic`: a server where --endpoint names one, else a local model."""

    model: str = flag(
        "",
        "local model folder (default: the embedded model, too small to be of use), or the name of the endpoint's model",
    )
    adapter: str = flag("", "LoRA adapter folder of a local model")
    dtype: str = flag("auto", "of a local model: float32, bfloat16 or float16")
    device: str = flag("auto", "of a local model: cpu, cuda, cuda:1 ...")
    together: int = flag(BATCH_SIZE, "prompts under way at a time")
    endpoint: str = flag("", "OpenAI-compatible server, as http://127.0.0.1:8000/v1; key: variable MINSCL_API_KEY")
    timeout: float = flag(120.0, "seconds of the endpoint's silence before a request is repeated")
    retries: int = flag(5, "times that a request to the endpoint is repeated, with growing pauses")
    allow_remote: bool = flag(False, "allow notes to leave this machine for the endpoint")

    def __post_init__(self):
        if self.together < 1:
            raise InputError(f"--together {self.together}: must be at least 1")
        if self.retries < 0:
            raise InputError(f"--retries {self.retries}: must be at least 0")
        if not 0 < self.timeout <= 86_400:
            raise InputError(f"--timeout {self.timeout}: must be above 0, and at most a day's 86400 seconds")


@dataclass(frozen=True)
class SilverConfig(LLMConfig):
    """`expand silver`."""

    notes: str = path_flag("coded documents without evidence, JSON Lines (expand documents mimic-iv)")
    out: str = path_flag("span pairs to write, JSON Lines; the logs of both stages' answers are kept beside it")


@dataclass(frozen=True)
class SyntheticConfig(LLMConfig):
    """`expand synthetic`."""

    pairs: str = path_flag("gold and silver pairs, JSON Lines; several files with commas between")
    out: str = path_flag("span pairs to write, JSON Lines; the log of answers is kept beside it")
    template: bool = flag(False, "no LLM: one phrase a code by rule")


@dataclass(frozen=True)
class CoverageConfig:
    """`expand coverage`."""

    files: tuple[str, ...] = positional("span pairs, JSON Lines; counted together", "FILE")
    json: bool = flag(False, "print the counts as one JSON object")
    plot: str = flag("", "write a bar chart of the chapters (.png, .svg, .pdf)")


@dataclass(frozen=True)
class MdaceConfig:
    """`expand documents mdace`."""

    mdace: str = path_flag("folder of github.com/3mcloud/MDACE, with data/ and splits/")
    noteevents: str = path_flag("MIMIC-III's NOTEEVENTS.csv or NOTEEVENTS.csv.gz")
    out: str = path_flag("coded documents to write, JSON Lines")
    split: str = flag("train", "shipped split", choices=SPLITS)
    set: str = flag("inpatient", "annotation set", choices=SETS)
    unit: str = flag("admission", "what one document is; note: each note with a code", choices=("admission", "note"))
    categories: str = flag("discharge", "notes read; codeable: discharge, radiology and physician", choices=CATEGORIES)
    leak: str = flag("refuse", "Profee charts that Inpatient has in another split", choices=LEAKS)


@dataclass(frozen=True)
class MimicIVConfig:
    """`expand documents mimic-iv`."""

    discharge: str = path_flag("MIMIC-IV-Note's discharge.csv.gz")
    diagnoses: str = path_flag("MIMIC-IV's hosp/diagnoses_icd.csv.gz")
    out: str = path_flag("coded documents without evidence to write, JSON Lines")
    split: str = flag("train", "split, by patient", choices=SPLITS)


@dataclass(frozen=True)
class AciNotesConfig:
    """`expand notes aci-bench`."""

    notes: str = path_flag("ACI-Bench's .csv, or .jsonl with id and note")
    out: str = path_flag("JSON Lines to write")


@dataclass(frozen=True)
class AciDocumentsConfig(AciNotesConfig):
    """`expand documents aci-bench`."""

    codes: str = path_flag("CSV with the columns id,code, one code a row: the codes of Yuan et al. (2025)")


@dataclass(frozen=True)
class DocumentNotesConfig:
    """`expand notes documents`."""

    documents: str = path_flag("coded documents, JSON Lines, whose codes are left out")
    out: str = path_flag("notes to write, JSON Lines")


@dataclass(frozen=True)
class FolderConfig:
    """`expand notes folder`."""

    folder: str = path_flag("folder whose .txt files, at any depth, are one note each")
    out: str = path_flag("notes to write, JSON Lines")


def gold(config: GoldConfig) -> None:
    """Write every gold pair; print what was read, written and left out, and the coverage."""
    tables = [name.strip() for name in config.tables.split(",") if name.strip()]
    for name in tables:
        if name not in TABLES:
            raise InputError(f"--tables {name}: no such table; use {', '.join(TABLES)}")
    codebook = CodeBook.load()
    pairs, counts = read_gold(codebook, tables)
    write_jsonl(config.out, pairs)
    print_written(config.out, counts.rows(len(codebook.billable)), chapter_table(coverage(pairs, codebook)))


def silver(config: SilverConfig) -> None:
    """Write the pairs that an LLM quotes and chooses; print the counts of both stages."""
    documents = read_jsonl(require(config.notes, "--notes"), CodedDocument)
    llm = load_llm(config)
    pairs, rows = expand_silver(documents, CodeBook.load(), llm, config.out)
    write_jsonl(config.out, pairs)
    print_written(config.out, [*rows, *llm.token_counts()])


def synthetic(config: SyntheticConfig) -> None:
    """Write phrases for every billable code that the pairs of --pairs do not cover."""
    codebook = CodeBook.load()
    files = [require(path.strip(), "--pairs") for path in config.pairs.split(",")]
    covering = [pair for path in files for pair in read_jsonl(path, Pair)]
    if not any(codebook.is_billable(pair.code) for pair in covering):
        raise InputError(
            f"{config.pairs}: no pair with a billable code, so no code has a neighbour; give gold pairs (expand gold)"
        )
    llm = None if config.template else load_llm(config)
    pairs, rows = expand_synthetic(covering, codebook, llm, config.out)
    write_jsonl(config.out, pairs)
    print_written(config.out, [*rows, *(llm.token_counts() if llm else [])])


def load_llm(config: LLMConfig):
    """The LLM that `config` names. Imports are local: they bring torch, which the rest of `expand` does without."""
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
    name = " + ".join(filter(None, [folder, config.adapter]))
    memory = free_memory(model.model.embed_tokens.weight.device) * 3 // 4
    return LocalLLM(model, tokenizer, name, config.together, memory=memory)


def show_coverage(config: CoverageConfig) -> None:
    """Print, and draw where --plot asks for it, the coverage of all files together."""
    pairs = (pair for path in config.files for pair in read_jsonl(require(path, "coverage"), Pair))
    counts = coverage(pairs, CodeBook.load())
    if config.plot:
        draw_coverage(counts, config.plot)
    print(json.dumps(counts.to_dict(), ensure_ascii=False) if config.json else coverage_table(counts))


def mdace(config: MdaceConfig) -> None:
    """Write MDACE's documents with evidence."""
    documents, counts = read_mdace(
        config.mdace,
        config.noteevents,
        CodeBook.load(),
        set=config.set,
        split=config.split,
        unit=config.unit,
        categories=config.categories,
        leak=config.leak,
    )
    write_corpus(config.out, documents, counts)


def mimic_iv(config: MimicIVConfig) -> None:
    """Write MIMIC-IV's documents without evidence."""
    counts = Counts()
    documents = mimic_iv_documents(config.discharge, config.diagnoses, config.split, CodeBook.load(), counts)
    write_corpus(config.out, documents, counts)
    print(
        "minscl: MIMIC-III and MIMIC-IV may share patients, and no id tells which: a test on MDACE after training on "
        "MIMIC-IV may see a patient again",
        file=sys.stderr,
    )


def aci_bench(config: AciDocumentsConfig) -> None:
    """Write ACI-Bench's documents without evidence."""
    counts = Counts()
    write_corpus(config.out, aci_documents(aci_notes(config.notes), config.codes, CodeBook.load(), counts), counts)


def aci_bench_notes(config: AciNotesConfig) -> None:
    """Write ACI-Bench's notes."""
    write_notes(config.out, aci_notes(config.notes))


def document_notes(config: DocumentNotesConfig) -> None:
    """Write the notes of coded documents."""
    documents = read_jsonl(config.documents, CodedDocument)
    write_notes(config.out, [Note(document.id, document.text) for document in documents])


def text_notes(config: FolderConfig) -> None:
    """Write the text files of a folder as notes."""
    write_notes(config.out, folder_notes(config.folder))


def write_notes(out: str, notes: list[Note]) -> None:
    """Write bare notes and print how many."""
    counts = Counts()
    counts.numbers["notes written"] = len(notes)
    write_corpus(out, notes, counts)


def write_corpus(out: str, records, counts: Counts) -> None:
    """Write `records`, then print the counts on stdout and the warnings on stderr."""
    if not write_jsonl(out, records):
        counts.warnings.append(f"{out} is empty: nothing was left to write; the counts say why")
    for line in counts.warnings:
        print(f"minscl: warning: {line}", file=sys.stderr)
    print_written(out, counts.numbers.items())


def print_written(out: str, rows, *texts: str) -> None:
    """Print (name, number) rows and `texts` on stdout, the name of the file on stderr."""
    print(format_counts(rows), *texts, sep="\n\n")
    print(f"written to {out}", file=sys.stderr)


COMMANDS = {  # words of the command line → (help, flags, function of the flags)
    ("gold",): ("pairs of the Alphabetic Index and the Tabular List's inclusion terms", GoldConfig, gold),
    ("coverage",): ("which billable codes have pairs, by source and chapter", CoverageConfig, show_coverage),
    ("silver",): ("pairs that an LLM quotes from notes with codes", SilverConfig, silver),
    ("synthetic",): ("pairs that an LLM writes for codes without any", SyntheticConfig, synthetic),
    ("documents", "mdace"): ("MDACE + MIMIC-III: codes with evidence", MdaceConfig, mdace),
    ("documents", "mimic-iv"): ("MIMIC-IV: codes alone", MimicIVConfig, mimic_iv),
    ("documents", "aci-bench"): ("ACI-Bench with the codes of Yuan et al.", AciDocumentsConfig, aci_bench),
    ("notes", "aci-bench"): ("ACI-Bench", AciNotesConfig, aci_bench_notes),
    ("notes", "documents"): ("coded documents without their codes", DocumentNotesConfig, document_notes),
    ("notes", "folder"): ("a folder of .txt files", FolderConfig, text_notes),
}


def main(argv: list[str] | None = None) -> int:
    """Run the sub-command that `argv` (sys.argv without the program) names; gives the exit status."""
    parser = Parser(
        prog="python -m minscl.expand", description="Make documents, notes and span pairs, and count what they cover."
    )
    groups: dict[tuple[str, ...], Any] = {(): parser.add_subparsers(required=True, metavar="COMMAND")}
    for words, (help, config_class, run) in COMMANDS.items():
        group = words[:-1]
        if group not in groups:
            subparser = groups[()].add_parser(group[0], help=f"public corpora as {group[0]}")
            groups[group] = subparser.add_subparsers(required=True, metavar="CORPUS")
        command = groups[group].add_parser(words[-1], help=help, description=help)
        add_flags(command, config_class)
        command.set_defaults(run=run, config_class=config_class)
    values = vars(parser.parse_args(argv))
    run, config_class = values.pop("run"), values.pop("config_class")
    run(make_config(config_class, values))
    return 0


if __name__ == "__main__":
    run_command(main)
