"""Codes in code-first order: a stable topological sort. Read next: sequencing.py, which says what is a cause."""

from minscl.data.icd.codebook import CodeBook
from minscl.data.icd.rules.sequencing import sequencer


def order_by_code_first(codes: list[str], book: CodeBook) -> list[str]:
    """`codes`, each as it was written, with every cause before the codes whose code-first notes name it.

    Otherwise the order stays: a code waits for its causes and follows the last of them. Codes that are each other's
    cause keep their order.
    """
    rules = sequencer(book)
    canonical = [code if book.is_billable(code) else book.normalise(code) or code for code in codes]
    waits_for: dict[str, set[str]] = {}
    for code in dict.fromkeys(canonical):
        blocks = rules.blocks(code)
        waits_for[code] = {cause for block in blocks for cause in rules.causes(block, code, canonical)}
    if not any(waits_for.values()):
        return list(codes)
    reachable = {code: _reach(code, waits_for) for code in waits_for}
    for code, causes in waits_for.items():
        waits_for[code] = {cause for cause in causes if code not in reachable[cause]}
    ordered = []
    listed: set[str] = set()
    waiting = list(range(len(codes)))
    while waiting:
        place = next(place for place in waiting if waits_for[canonical[place]] <= listed)
        waiting.remove(place)
        ordered.append(codes[place])
        listed.add(canonical[place])
    return ordered


def _reach(code: str, waits_for: dict[str, set[str]]) -> set[str]:
    """The causes of `code`, their causes, and so on."""
    reached: set[str] = set()
    unexplored = [code]
    while unexplored:
        causes = waits_for[unexplored.pop()] - reached
        reached |= causes
        unexplored += causes
    return reached
