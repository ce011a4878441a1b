"""The baselines on the same decoder: their prompts, the vote, chains that share one prompt, and the command."""

import json
import subprocess
import sys

import pytest

from minscl.config import DEMO
from minscl.data.prompts import REASONING_INSTRUCTION, parse_codes, render_reasoning_prompt
from minscl.data.samples import document_sample
from minscl.data.types import Assignment, CodedDocument, Evidence, Note
from minscl.errors import InputError
from minscl.infer.coder import code_notes, note_prompt
from minscl.infer.engine import Engine, Request
from minscl.infer.systems import SYSTEMS, System, vote
from minscl.pretrained import load_pretrained

NOTE = Note("n", "Pt with HTN and DM2, admitted for pneumonia.")


@pytest.fixture(scope="module")
def embedded():
    return load_pretrained(DEMO)


def generate(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "minscl.generate", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_code_stands_with_half_of_the_votes():
    """Guards: a strict majority, a code counted twice in one chain, an order that changes from run to run."""
    assert vote([["I10", "I10"], ["E11.9", "I10"], ["J18.9"], ["E11.9"]]) == [("I10", 0.5), ("E11.9", 0.5)]
    assert vote([["I10"], ["J18.9"], []]) == []
    assert vote([["I10", "J18.9"]]) == [("I10", 1.0), ("J18.9", 1.0)]


def test_codes_are_read_after_the_reasoning():
    """Guards: codes that the reasoning only weighs, and references of a baseline that names no evidence."""
    answer = "The note says HTN, which is I10. Heart failure I50.9 is denied.\n\nCodes:\nI10 Essential (primary) hypertension [1]\nE11.9\n"
    parsed = parse_codes(answer)
    assert (
        [one.code for one in parsed.codes] == ["I10", "E11.9"]
        and not parsed.evidence
        and not any(one.references for one in parsed.codes)
    )
    assert parse_codes("I think there is nothing.\nCodes:\nnone").codes == ()


def test_each_system_asks_its_own_question():
    """Guards: a baseline that is asked for evidence, or trained on it."""
    prompts = {name: System(name).prompt(NOTE.text) for name in SYSTEMS}
    assert all(prompt.endswith(f"\n\n{NOTE.text}") for prompt in prompts.values())
    assert prompts["cot"] == prompts["cot-sc"] == render_reasoning_prompt(NOTE.text) and prompts["cot"].startswith(
        REASONING_INSTRUCTION
    )
    assert "Evidence:" in prompts["scl"] and "vidence" not in prompts["sft"]
    document = CodedDocument(
        "n", NOTE.text, (Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),)),)
    )
    sample = document_sample(document, evidence_first=False)
    assert sample.prompt == prompts["sft"] and sample.target == "Codes:\nI10 Essential (primary) hypertension"


def test_chains_read_their_prompt_once(embedded):
    """Guards: k chains that cost k prompts. Each reads one token of its own, for its first logits."""
    model, tokenizer = embedded
    system = System(
        "cot-sc", chains=4, temperature=3.0
    )  # hot, so that four chains differ whatever the model is sure of
    prompt = note_prompt(model, tokenizer, NOTE, None, system)
    engine = Engine(model, slots=4, length=len(prompt) + 8, stop_ids=tokenizer.stop_ids)
    answers = dict(engine.run(Request(prompt, 8, sampler=one) for one in system.samplers("n")))
    assert engine.prompt_tokens == 4 * len(prompt) and engine.computed_tokens == len(prompt) + 3
    assert len({tuple(one.ids) for one in answers.values()}) > 1


def test_self_consistency_does_not_depend_on_the_batch(embedded):
    """Guards: a seed that gives other codes with other notes beside it, or with more slots."""
    notes = [NOTE, Note("m", "COPD exacerbation, CKD 3."), Note("o", "Fall with hip fracture.")]
    system = System("cot-sc", chains=3, seed=1)
    together = list(code_notes(*embedded, notes, system=system, batch_size=8))
    assert together == [one for note in notes for one in code_notes(*embedded, [note], system=system, batch_size=2)]
    assert [one.id for one in together] == ["n", "m", "o"] and together[0].output.count("--- chain ") == 3
    assert together[0].output != next(code_notes(*embedded, [NOTE], system=System("cot-sc", chains=3, seed=2))).output


@pytest.mark.parametrize("name", ["sft", "cot"])
def test_a_baseline_names_no_evidence(embedded, name):
    """Guards: evidence that a baseline was never asked for, and a warning that it is missing."""
    [document] = code_notes(*embedded, [NOTE], system=System(name))
    assert not any(one.evidence for one in document.codes) and not any(
        "names no evidence" in line for line in document.warnings
    )
    assert document.output is not None


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--system", "mac"], "--system mac: choose one of scl, sft, cot, cot-sc"),
        (["--system", "cot", "--grounded"], "leave out --evidence and --grounded"),
        (["--system", "cot-sc", "--temperature", "0"], "--temperature 0.0"),
        (["--system", "cot-sc", "--chains", "0"], "--chains 0"),
    ],
)
def test_bad_settings_are_one_line_and_status_2(tmp_path, arguments, words):
    (tmp_path / "note.txt").write_text(NOTE.text)
    done = generate("note.txt", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


def test_the_command_and_an_sft_adapter(tmp_path):
    """Guards: the whole of the baseline: trained without evidence, then asked without."""
    command = [sys.executable, "-m", "minscl.train", "--no-evidence", "--dry-run", "--out", "sft", "--device", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (
        "Under “Codes:”" in done.stdout
        or 'Under "Codes:" write a line per code: code, description.' in done.stdout + done.stderr
    )
    assert "quote each finding" not in done.stdout + done.stderr
    (tmp_path / "note.txt").write_text(NOTE.text)
    done = generate("note.txt", "--system", "cot-sc", "--chains", "2", "--json", "--model", DEMO, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert CodedDocument.from_dict(json.loads(done.stdout)).output.startswith("--- chain 1 of 2\n")


def test_an_unknown_system_is_refused_in_code_too():
    with pytest.raises(InputError, match="choose one of"):
        System("plm-icd")
