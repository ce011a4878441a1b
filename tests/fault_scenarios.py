"""What test_faults.py lets fail: every way in which minscl writes, on inputs so small that it takes milliseconds."""

import contextlib
import datetime
import errno
import functools
import gzip
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from minscl import disk, expand, export, generate
from minscl.data import Pair
from minscl.data.calibration import Calibration, read_calibrations, write_calibration
from minscl.data.icd.editions import read_edition
from minscl.data.icd.official.folder import write_edition
from minscl.data.icd.parse_edition import parse_edition
from minscl.data.jsonl import read_jsonl
from minscl.data.types import CodedDocument
from minscl.infer import compiled_file
from minscl.model import load, load_model, save_model
from minscl.page.journal import ReviewFolder
from minscl.training.run import train_adapter
from tests.fault_points import Scenario
from tests.fault_training import head, replaced, training, validated
from tests.official_archives import SMALL_TABULAR
from tests.review_process import CODED, NOTE, entry
from tests.test_gguf import write_folder
from tests.test_silver import NOTES, Scripted
from tests.tiny_training import run_config

DATES = datetime.date(2026, 10, 1), datetime.date(2027, 9, 30)


# ---- models


def model_export(folder, tmp_path, shards=False) -> Scenario:
    """`export` into a new folder. A kill leaves what its message says to remove: no config.json, so no model."""

    def run(root, acknowledge):
        with replaced(load, "SHARD_BYTES", 10**5 if shards else 10**9):
            settings = {"model": str(folder), "adapter": str(tmp_path / "adapter"), "out": str(root / "merged")}
            export.export(export.ExportConfig(**settings))

    def go_on(root):
        if not (root / "merged" / "config.json").exists():
            shutil.rmtree(root / "merged", ignore_errors=True)
        if not (root / "merged").exists():
            run(root, None)

    def check(root, acknowledged):
        if (root / "merged" / "config.json").exists():
            load_model(root / "merged")

    if not (tmp_path / "adapter").exists():
        train_adapter(run_config(folder, tmp_path / "adapter", epochs=1))
    return Scenario(run, go_on=go_on, check=check)


def gguf_export(folder, tmp_path) -> Scenario:
    """`export --gguf`. The package writes the temporary file by itself; a kill is as for model_export."""
    model = write_folder(tmp_path / "gguf")

    def run(root, acknowledge):
        settings = {"model": str(model), "adapter": "none", "out": str(root / "merged"), "gguf": True}
        export.export(export.ExportConfig(**settings))

    def go_on(root):
        if not (root / "merged" / "model.gguf").exists():
            shutil.rmtree(root / "merged", ignore_errors=True)
            run(root, None)

    return Scenario(run, go_on=go_on)


def model_over_another(folder, tmp_path, shards=False) -> Scenario:
    """A model saved over an earlier one of its shape."""
    before, after = load_model(folder), load_model(folder)
    with torch.no_grad():
        for parameter in after.parameters():
            parameter.add_(1.0)

    def save(root, model, shards):
        with replaced(load, "SHARD_BYTES", 10**5 if shards else 10**9):
            save_model(model, root / "model")

    def check(root, acknowledged):
        weights = load_model(root / "model").lm_head.weight
        assert any(torch.equal(weights, model.lm_head.weight) for model in (before, after))

    def comparable(name, content):  # a second save finds names in use and takes others
        return re.sub(rb"model-\d-", b"model-", content)

    def go_on(root):
        save(root, after, False)
        save(root, after, shards)

    return Scenario(
        lambda root, acknowledge: go_on(root) if shards else save(root, after, False),
        prepare=lambda root: save(root, before, not shards),
        go_on=go_on,
        check=check,
        normalise=comparable,
    )


# ---- jobs that append


def coding(folder, tmp_path) -> Scenario:
    """`generate --out --html` with the lookup system."""
    notes, pairs = tmp_path / "notes.jsonl", tmp_path / "pairs.jsonl"
    notes.write_text("".join(json.dumps({"id": str(number), "text": NOTE}) + "\n" for number in range(3)))
    pairs.write_text(json.dumps({"evidence": "hypertension", "code": "I10", "source": "gold"}) + "\n")

    def page(documents, codebook, about):
        return json.dumps([document.to_dict() for document in documents])

    def run(root, acknowledge):
        files = ["--spans", pairs, "--out", root / "new" / "coded.jsonl", "--html", root / "page.html"]
        with replaced(generate, "page_html", page):
            assert generate.main([str(notes), "--system", "lookup", *map(str, files)]) == 0

    return Scenario(run, prepare=lambda root: (root / "page.html").write_text("earlier"))


def silver(folder, tmp_path) -> Scenario:
    """`expand silver`: the logs of both stages, then the pairs; a logged answer is not asked for again."""

    class Model(Scripted):
        def token_counts(self):
            return []

    documents = tmp_path / "labels.jsonl"
    documents.write_text("".join(json.dumps(document.to_dict()) + "\n" for document in NOTES))

    def run(root, acknowledge):
        with replaced(expand, "load_llm", lambda config: Model()):
            expand.main(["silver", "--notes", str(documents), "--out", str(root / "silver.jsonl")])

    return Scenario(run)


def gold(folder, tmp_path) -> Scenario:
    """`expand gold` over an earlier file, with pairs that are read in no time."""

    class Counts:
        def rows(self, total):
            return []

    def run(root, acknowledge):
        pairs = [Pair("high blood pressure", "I10", "gold"), Pair("HTN", "I10", "gold")]
        with replaced(expand, "read_gold", lambda codebook, tables: (pairs, Counts())):
            expand.main(["gold", "--out", str(root / "gold.jsonl")])

    return Scenario(run, prepare=lambda root: (root / "gold.jsonl").write_text("earlier"))


def review(folder, tmp_path) -> Scenario:
    """A review: three decisions, two of which finish a document. What the coder was told is kept is there."""
    documents = [CodedDocument.from_dict({"id": name, "text": NOTE, "codes": [CODED]}) for name in "ab"]
    steps = [("a", 1, None), ("a", 2, documents[0]), ("b", 3, documents[1])]

    def run(root, acknowledge):
        with ReviewFolder(root / "review", documents) as kept:
            for name, number, reviewed in steps:
                record = entry(number, name)
                if record["entry"] not in {item.entry for item in kept.entries(name)} or reviewed:
                    arguments = kept.check(name, [record], reviewed and reviewed.to_dict())
                    last = [item.entry for item in kept.entries(name) if item.entry != record["entry"]]
                    kept.keep(name, *arguments, after=last[-1] if last else None)
                acknowledge((record["entry"], reviewed and name))

    def check(root, acknowledged):
        entries, finished = {decision for decision, _ in acknowledged}, {name for _, name in acknowledged if name}
        with ReviewFolder(root / "review", documents) as kept:
            assert entries <= {item.entry for item in kept.entries()}, "a decision that was kept is lost"
        path = root / "review" / "reviewed.jsonl"
        names = {document.id for document in read_jsonl(path, CodedDocument)} if path.exists() else set()
        assert finished <= names, "a finished document is lost"

    return Scenario(run, check=check)


# ---- files and folders that are replaced


def edition(folder, tmp_path, exists=False, exchange=True) -> Scenario:
    """`expand official`: the folder of an edition, new or over another; `exchange`: two folders can exchange names."""

    def refuse(path, target):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def write(root, content):
        files = {"tabular": ("tabular.xml.gz", content, gzip.compress(content.encode(), mtime=0))}
        with contextlib.nullcontext() if exchange else replaced(disk, "exchange", refuse):
            write_edition(str(root / "edition"), "2027", DATES, "", files)

    def check(root, acknowledged):
        if (root / "edition").exists():
            assert read_edition(root / "edition").read("tabular").decode() in ("before", "after")
        elif not exchange:  # another run has set it aside, and the next puts it back
            assert read_edition(root / ".minscl-edition.previous").read("tabular") == b"before"
        else:
            assert not exists, "the earlier edition is lost"

    return Scenario(
        lambda root, acknowledge: write(root, "after"),
        prepare=(lambda root: write(root, "before")) if exists else lambda root: None,
        check=check,
    )


def cache(folder, tmp_path) -> Scenario:
    """The parsed edition in the cache folder, whose faults no run notices."""
    write_edition(
        str(tmp_path / "edition"), "2027", DATES, "", {"tabular": ("t.gz", "", gzip.compress(SMALL_TABULAR, mtime=0))}
    )
    parsed = functools.partial(parse_edition, read_edition(tmp_path / "edition"))

    def run(root, acknowledge):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
            assert len(parsed()["billable"]) == 3

    return Scenario(run)


def compiled_step(folder, tmp_path) -> Scenario:
    """The compiled step in the cache folder, over a damaged one: what is loaded is always what was compiled."""
    compiled = b"compiled code"

    def run(root, acknowledge):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
            patch.setattr(compiled_file, "compile_package", lambda *arguments: arguments[-1].write_bytes(compiled))
            patch.setattr(compiled_file, "open_package", Path.read_bytes)
            assert compiled_file.read_or_compile("digest", torch.nn.Identity(), (), (), True) == compiled

    def prepare(root):
        run(root, None)
        path = root / "cache" / "minscl" / "compiled" / "step-digest.pt2"
        path.write_bytes(path.read_bytes()[:-1] + b"E")

    return Scenario(run, prepare=prepare)


def calibration(folder, tmp_path) -> Scenario:
    """`evaluate --calibrate`: an entry beside another in calibration.json."""
    fitted = [Calibration(((0.0, 0.0), (1.0, top)), 0.2, "dev.jsonl", 2, 9) for top in (0.5, 0.75)]

    def check(root, acknowledged):
        assert read_calibrations(root)["free"] == fitted[0], "the other entry is lost"

    return Scenario(
        lambda root, acknowledge: write_calibration(root, "grounded", fitted[1]),
        prepare=lambda root: write_calibration(root, "free", fitted[0]),
        check=check,
    )


SCENARIOS = {
    "training": training,
    "training resumed": functools.partial(training, stopped=True),
    "training validated": validated,
    "head": head,
    "head resumed": functools.partial(head, stopped=True),
    "export": model_export,
    "export in shards": functools.partial(model_export, shards=True),
    "export --gguf": gguf_export,
    "model over shards": model_over_another,
    "shards over a model": functools.partial(model_over_another, shards=True),
    "generate --out --html": coding,
    "expand silver": silver,
    "expand gold": gold,
    "review": review,
    "edition": edition,
    "edition over another": functools.partial(edition, exists=True),
    "edition over another, no exchange": functools.partial(edition, exists=True, exchange=False),
    "cache": cache,
    "compiled step": compiled_step,
    "calibration": calibration,
}
