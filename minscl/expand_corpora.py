"""The sub-commands of expand that read corpora: `documents` and `notes`.

Read next: data/corpora/, one module for each corpus.
"""

import itertools
import sys

from minscl.command import format_counts, print_written, warn
from minscl.data.corpora.aci_bench import aci_documents, aci_notes
from minscl.data.corpora.codiesp import codiesp_documents, codiesp_notes
from minscl.data.corpora.codiesp_english import SHIPPED, codiesp_english_documents
from minscl.data.corpora.counts import Counts
from minscl.data.corpora.folder import folder_notes
from minscl.data.corpora.mdace import read_mdace
from minscl.data.corpora.mimic_iv import mimic_iv_documents
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.edition_flags import load_codebook
from minscl.errors import InputError
from minscl.expand_config import (
    AciDocumentsConfig,
    AciNotesConfig,
    CodiespDocumentsConfig,
    CodiespNotesConfig,
    DocumentNotesConfig,
    FolderConfig,
    MdaceConfig,
    MimicIVConfig,
)
from minscl.files import path_kind


def mdace(config: MdaceConfig) -> None:
    """Write MDACE's documents with evidence."""
    documents, counts = read_mdace(
        config.mdace,
        config.noteevents,
        load_codebook(config),
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
    documents = mimic_iv_documents(config.discharge, config.diagnoses, config.split, load_codebook(config), counts)
    write_corpus(config.out, documents, counts)
    print(
        "minscl: MIMIC-III and MIMIC-IV may share patients, and their ids cannot be matched: a test on MDACE "
        "after training on MIMIC-IV may contain patients of the training set",
        file=sys.stderr,
    )


def codiesp(config: CodiespDocumentsConfig) -> None:
    """Write CodiEsp's documents with evidence, in Spanish or English."""
    counts, codebook, [path] = Counts(), load_codebook(config), config.corpus
    if config.language == "es":
        documents = codiesp_documents(path, config.split, codebook, counts)
    else:
        if not config.evidence and path_kind(SHIPPED) != "file":
            raise InputError(
                "--evidence is missing: the English texts have no evidence of their own; clone the repository and name "
                "its study/resources/codiesp_en.jsonl.gz as --evidence"
            )
        documents = codiesp_english_documents(path, config.split, config.evidence or SHIPPED, codebook, counts)
    write_corpus(config.out, documents, counts)


def codiesp_texts(config: CodiespNotesConfig) -> None:
    """Write CodiEsp's texts."""
    write_notes(config.out, codiesp_notes(config.corpus[0], config.split, config.language))


def aci_bench(config: AciDocumentsConfig) -> None:
    """Write ACI-Bench's documents, with evidence where the codes have it."""
    counts = Counts()
    is_one_file = path_kind(config.codes) == "file"  # whose name may have commas
    tables = [config.codes] if is_one_file else [path.strip() for path in config.codes.split(",") if path.strip()]
    documents = aci_documents(aci_notes(config.notes), tables, load_codebook(config), counts)
    write_corpus(config.out, documents, counts)


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
    """Write notes without codes and print how many."""
    counts = Counts()
    counts.numbers["notes written"] = len(notes)
    write_corpus(out, notes, counts)


def write_corpus(out: str, records, counts: Counts) -> None:
    """Write `records`, then print the counts on stdout and the warnings on stderr.

    Raises InputError, and leaves `out` as it is, where there is none.
    """
    records = iter(records)
    first = list(itertools.islice(records, 1))
    if first:
        write_jsonl(out, itertools.chain(first, records))
    for line in counts.warnings:
        warn(line)
    if not first:
        print(format_counts(counts.numbers.items()))
        raise InputError(f"--out {out}: not written, since nothing was left to write; the counts say why")
    print_written(out, counts.numbers.items())
