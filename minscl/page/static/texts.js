"use strict";
/* Texts as sets of weighted words: what they are, which words they have, and in which texts a word is. lookup/texts.py
   in JavaScript. No DOM. Read next: word_index.js, which ranks them.

   A *rank* is a text's number in order of its weight, the lightest first. Typed arrays hold the words. */

const RELATED = 0.8; // how well "uterine" stands for "uterus"
const MISSPELT = 0.7; // how well "asthma" stands for "astma"
const MIN_MISSPELT = 5; // letters that such a word has
const LIGHT_WEIGHT = 0.1;

/* `add` all texts, then exhaust `freeze()`. */
class WordTexts {
  constructor() {
    this.words = new Words();
    this._sources = [];
    this._added = []; // each text's addition to its score
    this._tokens = []; // word numbers of all texts, each text's three kinds one after another
    this._starts = [0]; // of each kind of each text, three a text
    this._lastTexts = []; // word → the last text that has it, from 1
    this._phrases = new Map(); // initials → phrases(); a query is read again at each key
  }

  /* Add a text. `source`: what it is, the caller's. A word counts once, as the first kind that it is. */
  add(source, addition, kinds) {
    this._sources.push(source);
    this._added.push(addition);
    const text = this._sources.length;
    for (const kind of kinds) {
      for (const word of kind) {
        if (this._lastTexts[word] === text) continue;
        this._lastTexts[word] = text;
        this._tokens.push(word);
      }
      this._starts.push(this._tokens.length);
    }
  }

  /* A generator that yields between its parts: weighs the words and lists for each the texts that have it. */
  *freeze() {
    this.words.freeze();
    yield;
    const numbers = (words) => new Set([...words].map((word) => this.words.numbers.get(singular(word)) ?? -1));
    this.light = numbers(LIGHT_WORDS);
    this._functionWords = numbers(FUNCTION_WORDS);
    const letters = this.words.names.map((name) => name.charCodeAt(0) % 128);
    const tokens = (this._tokens = new Uint32Array(this._tokens));
    const starts = (this._starts = new Uint32Array(this._starts));
    yield;
    const counts = new Uint32Array(this.words.names.length);
    const initials = new Uint8Array(tokens.length);
    for (let place = 0; place < tokens.length; place += 1) {
      counts[tokens[place]] += 1;
      initials[place] = letters[tokens[place]];
    }
    yield;
    this._initials = textOf(initials);
    yield;
    const size = this._sources.length;
    this._weights = Float64Array.from(counts, (count, word) =>
      this.light.has(word) ? LIGHT_WEIGHT : Math.log(size / count),
    );
    this._textWeights = new Float32Array(size);
    const keys = new Float64Array(size); // sorts by weight - addition, then by number, which it carries below 2 ** 20
    for (let text = 0; text < size; text += 1) {
      let weight = 0;
      const end = starts[3 * text + 1];
      for (let place = starts[3 * text]; place < end; place += 1) weight += this._weights[tokens[place]];
      this._textWeights[text] = weight;
      keys[text] = Math.round((weight - this._added[text] + 10) * 1e5) * 2 ** 20 + text;
    }
    yield;
    keys.sort();
    yield;
    this._order = new Uint32Array(size); // rank → text
    for (let rank = 0; rank < size; rank += 1) this._order[rank] = keys[rank] % 2 ** 20;
    yield;
    yield* this._fillPostings(counts);
  }

  source(rank) {
    return this._sources[this._order[rank]];
  }

  textAt(rank) {
    return this._order[rank];
  }

  /* What the first texts with a word, in its compared form, are. */
  sourcesWith(word, limit) {
    return Array.from(this._posting(this.words.numbers.get(word)).subarray(0, limit), (rank) => this.source(rank));
  }

  /* The essential words, synonyms and modifiers of a text. */
  kindsOf(text) {
    return [0, 1, 2].map((kind) =>
      this._tokens.subarray(this._starts[3 * text + kind], this._starts[3 * text + kind + 1]),
    );
  }

  /* All words of a text, each once. */
  tokensOf(text) {
    return this._tokens.subarray(this._starts[3 * text], this._starts[3 * text + 3]);
  }

  wordsOf(text) {
    return new Set(this.tokensOf(text));
  }

  /* What the folded words of a query stand for, each once: Map of word → how well; empty for an unknown word. */
  concepts(written) {
    const concepts = [];
    for (const word of written) {
      const number = this.words.numbers.get(singular(word));
      let concept = new Map(this.words.related(word).map((related) => [related, RELATED]));
      if (number !== undefined) concept.set(number, 1);
      if (!concept.size && word.length >= MIN_MISSPELT && !this.words.completions(word).size) {
        concept = new Map(this.words.corrections(word).map((other) => [other, MISSPELT]));
      }
      if (!concept.size || concepts.every((other) => !haveSameKeys(concept, other))) concepts.push(concept);
    }
    return concepts;
  }

  /* The phrases of essential words with these initials, between light words or a text's ends → how many. */
  phrases(initials) {
    if (!this._phrases.has(initials)) this._phrases.set(initials, this._findPhrases(initials));
    return this._phrases.get(initials);
  }

  _findPhrases(initials) {
    const phrases = new Map();
    const { length } = initials;
    let start = this._initials.indexOf(initials);
    for (; start >= 0; start = this._initials.indexOf(initials, start + length)) {
      if (!this._isPhrase(start, start + length)) continue;
      const words = Array.from(this._tokens.subarray(start, start + length), (word) => this.words.names[word]);
      const phrase = words.join(" ");
      phrases.set(phrase, (phrases.get(phrase) || 0) + 1);
    }
    return phrases;
  }

  *_fillPostings(counts) {
    const [tokens, starts] = [this._tokens, this._starts];
    this._postingStarts = new Uint32Array(counts.length + 1);
    counts.forEach((count, word) => (this._postingStarts[word + 1] = this._postingStarts[word] + count));
    const next = this._postingStarts.slice(0, -1);
    this._postings = new Uint32Array(tokens.length); // of each word its ranks, ascending
    for (let rank = 0; rank < this._order.length; rank += 1) {
      const text = this._order[rank];
      for (let place = starts[3 * text]; place < starts[3 * text + 3]; place += 1) {
        this._postings[next[tokens[place]]++] = rank;
      }
      if (rank % 20_000 === 0) yield;
    }
  }

  _posting(word) {
    return this._postings.subarray(this._postingStarts[word], this._postingStarts[word + 1]);
  }

  _isPhrase(start, end) {
    const kind = countBelow(this._starts, start + 1) - 1;
    if (kind % 3 || end > this._starts[kind + 1]) return false;
    for (let place = start; place < end; place += 1) if (this.light.has(this._tokens[place])) return false;
    return (
      (start === this._starts[kind] || this.light.has(this._tokens[start - 1])) &&
      (end === this._starts[kind + 1] || this.light.has(this._tokens[end]))
    );
  }
}

/* One character a byte: the browser searches strings faster than arrays. */
function textOf(bytes) {
  const parts = [];
  for (let place = 0; place < bytes.length; place += 8192) {
    parts.push(String.fromCharCode(...bytes.subarray(place, place + 8192)));
  }
  return parts.join("");
}

function haveSameKeys(map, other) {
  return map.size === other.size && [...map.keys()].every((key) => other.has(key));
}
