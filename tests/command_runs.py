"""A folder of invented inputs for every command, notes with the phrase MARK in them, and the commands' arguments.

RUNS: name → (command, arguments, outputs that may have text of notes). They are run in this order, since some read what
an earlier one wrote; BAD_RUNS are refused. Used by test_privacy.py.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from minscl import evaluate, expand, export, generate, review, train
from minscl.data.jsonl import write_jsonl
from minscl.data.types import Assignment, CodedDocument, Evidence, Note, Pair
from tests.fuzz import corpora
from tests.tiny_training import SETTINGS

MARK = "zebra-quince-4711"
NOTE = f"Seen for hypertension. {MARK}. Pneumonia, treated."
MODEL = ("--model", "model")  # the tiny model of the fixture training_folder, whose adapter is trained by a run
SHORT = ("--epochs", "1", "--max-length", "256", "--pack-length", "256", "--device", "cpu", "--save-every", "1")
SOME = [f"--{name.replace('_', '-')}={SETTINGS[name]}" for name in ("lr", "seed")]
HEAD = ("--system", "plm-icd", *MODEL)


@dataclass(frozen=True)
class Run:
    """`command`: the module; `notes_in`: patterns of the outputs that may have text of notes. `is_long`: seconds."""

    command: object
    arguments: tuple[str, ...]
    notes_in: tuple[str, ...] = ()
    is_long: bool = False


def run(command, line: str, *more, notes_in=(), is_long=False) -> Run:
    """A Run from the words of `line` and `more`."""
    return Run(command, (*line.split(), *more), notes_in, is_long)


RUNS = {
    "generate": run(generate, "note.txt"),
    "generate --json": run(generate, "notes.jsonl --free --no-calibration --json"),
    "generate --html --out": run(
        generate, "note.txt --html page.html --out coded.jsonl", notes_in=("page.html", "coded.jsonl")
    ),
    "generate --out, resumed": run(generate, "note.txt --out coded.jsonl", notes_in=("coded.jsonl",)),
    "generate --evidence": run(
        generate, "note.txt --evidence evidence.txt --out evidenced.jsonl", notes_in=("evidenced.jsonl",)
    ),
    "generate --system lookup": run(
        generate, "note.txt --system lookup --documents gold.jsonl --out lookup.jsonl", notes_in=("lookup.jsonl",)
    ),
    "generate --system sft": run(
        generate, "note.txt --system sft --adapter none --out sft.jsonl", notes_in=("sft.jsonl",), is_long=True
    ),
    "generate --system cot": run(
        generate, "note.txt --system cot --out cot.jsonl", notes_in=("cot.jsonl",), is_long=True
    ),
    "generate --system cot-sc": run(
        generate, "note.txt --system cot-sc --chains 2 --out sc.jsonl", notes_in=("sc.jsonl",), is_long=True
    ),
    "generate --system clh": run(
        generate, "note.txt --system clh --out clh.jsonl", notes_in=("clh.jsonl",), is_long=True
    ),
    "generate --system mac --verify": run(
        generate, "note.txt --system mac --verify --out mac.jsonl", notes_in=("mac.jsonl",), is_long=True
    ),
    "train --dry-run": run(
        train, "--documents gold.jsonl --spans spans.jsonl --out dry --dry-run", *MODEL, *SHORT, is_long=True
    ),
    "train": run(train, "--documents gold.jsonl --spans spans.jsonl --out run", *MODEL, *SHORT, *SOME),
    "train --resume": run(
        train, "--documents gold.jsonl --spans spans.jsonl --out run --resume", *MODEL, *SHORT, *SOME
    ),
    "train --system plm-icd": run(
        train, "--documents gold.jsonl --validate dev.jsonl --out head --window 16 --epochs 1", *HEAD, "--device=cpu"
    ),
    "generate --system plm-icd": run(
        generate, "note.txt --heads head --min-score 0 --out plm.jsonl", *HEAD, notes_in=("plm.jsonl",)
    ),
    "export": run(export, "--adapter run --out merged", *MODEL),
    "evaluate": run(evaluate, "--gold gold.jsonl --pred pred.jsonl --train gold.jsonl --spans spans.jsonl --rounds 10"),
    "evaluate --json --plot": run(
        evaluate, "--gold gold.jsonl --pred pred.jsonl --json --rounds 0 --plot scores.svg", is_long=True
    ),
    "expand coverage": run(expand, "coverage spans.jsonl --plot coverage.svg"),
    "expand edition": run(expand, "edition", is_long=True),
    "expand lookup": run(expand, "lookup hypertension", is_long=True),
    "expand gold": run(expand, "gold --out gold_spans.jsonl", is_long=True),
    "expand official": run(expand, "official 2027.zip --out edition", is_long=True),
    "expand synthetic": run(
        expand,
        "synthetic --pairs spans.jsonl --template --out synthetic.jsonl",
        notes_in=("synthetic.jsonl",),
        is_long=True,
    ),
    "expand silver": run(expand, "silver --notes gold.jsonl --out silver.jsonl", notes_in=("silver*",), is_long=True),
    "expand documents mdace": run(
        expand,
        "documents mdace --mdace mdace --noteevents NOTEEVENTS.csv.gz --out mdace.jsonl",
        notes_in=("mdace.jsonl",),
    ),
    "expand documents mimic-iv": run(
        expand,
        "documents mimic-iv --discharge discharge.csv --diagnoses diagnoses_icd.csv.gz --out mimic.jsonl",
        notes_in=("mimic.jsonl",),
    ),
    "expand documents codiesp": run(
        expand, "documents codiesp codiesp.zip --split train --out codiesp.jsonl", notes_in=("codiesp.jsonl",)
    ),
    "expand documents aci-bench": run(
        expand, "documents aci-bench --notes notes.csv --codes codes.tsv --out aci.jsonl", notes_in=("aci.jsonl",)
    ),
    "expand notes codiesp": run(
        expand, "notes codiesp codiesp --split train --language en --out texts.jsonl", notes_in=("texts.jsonl",)
    ),
    "expand notes aci-bench": run(
        expand, "notes aci-bench --notes notes.csv --out aci_notes.jsonl", notes_in=("aci_notes.jsonl",)
    ),
    "expand notes documents": run(
        expand, "notes documents --documents gold.jsonl --out plain.jsonl", notes_in=("plain.jsonl",)
    ),
    "expand notes folder": run(expand, "notes folder --folder texts --out folder.jsonl", notes_in=("folder.jsonl",)),
}


def write_inputs(folder: Path, model: Path) -> None:
    """Everything that RUNS and BAD_RUNS read, in `folder`; `model` is the tiny model."""
    (folder / "model").symlink_to(model)
    (folder / "note.txt").write_text(NOTE)
    (folder / "evidence.txt").write_text("hypertension\nPneumonia\n")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text(NOTE)
    write_jsonl(folder / "notes.jsonl", [Note("a", NOTE), Note("b", f"No fever. {MARK}.")])
    place = NOTE.index("hypertension")
    evidence = (Evidence("hypertension", place, place + len("hypertension")),)
    gold = [
        CodedDocument("a", NOTE, (Assignment("I10", "Essential (primary) hypertension", evidence),)),
        CodedDocument("b", f"Pneumonia. {MARK}.", (Assignment("J18.9", "Pneumonia, unspecified organism"),)),
    ]
    write_jsonl(folder / "gold.jsonl", gold)
    held_out = (Assignment("I10", "Essential (primary) hypertension"),)
    write_jsonl(folder / "dev.jsonl", [CodedDocument("c", f"Known hypertension. {MARK}.", held_out)])
    write_jsonl(folder / "pred.jsonl", [dataclasses.replace(document, output=MARK) for document in gold])
    write_jsonl(folder / "spans.jsonl", [Pair(f"high pressure {MARK}", "I10", "silver", 2, "notes: a")])
    for write in (corpora.write_mimic_iv, corpora.write_mdace, corpora.write_aci_bench, corpora.write_codiesp):
        part = folder / "parts" / write.__name__
        part.mkdir(parents=True)
        write(part)
        for path in part.iterdir():
            if not (folder / path.name).exists():
                path.rename(folder / path.name)
    write_bad_inputs(folder)


BAD_RECORDS = {  # lines of JSON Lines with the phrase where a message might show it
    "broken": '{"id": "a", "text": "MARK',
    "key": '{"id": "a", "text": "x", "MARK of the note": 1}',
    "type": '{"id": ["MARK"], "text": "x", "codes": []}',
    "evidence": '{"id": "a", "text": "x MARK y", "codes": [{"code": "I10", "description": "", '
    '"evidence": [{"text": "MARK y", "start": 0, "end": 6}]}]}',
    "code": '{"id": "a", "text": "x", "codes": [{"code": "MARK is no code", "description": "", "evidence": []}]}',
    "twice": '{"id": "MARK of the note", "text": "MARK", "codes": []}\n'
    '{"id": "MARK of the note", "text": "x", "codes": []}',
}
BAD_FILES = {
    "zero.txt": "MARK\0",
    "latin.txt": "MARK caf\u00e9",
    "notes.json": '{"text": "MARK"}',
    "evidence_bad.jsonl": json.dumps({"id": "note.txt", "text": "MARK of another note", "codes": []}),
    "spans_bad.jsonl": '{"evidence": "MARK", "code": "MARK no code", "source": "gold"}',
    "samples_bad.jsonl": '{"prompt": "MARK", "target": 7, "kind": "span"}',
    "header.csv": 'MARK of a note,"x\ny"\n1,2\n',
    "cells.csv": 'note_id,subject_id,hadm_id,text\n1,MARK of a note,3,"MARK"\n',
    "open.csv": 'ROW_ID,HADM_ID,TEXT\n1,2,"MARK, and the mark is not closed\n3,4,"x" y\n',
    "codes_bad.tsv": "D2N1\tMARK no code\n",
}


def write_bad_inputs(folder: Path) -> None:
    """The files that BAD_RUNS read."""
    for name, text in BAD_RECORDS.items():
        (folder / f"{name}.jsonl").write_text(text.replace("MARK", MARK) + "\n")
    for name, text in BAD_FILES.items():
        encoding = "latin-1" if name == "latin.txt" else "utf-8"
        (folder / name).write_bytes(text.replace("MARK", MARK).encode(encoding))


OUT = ("--out", "never.jsonl")
BAD_RUNS = [
    *((generate, f"{name}.jsonl", *OUT) for name in ("broken", "key", "type", "twice")),
    *((generate, name, *OUT) for name in ("zero.txt", "latin.txt", "notes.json")),
    *((generate, "note.txt", "--evidence", name, *OUT) for name in ("evidence_bad.jsonl", "broken.jsonl", "zero.txt")),
    *((generate, "note.txt", "--system", "lookup", "--documents", f"{name}.jsonl", *OUT) for name in BAD_RECORDS),
    *((train, *MODEL, "--documents", f"{name}.jsonl", "--out", "never") for name in BAD_RECORDS),
    (train, *MODEL, "--spans", "spans_bad.jsonl", "--documents", "gold.jsonl", "--out", "never"),
    (train, *MODEL, "--samples", "samples_bad.jsonl", "--out", "never"),
    *((evaluate, "--gold", f"{name}.jsonl", "--pred", "pred.jsonl") for name in ("broken", "evidence")),
    *((evaluate, "--gold", "gold.jsonl", "--pred", f"{name}.jsonl") for name in ("type", "twice")),
    *((review, f"{name}.jsonl", "--out", "never") for name in ("broken", "key", "type", "evidence", "twice")),
    *((expand, "silver", "--notes", f"{name}.jsonl", *OUT) for name in BAD_RECORDS),
    (expand, "coverage", "spans_bad.jsonl"),
    (expand, "synthetic", "--template", "--pairs", "spans_bad.jsonl", *OUT),
    *(
        (expand, "notes", "documents", "--documents", f"{name}.jsonl", *OUT)
        for name in ("broken", "key", "type", "twice")
    ),
    *(
        (expand, "documents", "mimic-iv", "--discharge", name, "--diagnoses", "diagnoses_icd.csv.gz", *OUT)
        for name in ("header.csv", "cells.csv", "open.csv", "latin.txt")
    ),
    *(
        (expand, "documents", "mdace", "--mdace", "mdace", "--noteevents", name, *OUT)
        for name in ("header.csv", "cells.csv", "open.csv", "latin.txt")
    ),
    (expand, "documents", "aci-bench", "--notes", "notes.csv", "--codes", "codes_bad.tsv", *OUT),
    *((expand, "notes", "aci-bench", "--notes", name, *OUT) for name in ("header.csv", "open.csv", "key.jsonl")),
]
