"use strict";
/* Characters of a note: places in Python's code points and JavaScript's UTF-16 units, lines, what cannot be seen, and
   the words of a selection. No DOM.

   Records and the log count code points; only what touches strings and the DOM counts units. `noteText(text)` reads a
   note once:

       note.length               code points
       note.toUnit(place)        code points → UTF-16 units
       note.toPlace(unit)        UTF-16 units → code points; inside a surrogate pair, the place of the pair
       note.slice(start, end)    the text between two places
       note.lineColumn(place)    {line, column}, from 1, as minscl.data.locate.line_and_column counts
       note.lines                [{start, end}] places of the lines without their \n
       note.trimToWords(start, end)  {start, end} places of the whole words of a selection; null where it has none

   `visiblePieces(text)` cuts text where characters are that one does not see: [{text, label}], label "" or "U+202E".
   Read next: state.js. */

/* C0 and C1 controls but \t and \n; soft hyphen; zero-width, joiners, direction marks, embeddings, overrides and
   isolates; line and paragraph separators; byte order mark; interlinear annotation; tags. Variation selectors, which
   belong to the sign before them, are left. */
const INVISIBLE = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180e\\u200b-\\u200f" +
    "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}]",
  "gu",
);
const WORD_CHARACTER = /[\p{L}\p{N}\p{M}_]/u;
const EDGE = /[\s\p{Z}\p{Cc}\p{Cf}.,;:!?…"'“”‘’«»*•·\-–—/\\|]/u; // is no word at either end of a selection
const BRACKETS = { "(": ")", "[": "]", "{": "}", ")": "(", "]": "[", "}": "{" };

function noteText(text) {
  const pairs = []; // places of the characters that take two units, ascending
  const lineStarts = [0];
  let length = 0;
  for (const character of text) {
    if (character.length === 2) pairs.push(length);
    length += 1;
    if (character === "\n") lineStarts.push(length);
  }

  const note = { text, length };

  note.toUnit = (place) => place + countBelow(pairs, place);

  note.toPlace = (unit) => {
    let low = 0; // pairs that end at or before `unit`
    let high = pairs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[middle] + middle + 2 <= unit) low = middle + 1;
      else high = middle;
    }
    const isInside = low < pairs.length && pairs[low] + low + 1 === unit;
    return unit - low - (isInside ? 1 : 0);
  };

  note.slice = (start, end) => text.slice(note.toUnit(start), note.toUnit(end));

  note.lineColumn = (place) => {
    const line = countBelow(lineStarts, place + 1);
    return { line, column: place - lineStarts[line - 1] + 1 };
  };

  note.lines = lineStarts.map((start, index) => ({
    start,
    end: index + 1 < lineStarts.length ? lineStarts[index + 1] - 1 : length,
  }));

  note.trimToWords = (start, end) => {
    const at = (place) => String.fromCodePoint(text.codePointAt(note.toUnit(place)));
    let first = Math.max(0, Math.min(start, end));
    let last = Math.min(length, Math.max(start, end));
    const isEdge = (place, bracket, other) =>
      EDGE.test(at(place)) || other.includes(at(place)) || isUnpaired(at(place), bracket, note.slice(first, last));
    while (first < last && isEdge(first, "([{", ")]}")) first += 1;
    while (last > first && isEdge(last - 1, ")]}", "([{")) last -= 1;
    if (first === last) return null;
    const isWord = (place) => place >= 0 && place < length && WORD_CHARACTER.test(at(place));
    if (isWord(first)) while (isWord(first - 1)) first -= 1;
    if (isWord(last - 1)) while (isWord(last)) last += 1;
    else while (last < length && /\p{M}/u.test(at(last))) last += 1;
    return { start: first, end: last };
  };

  return note;
}

/* Whether `character` is one of `brackets` and `text` has no other half of it: that is none of the words. */
function isUnpaired(character, brackets, text) {
  return brackets.includes(character) && !text.includes(BRACKETS[character]);
}

/* How many of `ascending` are less than `number`. */
function countBelow(ascending, number) {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

/* Pieces of `text` in order; those with a label are one invisible character each. A \r before \n is a line's end and
   not labelled. */
function visiblePieces(text) {
  const pieces = [];
  let shown = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match[0] === "\r" && text[match.index + 1] === "\n") continue;
    if (match.index > shown) pieces.push({ text: text.slice(shown, match.index), label: "" });
    pieces.push({ text: match[0], label: characterName(match[0]) });
    shown = match.index + match[0].length;
  }
  if (shown < text.length) pieces.push({ text: text.slice(shown), label: "" });
  return pieces;
}

/* "U+202E" */
function characterName(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}
