"""The sub-commands of expand that read corpora: `documents` and `notes`.

Read next: data/corpora/, one module for each corpus.
"""

import sys

from minscl.cli import print_written, warn
from minscl.data.corpora.aci_bench import aci_documents, aci_notes
from minscl.data.corpora.counts import Counts
from minscl.data.corpora.folder import folder_notes
from minscl.data.corpora.mdace import read_mdace
from minscl.data.corpora.mimic_iv import mimic_iv_documents
from minscl.data.jsonl import read_jsonl, write_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.edition_flags import load_codebook
from minscl.expand_config import (
    AciDocumentsConfig,
    AciNotesConfig,
    DocumentNotesConfig,
    FolderConfig,
    MdaceConfig,
    MimicIVConfig,
)


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


def aci_bench(config: AciDocumentsConfig) -> None:
    """Write ACI-Bench's documents without evidence."""
    counts = Counts()
    write_corpus(
        config.out, aci_documents(aci_notes(config.notes), config.codes, load_codebook(config), counts), counts
    )


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
    """Write `records`, then print the counts on stdout and the warnings on stderr."""
    if not write_jsonl(out, records):
        counts.warnings.append(f"{out} is empty: nothing was left to write; see the counts for the reason")
    for line in counts.warnings:
        warn(line)
    print_written(out, counts.numbers.items())
