"""Command: public corpora as documents and notes (Eq. 4); span pairs by data expansion (Eq. 5), and their coverage.

    python -m minscl.expand gold --out gold.jsonl [--tables neoplasm,external-cause,drug]
    python -m minscl.expand silver --notes labels.jsonl --out silver.jsonl [--model DIR | --endpoint URL --model NAME]
    python -m minscl.expand synthetic --pairs gold.jsonl,silver.jsonl --out synthetic.jsonl [--model DIR | --template]
    python -m minscl.expand coverage gold.jsonl [more.jsonl] [--json] [--plot coverage.png]
    python -m minscl.expand edition [--edition 2026]
    python -m minscl.expand lookup TERM|CODE [--json]
    python -m minscl.expand official tables.zip descriptions.zip --out icd10cm-2027
    python -m minscl.expand documents mdace --mdace MDACE --noteevents NOTEEVENTS.csv.gz --split train --out docs.jsonl
    python -m minscl.expand documents mimic-iv --discharge discharge.csv.gz --diagnoses diagnoses_icd.csv.gz --out FILE
    python -m minscl.expand documents codiesp codiesp.zip --split train --language es --out documents.jsonl
    python -m minscl.expand documents aci-bench --notes test1.csv --codes codes.tsv --out aci.jsonl
    python -m minscl.expand notes codiesp codiesp.zip --split background --language en --out notes.jsonl
    python -m minscl.expand notes aci-bench --notes test1.csv --out notes.jsonl
    python -m minscl.expand notes documents --documents documents.jsonl --out notes.jsonl
    python -m minscl.expand notes folder --folder DIR --out notes.jsonl

Read next: expand_config.py for the flags; data/spans/gold.py, silver.py (Eq. 7, 8), synthetic.py (Eq. 9);
expand_corpora.py and code_set.py for the other sub-commands.
"""

from typing import Any

from minscl.cli import Parser, add_flags, make_config, require
from minscl.code_set import lookup, official, show_edition
from minscl.command import format_counts, print_json, print_written, run_command, warn
from minscl.config import DEMO
from minscl.data.coded_records import read_documents, read_pairs
from minscl.data.icd.index_tables import TABLES
from minscl.data.jsonl import write_jsonl
from minscl.data.spans.coverage import chapter_table, coverage, coverage_table, draw_coverage
from minscl.data.spans.gold import read_gold
from minscl.data.spans.silver import expand_silver
from minscl.data.spans.synthetic import expand_synthetic
from minscl.edition_flags import load_codebook
from minscl.errors import InputError
from minscl.expand_config import (
    AciDocumentsConfig,
    AciNotesConfig,
    CodiespDocumentsConfig,
    CodiespNotesConfig,
    CoverageConfig,
    DocumentNotesConfig,
    FolderConfig,
    GoldConfig,
    LLMConfig,
    LookupConfig,
    MdaceConfig,
    MimicIVConfig,
    OfficialConfig,
    ShowEditionConfig,
    SilverConfig,
    SyntheticConfig,
)
from minscl.expand_corpora import (
    aci_bench,
    aci_bench_notes,
    codiesp,
    codiesp_texts,
    document_notes,
    mdace,
    mimic_iv,
    text_notes,
)
from minscl.figures import check_figure_path


def gold(config: GoldConfig) -> None:
    """Write every gold pair; print what was read, written and left out, and the coverage."""
    tables = [name.strip() for name in config.tables.split(",") if name.strip()]
    for name in tables:
        if name not in TABLES:
            raise InputError(f"--tables {name}: no such table; use {', '.join(TABLES)}")
    codebook = load_codebook(config)
    pairs, counts = read_gold(codebook, tables)
    write_jsonl(config.out, pairs)
    print_written(
        config.out, counts.rows(len(codebook.billable)), chapter_table(coverage(pairs, codebook)), codebook.label
    )


def silver(config: SilverConfig) -> None:
    """Write the pairs of both LLM stages, quoting and selecting; print the counts of both."""
    codebook = load_codebook(config)
    documents = read_documents(require(config.notes, "--notes"), codebook)
    llm = load_llm(config)
    pairs, rows = expand_silver(documents, codebook, llm, config.out)
    rows += llm.token_counts()
    if not pairs:
        print(format_counts(rows))
        raise InputError(
            f"--out {config.out}: not written, since no quotation was located in its note and given a code; the counts "
            "say why"
        )
    write_jsonl(config.out, pairs)
    print_written(config.out, rows, codebook.label)


def synthetic(config: SyntheticConfig) -> None:
    """Write phrases for every billable code that the pairs of --pairs do not cover."""
    codebook = load_codebook(config)
    files = [require(path.strip(), "--pairs") for path in config.pairs.split(",")]
    covering = [pair for path in files for pair in read_pairs(path, codebook)]
    if not any(codebook.is_billable(pair.code) for pair in covering):
        raise InputError(
            f"{config.pairs}: no pair with a billable code, so no code has a neighbour; give gold pairs (expand gold)"
        )
    llm = None if config.template else load_llm(config)
    pairs, rows = expand_synthetic(covering, codebook, llm, config.out)
    if not write_jsonl(config.out, pairs):
        warn(f"{config.out} is empty: every billable code is covered, or no phrase was usable; see the counts")
    print_written(config.out, [*rows, *(llm.token_counts() if llm else [])], codebook.label)


def load_llm(config: LLMConfig):
    """The LLM that `config` names. Imports are local: a local model's load torch, which nothing else here needs."""
    if config.endpoint:
        from minscl.infer.endpoint import EndpointLLM

        return EndpointLLM(
            config.endpoint,
            config.model,
            concurrency=config.together,
            timeout=config.timeout,
            retries=config.retries,
            allow_remote=config.allow_remote,
        )
    from minscl.hardware import default_cache_bytes
    from minscl.infer.llm import LocalLLM
    from minscl.pretrained import describe_weights, load_pretrained

    folder = config.model or str(DEMO)
    model, tokenizer = load_pretrained(folder, config.adapter, device=config.device, dtype=config.dtype)
    weights = describe_weights(folder, config.adapter)
    name = f"{weights['model']} + {weights['adapter']}, {model.model.embed_tokens.weight.dtype}"
    memory = default_cache_bytes(model.model.embed_tokens.weight.device)
    return LocalLLM(model, tokenizer, name, config.together, memory=memory)


def show_coverage(config: CoverageConfig) -> None:
    """Print, and draw where --plot asks for it, the coverage of all files together."""
    if config.plot:
        check_figure_path(config.plot)
    codebook = load_codebook(config)
    pairs = (pair for path in config.files for pair in read_pairs(require(path, "coverage"), codebook))
    counts = coverage(pairs, codebook)
    if config.plot:
        draw_coverage(counts, config.plot)
    if config.json:
        print_json({"edition": codebook.edition.id} | counts.to_dict())
    else:
        print(coverage_table(counts), codebook.label, sep="\n\n")


COMMANDS = {  # sub-command, as words of the command line → (help, dataclass of its flags, function that runs it)
    ("gold",): ("pairs of the Alphabetic Index and the Tabular List's inclusion terms", GoldConfig, gold),
    ("coverage",): ("which billable codes have pairs, by source and chapter", CoverageConfig, show_coverage),
    ("silver",): ("pairs that an LLM quotes from notes with codes", SilverConfig, silver),
    ("synthetic",): ("pairs that an LLM writes for codes without any", SyntheticConfig, synthetic),
    ("edition",): ("the code set: its files, codes and notes", ShowEditionConfig, show_edition),
    ("lookup",): ("a code with its path, notes and Index entries, or a search by words", LookupConfig, lookup),
    ("official",): ("an edition folder, from the archives of CDC or CMS", OfficialConfig, official),
    ("documents", "mdace"): ("MDACE + MIMIC-III: codes with evidence", MdaceConfig, mdace),
    ("documents", "mimic-iv"): ("MIMIC-IV: codes only", MimicIVConfig, mimic_iv),
    ("documents", "codiesp"): ("CodiEsp: codes with evidence, Spanish or English", CodiespDocumentsConfig, codiesp),
    ("documents", "aci-bench"): ("ACI-Bench with codes of Yuan et al. or MedCodER", AciDocumentsConfig, aci_bench),
    ("notes", "codiesp"): ("CodiEsp, Spanish or English", CodiespNotesConfig, codiesp_texts),
    ("notes", "aci-bench"): ("ACI-Bench", AciNotesConfig, aci_bench_notes),
    ("notes", "documents"): ("coded documents without their codes", DocumentNotesConfig, document_notes),
    ("notes", "folder"): ("a folder of .txt files", FolderConfig, text_notes),
}


def main(argv: list[str] | None = None) -> int:
    """Run the sub-command that `argv` (sys.argv without the program) names; returns the exit status."""
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
    return run(make_config(config_class, values)) or 0


if __name__ == "__main__":
    run_command(main)
