"""Command: real corpora as documents and notes (Eq. 4), and code-centric data expansion (Eq. 5): gold, silver, synthetic, and what is covered.

    python -m minscl.expand gold --out gold.jsonl [--tables neoplasm,external-cause,drug]
    python -m minscl.expand silver --notes labels.jsonl --out silver.jsonl [--model DIR | --endpoint URL --model NAME]
    python -m minscl.expand synthetic --pairs gold.jsonl,silver.jsonl --out synthetic.jsonl [--model ... | --template]
    python -m minscl.expand coverage gold.jsonl [more.jsonl] [--json] [--plot coverage.png]
    python -m minscl.expand documents mdace --mdace MDACE --noteevents NOTEEVENTS.csv.gz --split train --out documents.jsonl
    python -m minscl.expand documents mimic-iv --discharge discharge.csv.gz --diagnoses diagnoses_icd.csv.gz --split train --out labels.jsonl
    python -m minscl.expand documents aci-bench --notes test1.csv --codes codes.csv --out aci.jsonl
    python -m minscl.expand notes aci-bench --notes test1.csv --out notes.jsonl
    python -m minscl.expand notes documents --documents documents.jsonl --out notes.jsonl
    python -m minscl.expand notes folder --folder DIR --out notes.jsonl

Read next: expand_corpora.py for documents and notes, expand_llm.py for silver and synthetic; data/gold.py.
"""

import argparse
import json
import sys
from dataclasses import dataclass

from minscl.cli import add_flags, flag, format_counts, make_config, path_flag, require, run_command
from minscl.data.icd import CodeBook
from minscl.data.icd.index_tables import TABLES
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.spans.coverage import chapter_table, coverage, coverage_table, draw_coverage
from minscl.data.spans.gold import GoldCounts, read_gold
from minscl.data.types import Pair
from minscl.errors import InputError
from minscl.expand_corpora import CORPORA
from minscl.expand_llm import ASKED


@dataclass(frozen=True)
class GoldConfig:
    out: str = path_flag("span pairs to write, JSON Lines")
    tables: str = flag("", f"tables to read beside the Index, with commas between: {', '.join(TABLES)}")


@dataclass(frozen=True)
class CoverageConfig:
    json: bool = flag(False, "print the counts as one JSON object")
    plot: str = flag("", "write a picture, a bar a chapter (.png, .svg, .pdf)")


def show_gold(counts: GoldCounts, billable: int) -> str:
    return format_counts(
        [
            ("terms read", counts.terms),
            ("  main terms", counts.main_terms),
            ("  terms with a code", counts.terms_with_code),
            ("  distinct code strings", counts.code_strings),
            ("inclusion terms read", counts.inclusion_terms),
            ("lines of tables read", counts.table_lines),
            ("pairs written", counts.pairs),
            (f"  distinct codes, of {billable:,} billable", counts.codes),
            ("  phrases with more than one code", counts.several_codes),
            ("resolved", counts.resolved.total()),
            *((f"  {how}", number) for how, number in counts.resolved.most_common()),
            ("unresolved", counts.unresolved.total()),
            *((f"  {why}", number) for why, number in counts.unresolved.most_common()),
        ]
    )


def gold(config: GoldConfig) -> None:
    """Write every gold pair; print what was read, written and left, and what is covered."""
    tables = [name.strip() for name in config.tables.split(",") if name.strip()]
    for name in tables:
        if name not in TABLES:
            raise InputError(f"--tables {name}: no such table; use {', '.join(TABLES)}")
    codebook = CodeBook.load()
    pairs, counts = read_gold(codebook, tables)
    write_jsonl(config.out, pairs)
    print(show_gold(counts, len(codebook.billable)), chapter_table(coverage(pairs, codebook)), sep="\n\n")
    print(f"written to {config.out}", file=sys.stderr)


def show_coverage(config: CoverageConfig, files) -> None:
    """Coverage of the pairs of all `files` together."""
    found = coverage((pair for path in files for pair in read_jsonl(require(path, "coverage"), Pair)), CodeBook.load())
    if config.plot:
        draw_coverage(found, config.plot)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if config.json else coverage_table(found))


COMMANDS = {  # words of the command line → (help, flags, what is done)
    ("gold",): ("pairs of the Alphabetic Index and the Tabular List's inclusion terms", GoldConfig, gold),
    ("coverage",): ("which billable codes have pairs, by source and chapter", CoverageConfig, show_coverage),
    **ASKED,
    **CORPORA,
}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m minscl.expand", description="Make documents, notes and span pairs, and count what they cover."
    )
    parsers = {(): parser.add_subparsers(required=True, metavar="COMMAND")}
    for words, (help, config, run) in COMMANDS.items():
        if len(words) == 2 and words[:1] not in parsers:
            group = parsers[()].add_parser(words[0], help=f"real corpora as {words[0]}")
            parsers[words[:1]] = group.add_subparsers(required=True, metavar="CORPUS")
        one = parsers[words[:-1]].add_parser(words[-1], help=help, description=help)
        if run is show_coverage:
            one.add_argument("files", nargs="+", metavar="FILE", help="span pairs, JSON Lines")
        add_flags(one, config)
        one.set_defaults(run=run, config=config)
    given = vars(parser.parse_args(argv))
    run, config = given.pop("run"), given.pop("config")
    rest = [given.pop("files")] if "files" in given else []
    run(make_config(config, given), *rest)
    return 0


if __name__ == "__main__":
    run_command(main)
