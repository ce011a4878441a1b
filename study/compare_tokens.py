"""How many tokens a row's model reads and writes for a note, from the coded document.

Counted after the fact, so that no command has to keep count and an interrupted run loses nothing: the prompts are
rendered again, and `output` holds every answer. A prompt that several answers share (the note before the questions of
clh, mac and --verify; the prompt of cot-sc's chains) is counted once, as the engine computes it once. A head reads the
note; the look-up has no model. Questions and answers are tokenised by themselves, which may differ from what was
decoded by a token each.

Read next: compare_table.py.
"""

from minscl.config import HEADS
from minscl.data.calibration import PASSAGE
from minscl.data.chains import has_steps, split_answers, split_steps
from minscl.data.prompts import render_evidence
from minscl.data.types import CodedDocument, Note
from minscl.infer.passages import split_passages
from minscl.infer.systems import DIALOGUES, choose_system
from minscl.infer.systems.lookup import LOOKUP
from minscl.infer.systems.questions import introduce
from minscl.model import Tokenizer

REPLY = "\n> "  # before a reply (questions.with_steps)


def count_tokens(document: CodedDocument, tokenizer: Tokenizer, quotations: list[str] | None = None) -> tuple[int, int]:
    """(tokens read, tokens written) for a document of `generate --out`.

    `quotations`: human evidence, where the answer continues from it.
    """
    settings = document.coded_with or {}
    system = settings.get("system", "scl")
    if system == LOOKUP and not has_steps(document.output or ""):
        return 0, 0
    if system in HEADS:
        return len(tokenizer.encode(document.text)), 0
    steps = split_steps(document.output or "")
    answer = document.output or ""
    if has_steps(answer):
        answer = steps.pop(0)[1] if system not in DIALOGUES else ""
    read = written = 0
    if system not in DIALOGUES and system != LOOKUP:
        written = sum(len(tokenizer.encode(text)) for text in split_answers(answer))
        passage = int(settings.get(PASSAGE, 0))
        for _, text in split_passages(document.text, tokenizer, passage):
            read += chat_tokens(choose_system(system).render_prompt(text), tokenizer)
        if quotations is not None:
            read += len(tokenizer.encode_answer_start(render_evidence(quotations)))
    if steps:
        read += chat_tokens(introduce(Note(document.id, document.text)), tokenizer)
    for _, text in steps:
        asks, _, reply = text.rpartition(REPLY)
        read += len(tokenizer.encode(asks))
        written += len(tokenizer.encode(reply))
    return read, written


def chat_tokens(prompt: str, tokenizer: Tokenizer) -> int:
    """Tokens of a prompt in the model's chat format."""
    return len(tokenizer.encode_chat([{"role": "user", "content": prompt}], add_generation_prompt=True))
