"""What speculation and grounding cost and save, on real coding output: the embedded model on invented test notes, one note at a time.

    python -m benchmarks.speculate [--notes 12] [--write]

Every note is coded four ways, free and grounded, each with and without drafts, in turn. Printed: seconds, passes of the model, tokens a pass, and whether
drafts changed any token (they may not).
"""

import argparse
import time

from benchmarks.report import source, write_section
from minscl.data.types import Note
from minscl.generate import GenerateConfig, load_coder
from minscl.infer.coder import MAX_NEW_TOKENS, note_prompt
from minscl.infer.decode import greedy
from minscl.infer.grounded import Guide
from minscl.infer.speculate import Drafter
from study.notes import documents


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculate", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    model, tokenizer = load_coder(GenerateConfig())
    seconds, passes, tokens, different = {}, {}, {}, 0
    for document in list(documents("test", 0))[: args.notes]:
        prompt = note_prompt(model, tokenizer, Note(document.id, document.text))
        for grounded in (False, True):
            answers = []
            for drafted in (False, True):
                began = time.perf_counter()
                guides = [Guide(tokenizer, document.text, MAX_NEW_TOKENS)] if grounded else None
                [answer] = greedy(model, [prompt], max_new_tokens=MAX_NEW_TOKENS, stop_ids=tokenizer.stop_ids, guides=guides,
                                  drafters=[Drafter(tokenizer, prompt)] if drafted else None)
                way = (grounded, drafted)
                seconds[way] = seconds.get(way, 0.0) + time.perf_counter() - began
                passes[way] = passes.get(way, 0) + answer.forwards
                tokens[way] = tokens.get(way, 0) + len(answer.ids)
                answers.append(answer.ids)
            different += answers[0] != answers[1]
    lines = [f"{source()}; {args.notes} invented test notes, the embedded model, one note at a time", "",
             "| decoding | drafts | tokens | passes | tokens a pass | seconds a note | times as fast |", "|-|-|-|-|-|-|-|"]
    for (grounded, drafted), total in seconds.items():
        way = (grounded, drafted)
        lines.append(f"| {'grounded' if grounded else 'free'} | {'yes' if drafted else 'no'} | {tokens[way]:,} | {passes[way]:,} | {tokens[way] / passes[way]:.2f} | "
                     f"{total / args.notes:.2f} | {seconds[grounded, False] / total:.2f} |")
    lines += ["", f"Answers that drafts changed: {different}."]
    print("\n".join(lines))
    if args.write:
        write_section("Speculation", lines)


if __name__ == "__main__":
    main()
