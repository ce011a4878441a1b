"""Recall of Code Like Humans' retrieval: how often the gold code is among the k codes found for an evidence phrase.

    python -m study.retrieval                                  CodiEsp dev, evidence carried over to English
    python -m study.retrieval --documents mdace.jsonl          and any coded documents with evidence
    python -m study.retrieval --mdace DIR                      and the descriptions that MDACE prints beside its codes

MDACE publishes offsets into MIMIC-III's notes and no text. Who has MIMIC-III makes coded documents of both (expand
documents mdace) and measures them with --documents; --mdace asks for what everybody has, each annotation's
`description`, which is a code's own: an upper bound that says only whether the codes are there.

A phrase is asked once for each code that an annotation ties to it. Codes are brought to the edition and evidence that
the note denies is left out, as in training (corpus.for_coding_today). `search` is the coder's search
(data/icd/lookup/search.py) on the same texts, for comparison.

Read next: ../minscl/infer/systems/retrieval.py.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from minscl.command import run_command
from minscl.data.coded_records import read_documents
from minscl.data.icd import CodeBook
from minscl.data.icd.lookup.default_codes import default_below
from minscl.data.icd.lookup.search import Search
from minscl.data.types import CodedDocument
from minscl.errors import InputError
from minscl.infer.systems.retrieval import Retriever
from study.corpus import codiesp, for_coding_today

RANKS = (1, 5, 10, 50)
Ask = Callable[[str, int], list[str]]  # (phrase, limit) → codes


def evidence_pairs(documents: Iterable[CodedDocument], codebook: CodeBook) -> list[tuple[str, str]]:
    """(phrase, code) of each located quotation of each code that can be coded today."""
    return [
        (evidence.text, assignment.code)
        for document in documents
        for assignment in for_coding_today(document, codebook).codes
        for evidence in assignment.evidence
    ]


def mdace_descriptions(folder: Path, codebook: CodeBook) -> list[tuple[str, str]]:
    """(description, code) of each ICD-10-CM annotation in MDACE's `data` folder whose code is billable or stands for
    one. Raises InputError where there is none."""
    pairs = []
    for path in sorted(folder.glob("**/*-ICD-10.json")):
        for note in json.loads(path.read_text(encoding="utf-8"))["notes"]:
            for item in note["annotations"]:
                if item["code_system"] == "ICD-10-CM" and (code := default_below(codebook, item["code"])):
                    pairs.append((item["description"], code))
    if not pairs:
        raise InputError(f"--mdace {folder}: has no *-ICD-10.json; name MDACE's data folder")
    return pairs


def recall(pairs: list[tuple[str, str]], ask: Ask) -> dict[int, tuple[float, float]]:
    """k → (share of `pairs` whose code is among the first k codes, share with a code of the same category there)."""
    ranks: list[tuple[float, float]] = []
    answers: dict[str, list[str]] = {}
    for phrase, code in pairs:
        if phrase not in answers:
            answers[phrase] = ask(phrase, max(RANKS))
        codes = answers[phrase]
        categories = [item[:3] for item in codes]
        code_rank = codes.index(code) if code in codes else float("inf")
        category_rank = categories.index(code[:3]) if code[:3] in categories else float("inf")
        ranks.append((code_rank, category_rank))
    return {
        k: (sum(code < k for code, _ in ranks) / len(ranks), sum(category < k for _, category in ranks) / len(ranks))
        for k in RANKS
    }


def search_codes(search: Search, codebook: CodeBook) -> Ask:
    """The coder's search as Ask: headings stand for the billable code below that says no more."""

    def ask(phrase: str, limit: int) -> list[str]:
        hits = search.search(phrase + " ", limit)
        return list(dict.fromkeys(filter(None, (default_below(codebook, hit.code) for hit in hits))))

    return ask


def main(argv: list[str] | None = None) -> int:
    """Print recall at RANKS, in percent, of each text for each source; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m study.retrieval", description="Recall of the retrieval.")
    parser.add_argument("--documents", action="append", default=[], help="coded documents with evidence, JSON Lines")
    parser.add_argument("--mdace", default="", help="MDACE's data folder, for its descriptions")
    parser.add_argument("--no-search", action="store_true", help="leave the coder's search out")
    options = parser.parse_args(argv)
    codebook = CodeBook.load()
    sources = {"CodiEsp dev, evidence": evidence_pairs(codiesp("dev", codebook), codebook)}
    for path in options.documents:
        sources[Path(path).name] = evidence_pairs(read_documents(path, codebook), codebook)
    if options.mdace:
        sources["MDACE, descriptions"] = mdace_descriptions(Path(options.mdace), codebook)
    rankings: dict[str, Ask] = {"BM25": Retriever(codebook).codes}
    if not options.no_search:
        rankings["search"] = search_codes(Search(codebook), codebook)
    print(f"{'recall of the code (of its category), %':<40}" + "".join(f"{f'@{k}':>14}" for k in RANKS))
    for source, pairs in sources.items():
        for name, ask in rankings.items():
            cells = [f"{100 * exact:.1f} ({100 * category:.1f})" for exact, category in recall(pairs, ask).values()]
            label = f"{source}: {len(pairs):,} pairs, {name}"
            print(f"{label:<40}" + "".join(f"{cell:>14}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    run_command(main)
