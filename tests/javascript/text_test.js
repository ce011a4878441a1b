"use strict";
const assert = require("node:assert");
const test = require("node:test");
const { loadScripts, plain } = require("./scripts.js");

const evaluate = loadScripts("text.js");
const noteText = evaluate("noteText");
const visiblePieces = evaluate("visiblePieces");

/* The words of the selection that `|` marks at both ends. */
function trimmed(marked) {
  const [start, end] = [[...marked].indexOf("|"), [...marked].lastIndexOf("|") - 1];
  const note = noteText(marked.replaceAll("|", ""));
  const words = note.trimToWords(start, end);
  return words && note.slice(words.start, words.end);
}

test("places are code points, whatever stands before them", () => {
  // guards evidence that is off by one after each emoji
  const text = "a😀b𝒳\u0301c\r\n😀\n";
  const note = noteText(text);
  const points = [...text];
  assert.equal(note.length, points.length);
  for (let place = 0; place <= points.length; place += 1) {
    const unit = points.slice(0, place).join("").length;
    assert.equal(note.toUnit(place), unit);
    assert.equal(note.toPlace(unit), place);
  }
  assert.equal(note.toPlace(2), 1, "inside a surrogate pair");
  assert.equal(note.slice(1, 4), "😀b𝒳");
});

test("lines and columns are Python's", () => {
  const note = noteText("😀a\nb\r\n\nc");
  const places = [0, 1, 2, 3, 6, 7].map((place) => Object.values(plain(note.lineColumn(place))));
  assert.deepStrictEqual(places, [[1, 1], [1, 2], [1, 3], [2, 1], [3, 1], [4, 1]]);
  assert.deepStrictEqual(plain(note.lines).map(({ start, end }) => note.slice(start, end)), ["😀a", "b\r", "", "c"]);
});

test("a selection becomes whole words", () => {
  // guards half words, and the blank, comma or bracket that a mouse takes along
  for (const [marked, words] of [
    ["type |2 diabetes |mellitus", "2 diabetes"],
    ["type 2 di|abetes mell|itus.", "diabetes mellitus"],
    ["|, chest pain, |denies", "chest pain"],
    ["|acute kidney injury (AKI)| today", "acute kidney injury (AKI)"],
    ["acute |kidney injury (|AKI)", "kidney injury"],
    ["acute kidney injury |(AKI|)", "AKI"],
    ["|Menière’s| disease", "Menière’s"],
    ["caf|e\u0301| au lait", "cafe\u0301"],
    ["|\u200bHTN\u202e| x", "HTN"],
    ["SpO2 |< 88%| on air", "< 88%"],
    ["😀|  pneumonia|", "pneumonia"],
  ]) {
    assert.equal(trimmed(marked), words, marked);
  }
  for (const nothing of ["a| |b", "a|, \n|b", "a||b", "||"]) assert.equal(trimmed(nothing), null, nothing);
});

test("a selection may be made backwards and beyond the ends", () => {
  assert.deepStrictEqual(plain(noteText("chest pain").trimToWords(99, 7)), { start: 6, end: 10 });
});

test("what one does not see is named, and the rest is the text", () => {
  // guards a note that hides or turns text: overrides, zero-width characters, controls
  const text = "a\u202eb\u200b\u00ad\ufeff\u0000\u001b\u0085\u{e0041}c\td\r\ne\rf 😀\u2028g ❤\ufe0f e\u0301";
  const pieces = plain(visiblePieces(text));
  assert.equal(pieces.map((piece) => piece.text).join(""), text);
  const labels = pieces.map((piece) => piece.label).filter(Boolean);
  assert.deepStrictEqual(labels, [
    ..."202E 200B 00AD FEFF 0000 001B 0085".split(" ").map((digits) => `U+${digits}`),
    "U+E0041",
    "U+000D",
    "U+2028",
  ]);
  assert.deepStrictEqual(plain(visiblePieces("")), []);
});
