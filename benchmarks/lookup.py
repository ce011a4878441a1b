"""Time of a search by words in the Alphabetic Index and the Tabular List, against a scan of the same lines.

    python -m benchmarks.lookup [--queries 500] [--write]

The queries: single letters and the commonest words, descriptions and Index lines whole, cut off and shuffled, pastes of
300 characters, codes. The scan, of as many of them as take a few seconds, looks for lines with all words and ranks
nothing.

Read next: minscl/data/icd/lookup/search.py.
"""

import argparse
import random
import resource
import statistics
import string
import time
from collections.abc import Callable

from benchmarks.report import provenance, write_section
from minscl.data.icd import CodeBook
from minscl.data.icd.lookup.entries import IndexEntry, read_entries
from minscl.data.icd.lookup.search import Search
from minscl.data.icd.lookup.words import compared_words

COMMON = (
    "of",
    "unspecified",
    "a",
    "the",
    "initial encounter",
    "other",
    "fracture",
    "left",
    "un",
    "co",
    "fracture a",
    "E",
)
SCANNED = 20  # queries


def draw_queries(book: CodeBook, entries: list[IndexEntry], number: int) -> list[str]:
    """`number` queries of all kinds; all calls draw the same."""
    rng = random.Random(0)
    queries = [*string.ascii_lowercase, *string.digits, *COMMON]
    texts = [book.description(code) or "" for code in rng.sample(book.billable, number)]
    words = " ".join(texts).split()
    while len(queries) < number:
        text, entry = rng.choice(texts), rng.choice(entries)
        shuffled = rng.sample(text.split(), len(text.split()))
        queries += [
            text,
            text[: rng.randint(1, len(text))],
            " ".join(shuffled),
            " ".join(entry.term.path),
            " ".join(rng.choices(words, k=rng.randint(1, 4))),
            " ".join(rng.choices(words, k=60))[:300],
            rng.choice(book.billable)[: rng.randint(2, 7)],
        ]
    return queries[:number]


def milliseconds(answer: Callable[[str], object], queries: list[str]) -> list[float]:
    """The time of each query, ascending."""
    times = []
    for query in queries:
        began = time.perf_counter()
        answer(query)
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times)


def main() -> None:
    """Build the search, time the queries and the scan; with --write put the result into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lookup", description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    book = CodeBook.load()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    entries = read_entries(book)
    read = time.perf_counter() - began
    search = Search(book, entries)
    built = time.perf_counter() - began - read
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    queries = draw_queries(book, entries, args.queries)
    lines = [" ".join(entry.term.path) for entry in entries]
    lines += [text for node in book.nodes for text in (book.description(node) or "", *book.inclusion_terms(node))]

    def scan(query: str) -> list[str]:
        words = compared_words(query)
        return [line for line in lines if words <= compared_words(line)]

    searched, scanned = milliseconds(search.search, queries), milliseconds(scan, queries[:: len(queries) // SCANNED])
    section = [
        provenance(),
        "",
        f"{len(entries):,} lines of the Index and its tables are read in {read:.1f} s; the search over them, "
        f"descriptions and inclusion terms, {len(lines):,} in all, is built in {built:.1f} s. "
        f"Both take {memory:.0f} MB at most.",
        "",
        "| ms a query | median | 95% | slowest |",
        "|---|---|---|---|",
        *(
            f"| {name} | {statistics.median(times):.1f} | {times[int(0.95 * len(times))]:.1f} | {times[-1]:.1f} |"
            for name, times in (
                (f"search, {len(searched)} queries", searched),
                (f"scan without ranking, {len(scanned)} of them", scanned),
            )
        ),
    ]
    print("\n".join(["", *section]))
    if args.write:
        write_section("Lookup", section)


if __name__ == "__main__":
    main()
