"use strict";
/* Selecting words of the note by keyboard: a note is no editable text, so browsers have no caret in it.

   The cursor is a word; what is selected reaches from the anchor word to it. Read next: code_view.js. */

const WORD = /[\p{L}\p{N}\p{M}_]+(?:['’.\/-][\p{L}\p{N}\p{M}_]+)*/gu;

class WordCursor {
  /** @param {NoteView} view that shows a note */
  constructor(view) {
    this.view = view;
    this.note = view.note;
    this.words = [...this.note.text.matchAll(WORD)].map(({ index, 0: word }) => [index, index + word.length]); // units
    this.anchor = null;
    this.head = null;
  }

  /**
   * Select the word `step` words (or, with `lines`, lines) further; `extend` keeps the anchor.
   * @returns {{start: number, end: number}|null} the selection, in code points
   */
  move(step, { lines = false, extend = false } = {}) {
    if (!this.words.length) return null;
    this.head = this.head === null ? this.firstWord() : this.next(step, lines);
    if (!extend || this.anchor === null) this.anchor = this.head;
    const [from, to] = [this.anchor, this.head].sort((one, other) => one - other);
    this.view.selectUnits(this.words[from][0], this.words[to][1], this.words[this.head][0]);
    return this.view.selection();
  }

  /** Ids of the spans that cover the cursor's word. @returns {string[]} */
  spans() {
    if (this.head === null) return [];
    const place = this.note.toPlace(this.words[this.head][0]);
    return this.view.spans.filter((span) => span.start <= place && place < span.end).map((span) => span.id);
  }

  /* The first word of the lit quotation, else of the note. */
  firstWord() {
    const lit = this.view.spans.find((span) => this.view.focused.has(span.id));
    const unit = lit ? this.note.toUnit(lit.start) : 0;
    return Math.max(
      0,
      this.words.findIndex(([, end]) => end > unit),
    );
  }

  next(step, lines) {
    return lines ? this.nextInLines(step) : Math.max(0, Math.min(this.words.length - 1, this.head + step));
  }

  /* The word at the same column of the next line that has words. */
  nextInLines(step) {
    const { line, column } = this.note.lineColumn(this.note.toPlace(this.words[this.head][0]));
    for (let number = line - 1 + step; this.note.lines[number]; number += step) {
      const { start, end } = this.note.lines[number];
      const unit = this.note.toUnit(Math.min(start + column - 1, end));
      const reached = this.words.findIndex(([, wordEnd]) => wordEnd > unit);
      const last = this.words.findLastIndex(([wordStart]) => wordStart < this.note.toUnit(end));
      const word = reached < 0 ? last : Math.min(reached, last);
      if (word >= 0 && this.words[word][0] >= this.note.toUnit(start)) return word;
    }
    return this.head;
  }
}
