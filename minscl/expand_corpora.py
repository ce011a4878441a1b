"""The part of `expand` that reads real corpora: documents with or without evidence, and bare notes.

Read next: data/corpora.py (MDACE + MIMIC-III), data/labels.py (MIMIC-IV, ACI-Bench).
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from minscl.cli import flag, format_counts, path_flag
from minscl.data.corpora.mdace import CATEGORIES, LEAKS, SETS, SPLITS, Counts, mdace
from minscl.data.corpora.mimic_iv import aci_documents, aci_notes, mimic_iv_documents
from minscl.data.icd import CodeBook
from minscl.data.jsonl import read_jsonl, read_text, write_jsonl
from minscl.data.types import CodedDocument, Note
from minscl.errors import InputError


@dataclass(frozen=True)
class MdaceConfig:
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
    discharge: str = path_flag("MIMIC-IV-Note's discharge.csv.gz")
    diagnoses: str = path_flag("MIMIC-IV's hosp/diagnoses_icd.csv.gz")
    out: str = path_flag("label-only documents to write, JSON Lines")
    split: str = flag("train", "split, by patient", choices=SPLITS)


@dataclass(frozen=True)
class AciNotesConfig:
    notes: str = path_flag("ACI-Bench's .csv, or .jsonl with id and note")
    out: str = path_flag("JSON Lines to write")


@dataclass(frozen=True)
class AciDocumentsConfig(AciNotesConfig):
    codes: str = path_flag("CSV with the columns id,code, one code a row: the codes of Yuan et al. (2025)")


@dataclass(frozen=True)
class TextsConfig:
    documents: str = path_flag("coded documents, JSON Lines, whose codes are taken off")
    out: str = path_flag("notes to write, JSON Lines")


@dataclass(frozen=True)
class FolderConfig:
    folder: str = path_flag("folder whose .txt files, at any depth, are one note each")
    out: str = path_flag("notes to write, JSON Lines")


def write_corpus(out: str, records, counts: Counts) -> None:
    """Write `records`, then say on stdout what was counted and on stderr what a person should know."""
    if not write_jsonl(out, records):
        counts.warnings.append(f"{out} is empty: nothing was left to write; the counts say where it went")
    for line in counts.warnings:
        print(f"minscl: warning: {line}", file=sys.stderr)
    print(format_counts(counts.numbers.items()))
    print(f"written to {out}", file=sys.stderr)


def mdace_documents(config: MdaceConfig) -> None:
    documents, counts = mdace(
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
    counts = Counts()
    write_corpus(
        config.out,
        mimic_iv_documents(config.discharge, config.diagnoses, config.split, CodeBook.load(), counts),
        counts,
    )
    print(
        "minscl: MIMIC-III's and MIMIC-IV's patients may coincide, and no id tells: a test on MDACE after training on MIMIC-IV may see a patient again",
        file=sys.stderr,
    )


def aci_bench(config: AciDocumentsConfig) -> None:
    counts = Counts()
    write_corpus(config.out, aci_documents(aci_notes(config.notes), config.codes, CodeBook.load(), counts), counts)


def write_notes(out: str, notes) -> None:
    counts = Counts()
    notes = list(notes)
    counts.numbers["notes written"] = len(notes)
    write_corpus(out, notes, counts)


def folder_notes(folder: str) -> list[Note]:
    """The .txt files in order of path, each text exactly as it stands; the id is the path within the folder, without .txt."""
    paths = sorted(Path(folder).rglob("*.txt"))
    if not paths:
        raise InputError(f"--folder {folder}: no .txt file in there; name a folder with one text file a note")
    return [Note(path.relative_to(folder).with_suffix("").as_posix(), read_text(path)) for path in paths]


CORPORA = {  # words of the command line → (help, flags, what is done)
    ("documents", "mdace"): ("MDACE + MIMIC-III: codes with evidence", MdaceConfig, mdace_documents),
    ("documents", "mimic-iv"): ("MIMIC-IV: codes alone", MimicIVConfig, mimic_iv),
    ("documents", "aci-bench"): ("ACI-Bench with the codes of Yuan et al.", AciDocumentsConfig, aci_bench),
    ("notes", "aci-bench"): (
        "ACI-Bench",
        AciNotesConfig,
        lambda config: write_notes(config.out, aci_notes(config.notes)),
    ),
    ("notes", "documents"): (
        "coded documents without their codes",
        TextsConfig,
        lambda config: write_notes(
            config.out, (Note(one.id, one.text) for one in read_jsonl(config.documents, CodedDocument))
        ),
    ),
    ("notes", "folder"): (
        "a folder of .txt files",
        FolderConfig,
        lambda config: write_notes(config.out, folder_notes(config.folder)),
    ),
}
