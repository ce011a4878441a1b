"use strict";
/* Search in the Alphabetic Index, its tables and the Tabular List, by words or by code, ranked as a coder reads:
   lookup/search.py in JavaScript, which says why. No DOM.

       const search = await buildSearch(codeSet)      a second of work, in slices
       search.search("heart fail", 20)                [{code, description, billable, where, score}], best first

   Words may come in any order; the last one may be unfinished, unless a blank follows. "e1165", "E11,65" and "E11.6-"
   name codes; where there is none ("I50.99"), nothing else is found. Codes of another edition are found, not billable.
   `where` is the place that leads to the code: "index: Failure, failed > heart", "inclusion term: …", "description",
   "code". `code` is "" for a reference to no single code.
   Read next: word_index.js and agreement.js, the ranking; words.js, how words are compared;
   default_codes.js, the code below a heading. */

const CODE_BEGINNING = /^[A-Z][0-9][0-9A-Z]{0,5}$/; // without the dot
const CODE_ALONE = /^[A-Z][0-9][0-9A-Z](?:[.,][0-9A-Z]*-*|-+)$/; // so nobody writes words
const MAX_QUERY_WORDS = 40; // a paste is longer
const MAX_COMPARED = 120; // lines whose codes' descriptions are compared with the query
const MAX_HEADINGS = 40; // of these, headings whose codes are
const MAX_PRINTED = 5; // lines that are looked at for capitals
const MAX_BELOW = 200; // billable codes below a heading that are compared with the rest of a query
// Additions to the score. A manifestation is never coded alone, so no term means it by default.
const ADDITIONS = { billable: 0.06, index: 0.03, mainTerm: 0.03, noCode: -0.25, section: -0.1, manifestation: -0.1 };
const WARM_UP = "old fracture of left femur with chest pain"; // no line has all of it: that is searched for, too
const SLICE = 12; // milliseconds of building at a time: less than a frame

/* A Search over `codeSet`. The page stays responsive while it is built. */
async function buildSearch(codeSet) {
  const search = new Search(codeSet);
  let until = performance.now() + SLICE;
  for (const _ of search.build()) {
    if (performance.now() < until) continue;
    await nextTask();
    until = performance.now() + SLICE;
  }
  return search;
}

/* Type a query: the browser compiles what has run often, and a coder's first keys would take three times as long. */
async function warmUp(search) {
  for (let length = 1; length <= WARM_UP.length; length += 1) {
    await nextTask();
    search.search(WARM_UP.slice(0, length), 50);
  }
}

/* Resolves once the browser has answered what is waiting; setTimeout, where there is nothing better, waits 4 ms. */
function nextTask() {
  return globalThis.scheduler?.yield?.() ?? new Promise((resolve) => setTimeout(resolve));
}

/* The entries of the packed Index in print order, column after column: {row, column, code, printed, isReferred}, where
   `row` is {book, path, modifiers, see}, one for all columns of a table. `printed`: the code as printed, with its dash;
   `isReferred`: it is that of the reference `see`. */
function* indexEntries(codeSet) {
  for (const { book, columns, rows } of codeSet.index) {
    const read = [];
    for (const [place, column] of (columns || [""]).entries()) {
      for (let number = 0; number < rows.length; number += 1) {
        const [shared, titles, codes = "", modifiers = [], see = ""] = rows[number];
        if (!place) {
          const path = [...(number ? read[number - 1].path : []).slice(0, shared), ...titles];
          read.push({ book, path, modifiers, see, titleWords: null });
        }
        const packed = columns ? codes[place] : codes;
        if (packed === null) continue;
        const [code, printedCodes, hasOwn] = Array.isArray(packed) ? packed : [packed, packed];
        const printed = printedCodes.split(" [")[0];
        yield { row: read[number], column, code, printed, isReferred: see !== "" && !hasOwn };
      }
    }
  }
}

/* The place of an entry as a coder reads it: "index: Attack > heart, see Infarct, myocardium". */
function entryPlace({ row, column, code, printed, isReferred }) {
  const origin = `${row.book}: ${row.path.join(" > ")}${column ? ` | ${column}` : ""}`;
  const isOlder = code !== withoutDash(printed);
  return origin + (isReferred ? `, see ${row.see}` : "") + (isOlder ? ` (printed ${printed})` : "");
}

function withoutDash(code) {
  return code.replace(/-+$/, "").replace(/\.+$/, "");
}

class Search {
  /* Exhaust `build()` before the first search. */
  constructor(codeSet) {
    this._codeSet = codeSet;
    this._index = new WordIndex();
    this._abbreviations = new Abbreviations(codeSet.abbreviations);
    this._texts = new Map(); // node → number of its description in the index
    this._codes = [];
    this._headingWords = new Map(); // while building: heading → descriptionWords
    this._words = new Map(); // while building: rest of a description → descriptionWords
  }

  *build() {
    const [codeSet, index] = [this._codeSet, this._index];
    let size = 0;
    for (const entry of indexEntries(codeSet)) {
      const words = termWords(index.words, entry.row, entry.column);
      index.add({ entry, node: entry.code, inclusion: "" }, this._entryAddition(entry), words);
      size += 1;
      if (size % 200 === 0) yield;
    }
    for (const node of codeSet.codes) {
      const description = codeSet.description(node);
      const addition = this._nodeAddition(node, description);
      this._texts.set(node, size);
      index.add({ entry: null, node, inclusion: "" }, addition, this._nodeWords(node, description));
      this._abbreviations.learn(description);
      size += 1;
      for (const inclusion of codeSet.notes(node, "inclusionTerm")) {
        index.add({ entry: null, node, inclusion }, addition, descriptionWords(index.words, inclusion));
        this._abbreviations.learn(inclusion);
        size += 1;
      }
      if (size % 200 === 0) yield;
    }
    this._headingWords.clear();
    this._words.clear();
    yield* index.freeze();
    this._codes = codeSet.codes.filter((node) => /^[A-Z][0-9]/.test(node)).sort();
    codeSet.children("");
  }

  search(query, limit = 20) {
    const hits = new Map(this._codeHits(query, limit).map((hit) => [hit.code, hit]));
    const written = [...new Set(splitWords(query).slice(0, MAX_QUERY_WORDS))];
    if (hits.size < limit && !this._isCodeAlone(query, written)) {
      const expanded = this._expanded(written);
      const isSame = expanded.join(" ") === written.join(" ");
      const ranked = this._rankedHits(written, /\s$/.test(query), limit);
      if (!isSame) ranked.push(...this._rankedHits(expanded, true, limit));
      for (const hit of ranked.sort((one, other) => other.score - one.score)) {
        if (!hits.has(hit.code || hit.where)) hits.set(hit.code || hit.where, hit);
      }
    }
    return [...hits.values()].slice(0, limit);
  }

  /* Whether `query`, of the words `written`, is written as a code and cannot be words, as "B12" can. */
  _isCodeAlone(query, written) {
    const plain = query.replace(/\s/g, "").toUpperCase();
    if (CODE_ALONE.test(plain)) return true;
    const isKnown = (word) => this._index.words.numbers.has(word) || this._abbreviations.has(word);
    return plain.length > 2 && CODE_BEGINNING.test(plain) && !written.some(isKnown);
  }

  /* The codes that begin with `query`, if it begins a code, in the List's order; then those of other editions. */
  _codeHits(query, limit) {
    const bare = query.replace(/[\s.,]/g, "").replace(/-+$/, "").toUpperCase();
    if (!CODE_BEGINNING.test(bare)) return [];
    const beginning = bare.length < 4 ? bare : `${bare.slice(0, 3)}.${bare.slice(3)}`;
    const first = countBelowText(this._codes, beginning);
    const codes = this._codes.slice(first, first + limit).filter((code) => code.startsWith(beginning));
    if (bare.length > 2) codes.push(...this._codeSet.elsewhere(beginning, limit - codes.length));
    return codes.map((code) => this._hit(code, "code", beginning.length / code.length));
  }

  /* The words of a query with what its abbreviations stand for in their place. */
  _expanded(written) {
    const words = written.flatMap((word) => {
      let mayBe = /^[a-z]{4,6}$/.test(word);
      if (mayBe && this._index.words.numbers.has(word)) {
        const capitals = word.toUpperCase();
        const sources = this._index.sourcesWith(word, MAX_PRINTED);
        const printed = sources.map(({ entry, inclusion }) => (entry ? entry.row.path.join(" ") : inclusion));
        mayBe = printed.some((text) => text.includes(capitals));
      }
      const expanded = this._abbreviations.expand(word, mayBe ? this._index.phrases(word) : new Map());
      return expanded.length ? expanded : [word];
    });
    return [...new Set(words)];
  }

  /* The hits of a search by words, best first; a code may be in several. */
  _rankedHits(written, isComplete, limit) {
    const [codeSet, index] = [this._codeSet, this._index];
    const agreement = new Agreement(index, written);
    const hits = [];
    let headings = 0;
    for (const fit of index.ranked(written, isComplete, limit).slice(0, MAX_COMPARED)) {
      const { entry, node, inclusion } = index.source(fit.rank);
      const where = entry ? entryPlace(entry) : inclusion ? `inclusion term: ${inclusion}` : "description";
      if (!node) {
        hits.push({ code: "", description: "", billable: false, where, score: fit.score });
        continue;
      }
      const isBillable = codeSet.isBillable(node);
      let score = agreement.score(fit, this._texts.get(node), isBillable);
      if (!isBillable && headings < MAX_HEADINGS) {
        headings += 1;
        const code = this._billableBelow(entry, node, fit, agreement);
        if (code) {
          const below = agreement.score(fit, this._texts.get(code), true, true);
          hits.push(this._hit(code, where, below));
          if (codeSet.parent(code) === node && codeSet.seventhCharacters(node).length) continue;
          score = Math.min(score, below);
        }
      }
      hits.push(this._hit(node, where, score));
    }
    return hits.sort((one, other) => other.score - one.score);
  }

  _hit(code, where, score) {
    const [description, billable] = [this._codeSet.description(code), this._codeSet.isBillable(code)];
    return { code, description, billable, where, score: Math.round(score * 1e4) / 1e4 };
  }

  /* The billable code below a heading that the rest of the query names: words that the line lacks. Without a rest,
     defaultBelow; "" if there is no such code, and where the Index prints a heading as a whole code. */
  _billableBelow(entry, node, fit, agreement) {
    const [codeSet, index] = [this._codeSet, this._index];
    const rest = agreement.rest(fit);
    let [best, most] = ["", [0, -MAX_QUERY_WORDS]];
    if (rest.length) {
      const context = new Set([...index.wordsOf(index.textAt(fit.rank)), ...index.wordsOf(this._texts.get(node))]);
      for (const word of splitWords(entry ? entry.row.see : "")) {
        const number = index.words.numbers.get(singular(word));
        if (number !== undefined) context.add(number);
      }
      for (const code of firstBillableBelow(codeSet, node, MAX_BELOW)) {
        const below = agreement.fitBelow(rest, context, this._texts.get(code));
        if (below[0] && (below[0] > most[0] || (below[0] === most[0] && below[1] > most[1]))) {
          [best, most] = [code, below];
        }
      }
    }
    if (best) return best;
    const isWhole = entry && entry.printed === entry.code;
    return isWhole && !codeSet.seventhCharacters(node).length ? "" : defaultBelow(codeSet, node);
  }

  /* descriptionWords; of one that continues its parent's, the parent's words and those of the rest. */
  _nodeWords(node, description) {
    const parent = this._codeSet.parent(node);
    const above = parent === null ? "" : `${this._codeSet.description(parent)}, `;
    const rest = description.slice(above.length);
    const words =
      above && description.startsWith(above) && !/[()]|without|alignant|econdary/.test(rest)
        ? this._headingWords.get(parent).map((kind, place) => kind.concat(this._restWords(rest)[place]))
        : descriptionWords(this._index.words, description);
    if (!this._codeSet.isBillable(node)) this._headingWords.set(node, words);
    return words;
  }

  _restWords(rest) {
    if (!this._words.has(rest)) this._words.set(rest, descriptionWords(this._index.words, rest));
    return this._words.get(rest);
  }

  _entryAddition({ row, code }) {
    if (!code) return ADDITIONS.noCode;
    const isMainTerm = row.path.length === 1 && row.book === "index";
    const isBillable = this._codeSet.isBillable(code);
    return ADDITIONS.index + isMainTerm * ADDITIONS.mainTerm + isBillable * ADDITIONS.billable;
  }

  _nodeAddition(node, description) {
    if (!/^\p{L}/u.test(node) || node.includes(" ")) return ADDITIONS.section;
    const isManifestation = description.includes("in diseases classified elsewhere");
    return this._codeSet.isBillable(node) * ADDITIONS.billable + isManifestation * ADDITIONS.manifestation;
  }
}

function countBelowText(ascending, text) {
  let [low, high] = [0, ascending.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] < text) low = middle + 1;
    else high = middle;
  }
  return low;
}
