"use strict";
/* How well a code's own description agrees with a query, and what abbreviations stand for: lookup/agreement.py and
   lookup/abbreviations.py in JavaScript, which say why. No DOM. Read next: search.js. */

// Words of a description that make it say what a query without them does not mean → what this costs.
const SPECIAL_COSTS = {
  family: 0.4,
  sequela: 0.1,
  subsequent: 0.1,
  history: 0.1,
  nontraffic: 0.05,
  newborn: 0.08,
  neonatal: 0.08,
  pregnancy: 0.08,
  childbirth: 0.08,
  puerperium: 0.08,
};
const OPPOSITES = { left: "right", right: "left", open: "closed", lower: "upper", upper: "lower" };
const CONTRADICTION = 0.4;
const DESCRIPTION_BONUS = 0.1; // where the description has the query's words and no others
// What a word counts that only the description has: of the code that the line leads to, of one below chosen so.
const SUPPLIED = 0.4;
const CHOSEN = 0.95;
const SPECIFIED_COST = 0.15; // of "specified NEC" in a line
const OTHER_COST = 0.03; // of a description that begins with "other"
const BRACKETED = /[[(]([A-Z][A-Za-z]{1,6})[\])]/g;
const DOMINANT = 5; // times as many lines as for any other phrase
const PHRASE_CONNECTIVES = new Set( // index_phrases.CONNECTIVE
  (
    "with without in of by from during after following associated complicating to for on at caused resulting " +
    "involving affecting not as and or between within into through under against causing requiring since until when " +
    "where while that which who than manifested except because per plus type stage grade class level"
  ).split(" "),
);

/* A query, as distinct folded words, compared with descriptions: texts of `index`. */
class Agreement {
  constructor(index, written) {
    const { numbers } = index.words;
    const numbered = (object, value) =>
      new Map(Object.keys(object).filter((word) => numbers.has(word)).map((word) => [numbers.get(word), value(word)]));
    this._index = index;
    this._concepts = index.concepts(written);
    this._query = new Set(this._concepts.flatMap((concept) => [...concept.keys()]));
    this._special = numbered(SPECIAL_COSTS, (word) => SPECIAL_COSTS[word]);
    this._opposite = numbered(OPPOSITES, (word) => numbers.get(OPPOSITES[word]));
    [this._other, this._specified, this._without] = ["other", "specified", "without"].map(
      (word) => numbers.get(word) ?? -1,
    );
  }

  /* The score of a line that leads to the code with this description, or to a heading above it (`isChosen`). */
  score(fit, description, isBillable, isChosen = false) {
    const index = this._index;
    const [essential, synonyms, modifiers] = index.kindsOf(description);
    const words = new Set([...essential, ...synonyms]);
    const supplied = sumOf(
      fit.lacking.filter(({ place }) => sharesKey(this._concepts[place], words)).map(({ share }) => share),
    );
    const recall = Math.min(1, fit.recall + (isChosen ? CHOSEN : SUPPLIED) * supplied);
    let cost = 0;
    for (const [word, price] of this._special) if (words.has(word) && !this._query.has(word)) cost += price;
    const line = index.wordsOf(index.textAt(fit.rank));
    if (line.has(this._specified) && !this._query.has(this._specified)) cost += SPECIFIED_COST;
    if (essential[0] === this._other && !this._query.has(this._other)) cost += OTHER_COST;
    for (const [word, other] of this._opposite) {
      if (words.has(word) && !words.has(other) && this._query.has(other) && !this._query.has(word)) {
        cost += CONTRADICTION;
      }
    }
    if (modifiers.includes(this._without) && !this._query.has(this._without)) {
      const isDenied = (word) => !words.has(word) && !index.light.has(word) && this._query.has(word);
      if (modifiers.some(isDenied)) cost += CONTRADICTION;
    }
    const naming = [...essential].filter((word) => !index.light.has(word));
    const asked = this._concepts.filter((concept) => !this._isLight(concept));
    const named = naming.filter((word) => this._query.has(word)).length;
    const isComparable = naming.length && asked.length && isBillable;
    const agreement = isComparable ? (2 * named) / (naming.length + asked.length) : 0;
    return fitScore(fit.precision, recall) + fit.added + DESCRIPTION_BONUS * agreement - cost;
  }

  /* The words of the query that the line lacks, those that say nothing ("unspecified") apart. */
  rest(fit) {
    const lacking = fit.lacking.map(({ place }) => this._concepts[place]);
    return lacking.filter((concept) => concept.size && !this._isLight(concept));
  }

  /* [how many words of `rest` a description has, minus the number of its words that nothing asks for]. */
  fitBelow(rest, context, description) {
    const words = this._index.tokensOf(description);
    const named = rest.filter((concept) => words.some((word) => concept.has(word))).length;
    const isExtra = (word) => !this._index.light.has(word) && !context.has(word) && !this._query.has(word);
    return [named, named && -words.filter(isExtra).length]; // most codes below have none of the rest
  }

  _isLight(concept) {
    return [...concept.keys()].every((word) => this._index.light.has(word));
  }
}

function sharesKey(concept, words) {
  for (const word of concept.keys()) if (words.has(word)) return true;
  return false;
}

/* `learn` all texts of the List, then `expand` words. */
class Abbreviations {
  /* `clinical`: Map of what clinicians write and the books do not print → words of the books. */
  constructor(clinical) {
    this._clinical = clinical;
    this._printed = new Map(); // abbreviation → Map of phrase → how often
  }

  /* Take in what is printed in brackets after the words whose initials it is. */
  learn(text) {
    if (!text.includes("(") && !text.includes("[")) return;
    for (const match of text.matchAll(BRACKETED)) {
      if (match[1].replace(/[^A-Z]/g, "").length < 2) continue;
      const abbreviation = match[1].toLowerCase();
      const before = splitWords(text.slice(0, match.index));
      for (let length = 2; length < 9 && length <= before.length; length += 1) {
        const words = before.slice(-length);
        const initials = words.filter((word) => !FUNCTION_WORDS.has(word)).map((word) => word[0]);
        if (FUNCTION_WORDS.has(words[0]) || initials.join("") !== abbreviation) continue;
        if (!this._printed.has(abbreviation)) this._printed.set(abbreviation, new Map());
        const phrases = this._printed.get(abbreviation);
        phrases.set(words.join(" "), (phrases.get(words.join(" ")) || 0) + 1);
        break;
      }
    }
  }

  has(word) {
    return this._clinical.has(word);
  }

  /* The words that a folded word stands for; [] if nothing tells. `phrases`: those with its initials → how many. */
  expand(word, phrases) {
    const mostCommon = (counts) => [...counts].sort((one, other) => other[1] - one[1]);
    const printed = this._printed.get(word);
    if (printed) return mostCommon(printed)[0][0].split(" ");
    if (this._clinical.has(word)) return splitWords(this._clinical.get(word));
    const isNoun = ([phrase]) => !phrase.split(" ").some((part) => PHRASE_CONNECTIVES.has(part));
    const [first, second] = mostCommon([...phrases].filter(isNoun));
    return first && (!second || first[1] >= DOMINANT * second[1]) ? first[0].split(" ") : [];
  }
}
