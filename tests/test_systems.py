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
from minscl.infer.coder import code_notes
from minscl.infer.engine import Engine, Request
from minscl.infer.jobs import note_prompt
from minscl.infer.sequence import Generation
from minscl.infer.systems import SYSTEMS, Sampling, choose_system, count_votes, vote

NOTE = Note("n", "Pt with HTN and DM2, admitted for pneumonia.")


def test_a_code_stands_with_half_of_the_votes():
    """Guards: a strict majority, a code counted twice in one chain, an order that changes from run to run."""
    assert vote([["I10", "I10"], ["E11.9", "I10"], ["J18.9"], ["E11.9"]]) == [("I10", 0.5), ("E11.9", 0.5)]
    assert vote([["I10"], ["J18.9"], []]) == []
    assert vote([["I10", "J18.9"]]) == [("I10", 1.0), ("J18.9", 1.0)]


def test_a_document_counts_its_truncated_chains(embedded):
    """Guards: truncation that only a warning's words tell, and a field where no chain was truncated."""
    _, tokenizer = embedded
    ids = tokenizer.encode("Codes:\nI10 Essential (primary) hypertension\n")
    chains = [Generation(ids, [1.0] * len(ids), stopped, len(ids)) for stopped in (True, False, False)]
    document = count_votes(NOTE, chains, tokenizer)
    assert document.truncated == 2 and "2 of 3 chains stopped at their length limit" in document.warnings
    assert count_votes(NOTE, chains[:1], tokenizer).truncated is None


def test_codes_are_read_after_the_reasoning():
    """Guards: codes that the reasoning only considers, and references of a baseline that names no evidence."""
    answer = (
        "The note says HTN, which is I10. Heart failure I50.9 is denied.\n\n"
        "Codes:\nI10 Essential (primary) hypertension [1]\nE11.9\n"
    )
    parsed = parse_codes(answer)
    assert [item.code for item in parsed.codes] == ["I10", "E11.9"]
    assert not parsed.evidence and not any(item.references for item in parsed.codes)
    assert parse_codes("I think there is nothing.\nCodes:\nnone").codes == ()


def test_each_system_has_its_own_prompt():
    """Guards: a baseline that is asked for evidence, or trained on it."""
    prompts = {name: choose_system(name).render_prompt(NOTE.text) for name in SYSTEMS}
    assert all(prompt.endswith(f"\n\n{NOTE.text}") for prompt in prompts.values())
    assert prompts["cot"] == prompts["cot-sc"] == render_reasoning_prompt(NOTE.text)
    assert prompts["cot"].startswith(REASONING_INSTRUCTION)
    assert "Evidence:" in prompts["scl"] and "vidence" not in prompts["sft"]
    document = CodedDocument(
        "n", NOTE.text, (Assignment("I10", "Essential (primary) hypertension", (Evidence("HTN", 8, 11),)),)
    )
    sample = document_sample(document, evidence_first=False)
    assert sample.prompt == prompts["sft"] and sample.target == "Codes:\nI10 Essential (primary) hypertension"


def test_chains_compute_their_prompt_once(embedded):
    """Guards: k chains at the cost of k prompts. Each reads one prompt token itself, for its first logits."""
    model, tokenizer = embedded
    # A high temperature, so that four chains differ however sure the model is.
    system = choose_system("cot-sc", Sampling(chains=4, temperature=3.0))
    prompt = note_prompt(model, tokenizer, NOTE, None, system)
    engine = Engine(model, slots=4, length=len(prompt) + 8, stop_ids=tokenizer.stop_ids)
    requests = [Request(prompt, 8, sampler=system.sampler("n", chain)) for chain in range(system.chains)]
    answers = dict(engine.run(requests))
    assert engine.prompt_tokens == 4 * len(prompt) and engine.computed_tokens == len(prompt) + 3
    assert len({tuple(answer.ids) for answer in answers.values()}) > 1


@pytest.mark.slow
@pytest.mark.long
def test_self_consistency_does_not_depend_on_the_batch(embedded):
    """Guards: a seed that gives other codes with other notes beside it, or with more slots."""
    notes = [NOTE, Note("m", "COPD exacerbation, CKD 3."), Note("o", "Fall with hip fracture.")]
    system = choose_system("cot-sc", Sampling(chains=3, seed=1))
    together = list(code_notes(*embedded, notes, system=system, batch_size=8))
    alone = [document for note in notes for document in code_notes(*embedded, [note], system=system, batch_size=2)]
    assert together == alone
    assert [document.id for document in together] == ["n", "m", "o"]
    assert together[0].output.count("--- chain ") == 3
    # A high temperature, so that seeds differ however sure the model is.
    hot = [choose_system("cot-sc", Sampling(chains=3, temperature=3.0, seed=seed)) for seed in (1, 2)]
    first, other = (next(code_notes(*embedded, [NOTE], system=system)).output for system in hot)
    assert first != other


@pytest.mark.parametrize("name", ["sft", "cot"])
def test_a_baseline_names_no_evidence(embedded, name):
    """Guards: evidence that a baseline was never asked for, and a warning that it is missing."""
    [document] = code_notes(*embedded, [NOTE], system=choose_system(name))
    assert not any(item.evidence for item in document.codes)
    assert not any("names no evidence" in warning for warning in document.warnings)
    assert document.output is not None


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--system", "gpt"], "--system gpt: use scl, sft, cot, cot-sc"),
        (["--system", "cot", "--grounded"], "--system cot --grounded: exclude each other"),
        (["--system", "sft"], "--system sft: the embedded model's adapter is trained on evidence; give --adapter DIR"),
        (["--system", "cot-sc", "--temperature", "0"], "--temperature 0.0"),
        (["--system", "cot-sc", "--chains", "0"], "--chains 0"),
        (["--chains", "3"], "--system scl --chains: its answers are not sampled; leave --chains out, or give --system"),
        (["--system", "cot", "--temperature", "0.2"], "--system cot --temperature: its answers are not sampled"),
        (["--system", "mac", "--top-p", "0.5"], "--system mac --top-p: its answers are not sampled"),
        (["--free", "--seed", "3"], "--system scl --seed: its answers are not sampled"),
    ],
)
def test_bad_settings_are_one_line_and_status_2(tmp_path, arguments, words, generate):
    """Guards tracebacks, and a baseline that silently ignores --grounded, or settings of
    samples where none are drawn."""
    (tmp_path / "note.txt").write_text(NOTE.text)
    run = generate("note.txt", *arguments, cwd=tmp_path)
    assert run.returncode == 2 and words in run.stderr and run.stderr.count("\n") == 1 and not run.stdout


@pytest.mark.long
@pytest.mark.slow
def test_the_command_and_an_sft_adapter(tmp_path, generate):
    """Guards the whole of a baseline: trained without evidence, then run without."""
    command = [sys.executable, "-m", "minscl.train", "--no-evidence", "--dry-run", "--out", "sft", "--device", "cpu"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    output = run.stdout + run.stderr
    assert "Under “Codes:”" in run.stdout or 'Under "Codes:" write a line per code: code, description.' in output
    assert "quote each finding" not in output
    (tmp_path / "note.txt").write_text(NOTE.text)
    run = generate("note.txt", "--system", "cot-sc", "--chains", "2", "--json", "--model", DEMO, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert CodedDocument.from_dict(json.loads(run.stdout)).output.startswith("--- chain 1 of 2\n")


@pytest.mark.parametrize(
    "setting",
    [
        *({"temperature": value} for value in (float("nan"), float("inf"), -1.0, 1e-320)),
        *({"top_p": value} for value in (float("nan"), 0.0, 2.0)),
        *({"chains": value} for value in (0, 10**9)),
        {"seed": 10**40},
    ],
    ids=str,
)
def test_sampling_settings_have_ranges(setting):
    """Guards: tokens drawn from logits that a temperature made infinite or NaN; a run of a thousand million chains."""
    [name] = setting
    with pytest.raises(InputError, match=f"^--{name.replace('_', '-')} .*: must be"):
        Sampling(**setting)


def test_an_unknown_system_is_refused_in_code_too():
    """Guards a misspelt name that falls back to some system."""
    with pytest.raises(InputError, match="--system plm-icd: use scl"):
        choose_system("plm-icd")
