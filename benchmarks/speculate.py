"""What speculation and grounding cost and save, on real coding output: the embedded model on invented test notes, one note at a time.

    python -m benchmarks.speculate [--notes 12] [--write]

Every note is coded six ways, free and grounded: plainly, with drafts, and with compiled passes in their place (`generate --compile`, whose time to
compile is left out). Printed: seconds, passes of the model, tokens a pass, and whether any token differed from plain decoding's.
"""

import argparse
import copy
import itertools
import time

from benchmarks.report import source, write_section
from minscl.data.types import Note
from minscl.generate import GenerateConfig, load_coder
from minscl.infer.coder import MAX_NEW_TOKENS, note_prompt
from minscl.infer.engine import Engine, Request
from minscl.infer.grounded import Guide
from minscl.infer.packed import RowLinear, lay_out
from minscl.infer.speculate import Drafter
from study.notes import documents

WAYS = ("plainly", "with drafts", "compiled")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speculate", description=__doc__.splitlines()[0])
    parser.add_argument("--notes", type=int, default=12)
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    model, tokenizer = load_coder(GenerateConfig())
    rowwise = copy.deepcopy(model)
    lay_out(rowwise, RowLinear)
    seconds, passes, tokens, different = {}, {}, {}, {}
    for document in list(documents("test", 0))[: args.notes]:
        prompt = note_prompt(model, tokenizer, Note(document.id, document.text))
        for grounded, how in itertools.product((False, True), WAYS):
            way, compiled = (grounded, how), how == "compiled"
            guide = Guide(tokenizer, document.text, MAX_NEW_TOKENS) if grounded else None
            drafter = Drafter(tokenizer, prompt) if how == "with drafts" else None
            engine = Engine(rowwise if compiled else model, slots=1, length=len(prompt) + MAX_NEW_TOKENS, stop_ids=tokenizer.stop_ids, compile=compiled)
            began = time.perf_counter()
            [(_, answer)] = engine.run([Request(prompt, MAX_NEW_TOKENS, guide, drafter)])
            seconds[way] = seconds.get(way, 0.0) + time.perf_counter() - began
            passes[way] = passes.get(way, 0) + answer.forwards
            tokens[way] = tokens.get(way, 0) + len(answer.ids)
            plain = answer.ids if how == "plainly" else plain
            different[how] = different.get(how, 0) + (answer.ids != plain)
    lines = [f"{source()}; {args.notes} invented test notes, the embedded model in float32, one note at a time", "",
             "| decoding | way | tokens | passes | tokens a pass | seconds a note | times as fast |", "|-|-|-|-|-|-|-|"]
    for (grounded, how), total in seconds.items():
        way = (grounded, how)
        lines.append(f"| {'grounded' if grounded else 'free'} | {how} | {tokens[way]:,} | {passes[way]:,} | {tokens[way] / passes[way]:.2f} | "
                     f"{total / args.notes:.2f} | {seconds[grounded, 'plainly'] / total:.2f} |")
    lines += ["", f"Of {2 * args.notes} answers, drafts changed {different['with drafts']}, compiled passes {different['compiled']}."]
    print("\n".join(lines))
    if args.write:
        write_section("Speculation", lines)


if __name__ == "__main__":
    main()
