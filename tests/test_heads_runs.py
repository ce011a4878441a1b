"""Heads trained, saved, resumed and used: the commands, their files and their errors."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from minscl import generate as generate_command
from minscl.config import parse_run
from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument, Note, Pair
from minscl.errors import InputError
from minscl.heads import knowledge
from minscl.heads.flags import HeadChoice
from minscl.heads.folder import load_head, read_head_settings
from minscl.heads.predict import code_with_head, load_coder
from minscl.heads.train import cross_entropy, train_head
from tests.conftest import call_command
from tests.tiny_heads import DOCUMENTS, LABELS, head_config, write_documents
from tests.tiny_training import metrics, train_here

pytestmark = pytest.mark.usefixtures("fast_measurement")
FILES = ("head.safetensors", "head.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    """Four label-only coded documents."""
    return write_documents(tmp_path_factory.mktemp("documents") / "train.jsonl")


@pytest.fixture(scope="module")
def trained(training_folder, documents, fast_measurement, tmp_path_factory):
    """A plm-icd head that nothing interrupted, trained until it knows its four notes. Copy it to change it."""
    out = tmp_path_factory.mktemp("run") / "plm-icd"
    return train_head(head_config(training_folder, out, documents, epochs=40, lr=2e-2, batch_size=4))


def load(folder, trained, **changes):
    system = json.loads((trained / "head.json").read_text())["system"]
    return load_coder(HeadChoice(str(trained), str(folder), system, **changes), "cpu")


def notes_of(documents=DOCUMENTS):
    return [Note(name, text) for name, text, _ in documents]


def codes_of(documents):
    return [tuple(sorted(item.code for item in document.codes)) for document in documents]


def test_an_overfitted_batch(trained, training_folder):
    """Guards: a head or a decoder that does not learn, a threshold that is not used, codes of another row."""
    losses = [record["loss"] for record in metrics(trained)]
    assert losses[0] > 0.3 and losses[-1] < 0.01
    coder = load(training_folder, trained)
    assert 0.02 < coder.threshold < 1
    coded = list(code_with_head(coder, notes_of(), CodeBook.load()))
    assert codes_of(coded) == [codes for _, _, codes in DOCUMENTS]
    assert all(item.score >= coder.threshold for document in coded for item in document.codes)
    all_codes = list(code_with_head(load(training_folder, trained, min_score=0.0), notes_of(), CodeBook.load()))
    assert codes_of(all_codes) == [LABELS] * 4


@pytest.mark.long
@pytest.mark.parametrize("system", ["plm-ca", "gki-icd"])
def test_the_other_heads_overfit_too(system, training_folder, documents, tmp_path, monkeypatch):
    """Guards: a head that trains in one form only; guidance, its own loss and its first queries among them."""
    monkeypatch.setattr(knowledge, "gold_pairs", lambda book: [Pair("high blood pressure", "I10", "gold")])
    config = head_config(
        training_folder,
        tmp_path / system,
        documents,
        system=system,
        bidirectional=system == "plm-ca",
        epochs=60,
        lr=1e-2,
        batch_size=4,
    )
    out = train_head(config)
    coder = load(training_folder, out)
    coded = list(code_with_head(coder, notes_of(), CodeBook.load()))
    assert codes_of(coded) == [codes for _, _, codes in DOCUMENTS]
    notes = [(coder.tokenizer.encode(text), [LABELS.index(code) for code in codes]) for _, text, codes in DOCUMENTS]
    with torch.no_grad():  # without gki-icd's consistency term
        losses = [cross_entropy(coder.model(ids).logits, torch.tensor(rows, dtype=torch.int64)) for ids, rows in notes]
    assert sum(losses) / len(losses) < 0.01
    assert coder.attribution == {"plm-ca": "attingrad", "gki-icd": "attention"}[system]
    for document in coded:
        for item in document.codes:
            assert item.evidence and item.description
            CodedDocument.from_dict(document.to_dict())  # checks the offsets


def test_a_saved_head_is_the_trained_one(trained):
    """Guards: tensors in another dtype or order, labels that do not fit the rows, settings lost."""
    settings = read_head_settings(trained)
    assert settings.labels == LABELS and settings.window == 16 and not settings.bidirectional
    assert settings.validation_notes == 4 and settings.validation_f1 == 1.0
    state = load_head(trained, settings).state_dict()
    newest = sorted((trained / "checkpoints").iterdir())[-1]
    checkpoint = load_file(newest / "state.safetensors")
    assert all(torch.equal(state[name], checkpoint[f"parameter.head.{name}"]) for name in state)


def test_a_stopped_run_ends_as_if_it_had_not_been(training_folder, documents, tmp_path, monkeypatch):
    """Guards: the head's optimiser state lost, guidance drawn anew, a step repeated or skipped by --resume."""
    monkeypatch.setattr(knowledge, "gold_pairs", lambda book: [Pair("high blood pressure", "I10", "gold")])
    changes = dict(system="gki-icd", dropout=0.1, save_every=3, epochs=6)
    whole = train_head(head_config(training_folder, tmp_path / "whole", documents, **changes))
    config = head_config(training_folder, tmp_path / "stopped", documents, **changes)
    original, calls = torch.optim.AdamW.step, []

    def signal_at_step_5(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", signal_at_step_5)
        with pytest.raises(SystemExit) as exit:
            train_head(config)
    out = tmp_path / "stopped"
    assert exit.value.code == 130 and len(metrics(out)) == 5
    assert read_head_settings(out).threshold == 0.5  # of a run that has not ended, none was chosen
    train_head(dataclasses.replace(config, resume=True))
    assert [record["step"] for record in metrics(out)] == list(range(1, 13))
    assert [(out / name).read_bytes() for name in FILES] == [(whole / name).read_bytes() for name in FILES]


def test_a_head_is_not_resumed_with_other_codes(training_folder, documents, tmp_path):
    """Guards: weights that were trained for one code, named after another of the same place in the list."""
    config = head_config(training_folder, tmp_path / "run", documents, save_every=3)
    train_head(config)
    text = open(documents).read()  # noqa: SIM115
    other = tmp_path / "other.jsonl"
    other.write_text(text.replace('"I10"', '"I11.9"'))
    changed = dataclasses.replace(config, documents=str(other), resume=True)
    with pytest.raises(InputError, match="data was .*, now .*; resume with the same settings"):
        train_head(changed)


def test_evidence_is_in_the_note(trained, training_folder):
    """Guards: offsets into another text, evidence of another code, another answer at the second time."""
    note = Note("é", "Señora with hypertension. " + DOCUMENTS[2][1] * 4)  # several windows
    for attribution in ("attention", "attingrad"):
        coder = load(training_folder, trained, attribution=attribution, min_score=0.0)
        first, second = (list(code_with_head(coder, [note], CodeBook.load())) for _ in range(2))
        assert first == second and len(first[0].codes) == len(LABELS)
        for item in first[0].codes:
            assert 1 <= len(item.evidence) <= 3
            for quotation in item.evidence:
                assert note.text[quotation.start : quotation.end] == quotation.text and quotation.grounded
                assert quotation.text.strip() == quotation.text != ""


@pytest.mark.long
def test_the_commands(training_folder, documents, tmp_path):
    """Guards the whole way as a user goes it: trained by one process, used by another."""
    train = [sys.executable, "-m", "minscl.train", "--system", "plm-ca", "--model", training_folder, "--out", "heads"]
    held_out = head_config(training_folder, tmp_path, documents).validate
    train += ["--documents", documents, "--validate", held_out, "--epochs", "3", "--window", "16"]
    run = subprocess.run(map(str, train), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "4 documents" in run.stderr and "head after 3 of 3 steps" in run.stderr and "micro-F1" in run.stderr
    (tmp_path / "note.txt").write_text(DOCUMENTS[1][1])
    code = [sys.executable, "-m", "minscl.generate", "note.txt", "--system", "plm-ca", "--heads", "heads", "--json"]
    code += ["--model", training_folder, "--min-score", "0"]
    run = subprocess.run(map(str, code), cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    document = CodedDocument.from_dict(json.loads(run.stdout))
    assert {item.code for item in document.codes} == set(LABELS)
    assert document.coded_with["system"] == "plm-ca" and document.coded_with["attribution"] == "attingrad"
    assert document.edition and all(item.rules is not None for item in document.codes)


def test_empty_notes_are_skipped_and_results_resumed(trained, training_folder, tmp_path):
    """Guards: a batch of notes lost for one that is empty; --out that mixes two heads' codes."""
    records = [*notes_of(), Note("empty", " \n")]
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps(note.to_dict()) + "\n" for note in records))
    flags = [
        "notes.jsonl",
        "--system",
        "plm-icd",
        "--heads",
        trained,
        "--model",
        training_folder,
        "--out",
        "coded.jsonl",
    ]
    run = call_command(generate_command.main, *flags, cwd=tmp_path)
    assert run.returncode == 2 and "empty" in run.stderr and "the others are coded" in run.stderr
    assert len((tmp_path / "coded.jsonl").read_text().splitlines()) == 4
    run = call_command(generate_command.main, *flags, "--attribution", "attingrad", cwd=tmp_path)
    assert run.returncode == 2 and "attribution" in run.stderr and run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--system", "plm-icd"], "--system plm-icd: needs a trained head; give --heads DIR"),
        (["--heads", "x"], "--heads: only --system plm-icd, plm-ca, gki-icd reads it"),
        (["--attribution", "attention"], "--attribution: only --system"),
        (["--system", "plm-ca", "--heads", "x", "--free"], "--system plm-ca --free: a head has no answer"),
        (["--system", "plm-ca", "--heads", "x", "--attribution", "lime"], "--attribution lime: use "),
        (["--system", "plm-ca", "--heads", "nowhere"], "nowhere/head.json: no such file"),
    ],
)
def test_bad_flags_of_generate_are_one_line(tmp_path, arguments, words):
    """Guards tracebacks, and a flag that is silently ignored."""
    (tmp_path / "note.txt").write_text("HTN")
    run = call_command(generate_command.main, "note.txt", *arguments, cwd=tmp_path)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1 and not run.stdout


def test_a_verified_head_says_which_model_verified(trained, training_folder, tmp_path):
    """Guards: --out that mixes codes which two adapters have verified, or a head that cannot be verified by another."""
    (tmp_path / "note.txt").write_text("HTN")
    flags = ["note.txt", "--system", "plm-icd", "--heads", trained, "--model", training_folder, "--verify", "--json"]
    run = call_command(generate_command.main, *flags, "--adapter", "none", "--min-score", "1", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    settings = json.loads(run.stdout)["coded_with"]
    assert (settings["adapter"], settings["verified"], settings["system"]) == ("none", "True", "plm-icd")


def broken_tensors(out):
    tensors = load_file(out / "head.safetensors")
    save_file(tensors | {"biases": tensors["biases"][:2].clone()}, out / "head.safetensors")


def change(**values):
    """Damage that changes values of head.json."""

    def damage(out):
        settings = json.loads((out / "head.json").read_text())
        (out / "head.json").write_text(json.dumps(settings | values))

    return damage


def not_finite(out):
    tensors = load_file(out / "head.safetensors")
    tensors["queries"][0, 0] = float("nan")
    save_file(tensors, out / "head.safetensors")


@pytest.mark.parametrize(
    "damage, words",
    [
        (broken_tensors, r"head.safetensors: tensor biases is \(2,\), head.json asks for \(4,\)"),
        (not_finite, "head.safetensors: tensor queries holds NaN"),
        (change(labels=["I10", "E11.9"]), "head.json: labels is a list of 2, but must be a list of codes, sorted"),
        (change(labels=["E11.9", "I10", "I50.9", "kidney"]), "head.json: labels is a list of 4, but must be a list of"),
        (change(labels=["E11.9", "I10"]), r"tensor queries is \(4, 64\), head.json asks for \(2, 64\)"),
        (change(hidden_size=10**6), r"tensor queries is \(4, 64\), head.json asks for \(4, 1000000\)"),
        (change(window=9999), "head.json: window 9999: the model's context holds 256 tokens"),
        (change(model="0" * 16), "was trained on another model than --model"),
        (lambda out: (out / "head.safetensors").write_bytes(b"half"), "head.safetensors: truncated or corrupt"),
    ],
)
def test_a_damaged_head_is_named(trained, training_folder, tmp_path, damage, words):
    """Guards: probabilities of other codes out of files that do not belong together."""
    out = shutil.copytree(trained, tmp_path / "head")
    damage(out)
    with pytest.raises(InputError, match=words):
        load(training_folder, out)


def test_a_head_of_another_system_is_refused(trained, training_folder):
    """Guards a head loaded as what it is not."""
    with pytest.raises(InputError, match="its head is of plm-icd; give --system plm-icd"):
        load_coder(HeadChoice(str(trained), str(training_folder), "plm-ca"), "cpu")


@pytest.mark.parametrize(
    "line, words",
    [
        ('{"id": "a", "text": "HTN"}', "bad.jsonl:2: .*codes"),
        ("{", "bad.jsonl:2: not JSON"),
        ('{"id": "z", "text": " ", "codes": []}', "record 2, .*the note is blank; drop the line"),
        ('{"id": "z", "text": "x", "codes": [{"code": "kidney", "description": "", "evidence": []}]}', "bad.jsonl:2: "),
    ],
)
@pytest.mark.parametrize("flag", ["documents", "validate"])
def test_bad_lines_are_named(training_folder, documents, tmp_path, line, words, flag):
    """Guards: a run that ends in a traceback, or skips a line and says nothing."""
    bad = tmp_path / "bad.jsonl"
    bad.write_text(documents.read_text().splitlines()[1] + "\n" + line + "\n")
    with pytest.raises(InputError, match=words):
        train_head(head_config(training_folder, tmp_path / "run", documents, **{flag: str(bad)}))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_trained_is_said(training_folder, documents, tmp_path, capsys):
    """Guards: flags of another system silently ignored, a finished head written over, a window beyond the context."""
    flags = ["--system", "plm-icd", "--model", training_folder, "--documents", documents, "--device", "cpu"]
    for more, words in [
        (["--spans", "x"], "--system plm-icd --spans: a head is trained on the codes of --documents"),
        (["--fsdp"], "--system plm-icd --fsdp"),
        (["--pack-length", "4096"], "--system plm-icd --pack-length: a head is trained"),
        (["--window", "9999"], "--window 9999: the model's context holds 256 tokens"),
        (["--validate", "nowhere.jsonl"], "--validate nowhere.jsonl: no such file"),
        (["--max-length", "3", "--window", "16"], "no document is left to train on (4 too long)"),
    ]:
        assert train_here(*flags, *more, "--out", tmp_path / "run") == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error
    assert parse_run(["--system", "plm-icd", "--max-length", "9999"]).max_length == 9999  # of a head, nothing is packed
    with pytest.raises(InputError, match="--window: only heads read it"):
        parse_run(["--window", "64"])
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "head.json").write_text("{}")
    assert train_here(*flags, "--out", tmp_path / "old") == 2
    assert "already has head.json" in capsys.readouterr().err


def test_a_frozen_decoder(trained, training_folder, documents, tmp_path):
    """Guards: --freeze that trains LoRA, states of another note or window, a resumed run that goes another way."""
    changes = dict(freeze=True, epochs=40, lr=2e-2, batch_size=4)
    out = train_head(head_config(training_folder, tmp_path / "frozen", documents, **changes))
    losses = [record["loss"] for record in metrics(out)]
    assert losses[0] == metrics(trained)[0]["loss"] and losses[-1] < losses[0] / 10
    adapter = load_file(out / "adapter_model.safetensors")
    assert all(not tensor.any() for name, tensor in adapter.items() if "lora_B" in name)
    coder = load(training_folder, out)
    assert codes_of(code_with_head(coder, notes_of(), CodeBook.load())) == [codes for _, _, codes in DOCUMENTS]
    with pytest.raises(InputError, match="freeze"):
        train_head(head_config(training_folder, out, documents, **changes | dict(freeze=False, resume=True)))
