"""Validation while a run trains: what it measures, the best adapter kept, patience, and nothing lost by a stop."""

import dataclasses
import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from minscl import train
from minscl.config import parse_run
from minscl.data.loss import masked_loss
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.heads.train import train_head
from minscl.infer import code_notes
from minscl.lora import add_lora, load_adapter, lora_parameters
from minscl.model import load_model, load_tokenizer
from minscl.score import code_scores, evidence_scores
from minscl.training import checkpoint, run, task, validation
from minscl.training.best import BestValidation
from minscl.training.distributed import ProcessGroup
from minscl.training.run import train_adapter
from minscl.training.validation import Counts, Stopped, Validation, check_held_out, read_held_out
from tests.tiny_heads import head_config, write_documents
from tests.tiny_training import metrics, run_config, run_flags, train_here

pytestmark = pytest.mark.usefixtures("fast_measurement")
DOCUMENTS = [
    {"id": "v1", "text": "Hypertension. Cough.", "codes": [("I10", "Essential (primary) hypertension", 0, 12)]},
    {"id": "v2", "text": "Seen for type 2 diabetes.", "codes": [("E11.9", "Type 2 diabetes mellitus", 9, 24)]},
]
SPANS = [("high blood pressure", "I10"), ("T2DM", "E11.9"), ("old MI", "I25.2")]
SECONDS = ("step_seconds", "elapsed_seconds", "peak_memory_bytes")


def write_held_out(path):
    """Write a file of two coded documents and three span pairs, mixed."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records()))


def records():
    """The records of that file."""
    for number, (evidence, code) in enumerate(SPANS):
        yield {"evidence": evidence, "code": code, "source": "gold", "count": 1, "origin": str(number)}
        if number < len(DOCUMENTS):
            document = DOCUMENTS[number]
            codes = [
                {
                    "code": code,
                    "description": description,
                    "evidence": [{"text": document["text"][start:end], "start": start, "end": end}],
                }
                for code, description, start, end in document["codes"]
            ]
            yield document | {"codes": codes}


@pytest.fixture(scope="module")
def held_out_file(tmp_path_factory):
    """Documents and pairs mixed in one file."""
    path = tmp_path_factory.mktemp("data") / "held_out.jsonl"
    write_held_out(path)
    return path


def config_of(training_folder, out, held_out_file, **changes):
    """A run of 9 steps with a validation after steps 2, 4, 6, 8 and 9."""
    settings = dict(epochs=3, validate=str(held_out_file), validate_every=2, max_length=2048, pack_length=2048)
    return run_config(training_folder, out, **{**settings, "dropout": 0.1, "save_every": 3, **changes})


def norm_of(model) -> float:
    """It differs from step to step: by it a scripted coder tells how far the run is."""
    return sum(parameter.detach().square().sum().item() for _, parameter in lora_parameters(model))


@pytest.fixture(scope="module")
def norms(training_folder, held_out_file, fast_measurement, tmp_path_factory):
    """norm_of at each validation of config_of."""
    seen = []

    def code(model, tokenizer, documents, is_stopping):
        seen.append(norm_of(model))
        return Counts(0, 1, 1, 0, 1, 1)

    train_adapter(config_of(training_folder, tmp_path_factory.mktemp("norms") / "run", held_out_file), code)
    assert len(set(seen)) == len(seen) == 5
    return seen


def scripted(norms, right=(3, 8, 6, 5, 4), during=lambda number: None):
    """A coder whose F1 at the five validations is `right` / 10; `during(number)` is called within each."""

    def code(model, tokenizer, documents, is_stopping):
        number = norms.index(norm_of(model))
        during(number)
        if is_stopping():
            raise Stopped
        assert [document.id for document in documents] == ["v1", "v2"] and not model.training
        return Counts(right[number], 10, 10, right[number] // 2, 10, 10)

    return code


@pytest.fixture(scope="module")
def whole(training_folder, held_out_file, norms, tmp_path_factory):
    """config_of's run, uninterrupted. Read only."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train_adapter(config_of(training_folder, out, held_out_file), scripted(norms))


def files(out) -> dict:
    """What a run has made, without what differs from time to time."""
    adapters = {
        path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("adapter*")) if path.is_file()
    }
    lines = []
    for record in metrics(out):
        if "validation" in record:
            assert record["validation"].pop("seconds") >= 0
        lines.append({name: value for name, value in record.items() if name not in SECONDS})
    states = [json.loads(path.read_text()) for path in sorted(out.glob("checkpoints/*/state.json"))]
    return {"adapters": adapters, "metrics": lines, "best": [state.get("validation") for state in states]}


def test_the_best_adapter_is_kept_beside_the_last(whole, training_folder, held_out_file, norms, tmp_path, capsys):
    """Guards: the best by the loss of training, one of another step, a folder that cannot be loaded."""
    lines = metrics(whole)
    validated = {line["step"]: line["validation"] for line in lines if "validation" in line}
    assert list(validated) == [2, 4, 6, 8, 9] and [line["step"] for line in lines] == list(range(1, 10))
    assert [scores["code_f1"] for scores in validated.values()] == [0.3, 0.8, 0.6, 0.5, 0.4]
    assert [scores["evidence_f1"] for scores in validated.values()] == [0.1, 0.4, 0.3, 0.2, 0.2]
    assert all(0 < scores["loss"] < 20 for scores in validated.values())
    best = load_model(training_folder)
    load_adapter(best, whole / "best")
    assert norm_of(best) == norms[1]
    last = load_file(whole / "adapter_model.safetensors")
    assert sum(tensor.square().sum().item() for tensor in last.values()) == pytest.approx(norms[4])
    assert (whole / "best" / "adapter_config.json").stat().st_mode & 0o777 == 0o600


def test_patience_ends_a_run_and_a_resumed_one(whole, training_folder, held_out_file, norms, tmp_path, capsys):
    """Guards: a count that starts again, or a finished run that trains on. The schedule is that of all steps."""
    config = config_of(training_folder, tmp_path / "run", held_out_file, patience=2)
    train_adapter(config, scripted(norms))
    text = capsys.readouterr().err
    assert "validation: 2 documents, 3 spans; 2 documents are coded; every 2 steps" in text
    assert "adapter after 8 of 9 steps, 2 validations after the best one: " in text
    assert f"best validation: step 4 (code F1 0.800, loss {metrics(whole)[3]['validation']['loss']:.3f}): " in text
    made = files(tmp_path / "run")
    assert made["metrics"] == files(whole)["metrics"][:8]
    train_adapter(dataclasses.replace(config, resume=True), scripted(norms, during=pytest.fail))
    assert files(tmp_path / "run") == made
    train_adapter(dataclasses.replace(config, resume=True, patience=0), scripted(norms))
    assert files(tmp_path / "run") == files(whole)


class Killed(BaseException):
    """A kill: nothing after it runs."""


def kill_at(function, call, after=False):
    """`function` that is killed at its `call`-th call, before or after its work."""
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == call and not after:
            raise Killed
        result = function(*args, **kwargs)
        if len(calls) == call:
            raise Killed
        return result

    return killed


@pytest.mark.parametrize(
    "place, name, call, after",
    [
        (torch.optim.AdamW, "step", 6, False),  # after the validations of steps 2 and 4 and a checkpoint
        (task, "save_checkpoint", 3, False),  # step 4: its validation is in metrics.jsonl and nowhere else
        (task, "save_checkpoint", 3, True),  # its checkpoint is written, best/ is not
        (run, "save_adapter", 2, False),  # the same, in best/ itself
    ],
)
def test_killed_after_a_validation_it_ends_as_if_it_had_not_been(
    place, name, call, after, whole, training_folder, held_out_file, norms, tmp_path, monkeypatch
):
    """Guards: the best forgotten, best/ of another step, a record without its scores or twice in metrics.jsonl."""
    config = config_of(training_folder, tmp_path / "run", held_out_file)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, kill_at(getattr(place, name), call, after))
        with pytest.raises(Killed):
            train_adapter(config, scripted(norms))
    assert len(metrics(tmp_path / "run")) in (4, 5)
    train_adapter(dataclasses.replace(config, resume=True), scripted(norms))
    assert files(tmp_path / "run") == files(whole)


def interrupt(*ignored, **ignored_too):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number, step", [(1, 4), (4, 9)])
def test_ctrl_c_during_a_validation_saves_and_is_made_up_for(
    number, step, whole, training_folder, held_out_file, norms, tmp_path
):
    """Guards: minutes of waiting for 32 documents, a step lost, a validation that never is, after the last step too."""
    config = config_of(training_folder, tmp_path / "run", held_out_file)
    with pytest.raises(SystemExit) as exit:
        train_adapter(config, scripted(norms, during=lambda now: interrupt() if now == number else None))
    assert exit.value.code == 130
    line = metrics(tmp_path / "run")[-1]
    assert line["step"] == step and "validation" not in line
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:08d}").is_dir()
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    train_adapter(dataclasses.replace(config, resume=True), scripted(norms))
    assert files(tmp_path / "run") == files(whole)


def test_ctrl_c_during_a_save_leaves_it_whole(whole, training_folder, held_out_file, norms, tmp_path, monkeypatch):
    """Guards: half a checkpoint, or the step after it trained and lost."""
    config, original = config_of(training_folder, tmp_path / "run", held_out_file), checkpoint.write_tensors

    def interrupted(file, tensors):
        patch.setattr(checkpoint, "write_tensors", original)  # a second Ctrl-C would end it at once
        interrupt()
        original(file, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_tensors", interrupted)
        with pytest.raises(SystemExit) as exit:
            train_adapter(config, scripted(norms))
    assert exit.value.code == 130
    train_adapter(dataclasses.replace(config, resume=True), scripted(norms))
    assert files(tmp_path / "run") == files(whole)


@pytest.mark.parametrize("function", ["read_training_data", "measure_matmul_rate", "load_model"])
def test_ctrl_c_in_the_first_seconds_ends_in_one_line(function, training_folder, tmp_path, monkeypatch, capsys):
    """Guards: a traceback, a status that says success, a folder that the next start refuses."""
    where = "minscl.hardware" if function == "measure_matmul_rate" else "minscl.training.run"
    monkeypatch.setattr(f"{where}.{function}", interrupt)
    handler = signal.getsignal(signal.SIGINT)
    assert train_here(*run_flags(training_folder), "--out", tmp_path / "run") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "minscl: interrupted"
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()) == []
    signal.signal(signal.SIGINT, handler)  # run_command leaves the system's


def test_the_loss_is_that_of_separate_samples(training_folder, held_out_file, tmp_path):
    """Guards: dropout in a validation, a mean of means, packs of one process only. Tolerance 1e-5."""
    config = config_of(training_folder, tmp_path, held_out_file, max_length=700, pack_length=700)
    model, tokenizer = load_model(training_folder), load_tokenizer(training_folder)
    add_lora(model, 4, 8, 0.5, seed=1)
    for _, parameter in lora_parameters(model):
        parameter.data.normal_(std=0.1)
    held_out = read_held_out(config, tokenizer, [])
    assert [sample.kind for sample in held_out.samples] == ["document"] * 2 + ["span"] * 3
    total = tokens = 0.0
    model.eval()
    with torch.no_grad():
        for sample in held_out.samples:
            logits = model(torch.tensor([[*sample.prompt_ids, *sample.target_ids]]))[0, :-1]
            labels = torch.tensor(sample.target_ids)
            total += masked_loss(logits[-len(labels) :], labels).item()
            tokens += len(labels)
    model.train()
    device = torch.device("cpu")
    score = Validation(model, tokenizer, held_out, config, device, ProcessGroup(), None)
    scores = score(lambda: False)
    assert scores["loss"] == pytest.approx(total / tokens, abs=1e-5) and scores.keys() == {"loss", "seconds"}
    assert model.training and score(lambda: True) is None

    class Rank(ProcessGroup):
        """A process that is alone when it adds up."""

        def sum(self, *numbers):
            return list(numbers)

    parts = [Validation(model, tokenizer, held_out, config, device, Rank(rank, 2), None) for rank in range(2)]
    losses = [part(lambda: False)["loss"] for part in parts]
    assert sum(losses) == pytest.approx(total / tokens, abs=1e-5) and all(losses)


def test_documents_are_coded_as_generate_codes_them(embedded):
    """Guards: another decoding than the user's, and an F1 that is not evaluate's."""
    model, tokenizer = embedded
    texts = ("Hypertension. Type 2 diabetes with neuropathy.", "Atrial fibrillation on warfarin.", " ")
    quotations = ("Hypertension", "Atrial fibrillation", "")
    codes = ("I10", "I48.91", "A00.0")
    gold = [
        CodedDocument(str(number), text, (Assignment(code, "", (Evidence(word, 0, len(word)),)),))
        for number, (text, word, code) in enumerate(zip(texts, quotations, codes, strict=True))
    ][:2]
    predicted = list(code_notes(model, tokenizer, [Note(item.id, item.text) for item in gold], grounded=True))
    counts = train.code_held_out(model, tokenizer, gold, lambda: False)
    micro = code_scores(gold, predicted)["micro"]
    assert validation.f1(*counts[:3]) == pytest.approx(micro["f1"]) and micro["f1"] > 0
    words = evidence_scores(gold, predicted)["token_exact_match"]
    assert validation.f1(*counts[3:]) == pytest.approx(words["f1"], abs=1e-5)
    with pytest.raises(Stopped):
        train.code_held_out(model, tokenizer, gold, lambda: True)


def test_a_document_that_is_also_trained_on_is_named(training_folder, tmp_path, held_out_file):
    """Guards: an F1 on what was learned by heart, taken for one on new notes."""
    lines = held_out_file.read_text().splitlines()
    document = json.loads(lines[1])
    config = run_config(
        training_folder, tmp_path, samples="", validate=str(held_out_file), max_length=2048, pack_length=2048
    )
    for change, words in (
        ({}, "document v1 is also trained on; remove it from one of the files"),
        ({"id": "t1"}, "document v1 is also trained on as t1; remove"),
        (
            {"id": "t 1", "text": "Hypertension.\n Cough.", "codes": []},
            "document v1 is also trained on as a string of 3",
        ),
    ):
        (tmp_path / "train.jsonl").write_text(json.dumps(document | change) + "\n")
        with pytest.raises(InputError, match=words):
            train_adapter(dataclasses.replace(config, documents=str(tmp_path / "train.jsonl")))
    (tmp_path / "spans.jsonl").write_text("\n".join([json.dumps(json.loads(lines[2]) | {"code": "I10"}), lines[0]]))
    with pytest.raises(InputError, match="held_out.jsonl: pair 1 is also trained on") as error:
        train_adapter(dataclasses.replace(config, spans=str(tmp_path / "spans.jsonl")))
    assert "blood" not in str(error.value)
    with pytest.raises(InputError, match="document a is also trained on"):
        path = write_documents(tmp_path / "heads.jsonl")
        train_head(head_config(training_folder, tmp_path / "head", path, validate=str(path)))
    check_held_out("x", [], [])


def test_what_is_validated_on_is_bounded_and_the_same(training_folder, tmp_path, monkeypatch):
    """Guards: hours of validation, another sample for another seed, and a note that is too long left in silence."""
    long_text = "hypertension " * 900
    texts = [f"note number {number}" for number in range(50)] + [long_text, " "]
    path = tmp_path / "many.jsonl"
    path.write_text(
        "".join(json.dumps({"id": str(n), "text": text, "codes": []}) + "\n" for n, text in enumerate(texts))
    )
    tokenizer = load_tokenizer(training_folder)
    config = run_config(training_folder, tmp_path, validate=str(path), max_length=1024, pack_length=1024)
    held_out = read_held_out(config, tokenizer, [])
    assert len(held_out.coded) == 32 and len(held_out.samples) == held_out.available == 51
    assert held_out.coded == read_held_out(dataclasses.replace(config, seed=9), tokenizer, []).coded
    assert [int(item.id) for item in held_out.coded] == sorted(int(item.id) for item in held_out.coded)
    assert "not validated on: document 50 has" in held_out.describe(config)
    monkeypatch.setattr(validation, "MAX_DOCUMENTS", 7)
    held_out = read_held_out(config, tokenizer, [])
    assert len(held_out.coded) == len(held_out.samples) == 7
    assert "7 documents, 0 spans, of 51 in the file; 7 documents are coded; every 500" in held_out.describe(config)
    with_fsdp = dataclasses.replace(config, fsdp=True)
    assert read_held_out(with_fsdp, tokenizer, []).coded == ()
    with pytest.raises(InputError, match="no record of at most --max-length 9 tokens"):
        read_held_out(dataclasses.replace(config, max_length=9), tokenizer, [])


def test_the_best_has_the_highest_f1_then_the_lowest_loss():
    """Guards: best/ replaced by an equal one, or never written where every F1 is 0."""
    best = BestValidation()
    for step, scores, expected in (
        (1, {"loss": 3.0, "code_f1": 0.0}, 1),
        (2, {"loss": 2.0, "code_f1": 0.0}, 2),
        (3, {"loss": 2.0, "code_f1": 0.0}, 2),
        (4, {"loss": 9.0, "code_f1": 0.1}, 4),
        (5, {"loss": 1.0, "code_f1": 0.0}, 4),
    ):
        best = best.after(step, scores)
        assert best.best_step == expected and best.last_step == step
    assert best.since == 1 and best.is_over(1) and not best.is_over(2) and not best.is_over(0)
    assert BestValidation.from_dict(json.loads(json.dumps(best.to_dict())), "x") == best
    assert BestValidation.from_dict({}, "x") == BestValidation() and BestValidation().to_dict() == {}
    assert BestValidation().after(1, {"loss": 2.0}).after(2, {"loss": 1.0}).best_step == 2
    with pytest.raises(InputError, match="x: since is -1"):
        BestValidation.from_dict(best.to_dict() | {"since": -1}, "x")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--patience", "3"], "--patience: without held-out documents; give --validate FILE too"),
        (["--validate", "x", "--patience", "-1"], "--patience -1: must be at least 0"),
        (["--validate", "x", "--validate-every", "0"], "--validate-every 0: must be at least 1"),
        (["--system", "plm-icd", "--validate", "x", "--patience", "1"], "--system plm-icd --patience: a head is"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(flags, words):
    """Guards: a patience that never ends anything."""
    with pytest.raises(InputError, match=words):
        parse_run(flags)


def test_a_validation_cannot_be_changed_by_resuming(whole, training_folder, held_out_file, norms, tmp_path):
    """Guards: the best of one file compared with that of another; best/ written over by another run."""
    out = shutil.copytree(whole, tmp_path / "run")
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(held_out_file.read_text().splitlines()[1:]) + "\n")
    config = config_of(training_folder, out, held_out_file, resume=True)
    for change in (dict(validate=str(other)), dict(validate="")):
        with pytest.raises(InputError, match='validation was "'):
            train_adapter(dataclasses.replace(config, **change), scripted(norms))
    for path in out.iterdir():
        if path.name != "best":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match="already has best/adapter_model.safetensors; name another folder"):
        train_adapter(dataclasses.replace(config, resume=False), scripted(norms))
