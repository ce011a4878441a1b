"use strict";
/* The billable codes below a heading, and the one that is assigned where the note says no more: lookup/default_codes.py
   in JavaScript. No DOM. Read next: search.js. */

/* The billable code that a heading stands for where the note says no more; "" if the List does not tell. Step by step:
   an only child; the child that the List calls unspecified; the 7th character of the initial encounter. */
function defaultBelow(codeSet, heading) {
  let code = heading;
  while (code && !codeSet.isBillable(code)) {
    const seventh = codeSet.seventhCharacters(code);
    const children = codeSet.children(code);
    const defaults = seventh.length
      ? seventh.filter(({ meaning }) => /initial|unspecified/.test(meaning)).map((character) => character.code)
      : children.filter((child) => addsOnlyUnspecified(codeSet, code, child));
    if (children.length === 1) [code] = children;
    else code = defaults.length === 1 || (seventh.length && defaults.length) ? defaults[0] : "";
  }
  return code;
}

/* Whether the child's description says "unspecified" more often than its parent's, and "with" no more often. */
function addsOnlyUnspecified(codeSet, code, child) {
  const [above, below] = [code, child].map((node) => {
    const text = codeSet.description(node).toLowerCase().replaceAll("whether with", "whether");
    const words = text.match(/[\p{L}\p{N}_]+/gu) || [];
    const count = (word) => words.filter((other) => other === word).length;
    return { unspecified: count("unspecified"), with: count("with") };
  });
  return below.unspecified > above.unspecified && below.with <= above.with;
}

/* The first billable codes at or below a node, in the List's order. */
function firstBillableBelow(codeSet, node, limit) {
  const [codes, left] = [[], [node]];
  while (left.length && codes.length < limit) {
    const next = left.pop();
    if (codeSet.isBillable(next)) codes.push(next);
    left.push(...[...codeSet.children(next)].reverse());
  }
  return codes;
}
