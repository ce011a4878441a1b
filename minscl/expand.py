"""Command: code-centric data expansion (Eq. 5). So far its first source, gold.

    python -m minscl.expand gold --out gold.jsonl

Read next: data/gold.py.
"""

import argparse
import sys

from minscl.data.gold import GoldCounts, read_gold
from minscl.data.icd import CodeBook
from minscl.data.jsonl import write_jsonl
from minscl.errors import run_command


def show_counts(counts: GoldCounts, billable: int) -> str:
    """The counts as lines a person reads."""
    rows = [("terms read", counts.terms), ("  main terms", counts.main_terms), ("  terms with a code", counts.terms_with_code),
            ("  distinct code strings", counts.code_strings), ("inclusion terms read", counts.inclusion_terms), ("pairs written", counts.pairs),
            (f"  distinct codes, of {billable:,} billable", counts.codes), ("  phrases with more than one code", counts.several_codes),
            ("resolved", counts.resolved.total()), *((f"  {how}", number) for how, number in counts.resolved.most_common()),
            ("unresolved", counts.unresolved.total()), *((f"  {why}", number) for why, number in counts.unresolved.most_common())]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {number:>7,}" for name, number in rows)


def gold(out: str) -> None:
    """Write every gold pair to `out`; print what was read, written and left."""
    codebook = CodeBook.load()
    pairs, counts = read_gold(codebook)
    write_jsonl(out, pairs)
    print(show_counts(counts, len(codebook.billable)))
    print(f"written to {out}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m minscl.expand", description="Make span pairs, the evidence phrases of single codes.")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("gold", help="the Alphabetic Index and the Tabular List's inclusion terms")
    one.add_argument("--out", required=True, metavar="FILE", help="span pairs, JSON Lines")
    args = parser.parse_args()
    gold(args.out)
    return 0


if __name__ == "__main__":
    run_command(main)
