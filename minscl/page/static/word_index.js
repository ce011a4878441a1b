"use strict";
/* An inverted index: texts ranked by how well they fit the words of a query. lookup/word_index.py in JavaScript, which
   says why. No DOM. Read next: agreement.js. */

const MAX_SCORED = 1000; // texts scored in a query
const MAX_OF_COMPLETION = 60; // texts looked at for each word that completes a query of one
const MAX_VISITED = 6000; // texts looked at for a query of which few have all words
const MAX_PARTIAL = 300; // of which those with most of the query are scored
const MIN_RECALL = 0.5; // of texts that lack words of the query
const MIN_BEGINNING = 5; // letters of a beginning that is completed although the query is complete
const FEW_TEXTS = 5; // with all words; where there are fewer, those that lack words are looked for too
// What a word counts for the precision, the recall, and the precision where the query has only its beginning.
const KIND_SHARES = [
  [1.0, 1.0, 1.0], // essential
  [0.95, 1.0, 0.5], // synonym
  [0.3, 0.9, 0.3], // modifier
];

/* `add` all texts, exhaust `freeze()`, then `ranked`. */
class WordIndex extends WordTexts {
  /* The texts that fit `written`, distinct folded words, as fits {rank, score, precision, recall, added, lacking}; best
     first. First those with all words; then those with a word that the last one begins; then those that lack words. */
  ranked(written, isComplete, limit) {
    const concepts = this.concepts(written);
    const fits = new Map();
    const isKnown = concepts.map((concept) => concept.size > 0);
    if (concepts.length && isKnown.every(Boolean)) this._addFits(fits, this._withAll(concepts), concepts, new Map());
    const last = concepts.length - 1;
    const isUnknownBeginning = last >= 0 && !isKnown[last] && written[written.length - 1].length >= MIN_BEGINNING;
    const mayComplete = last >= 0 && (!isComplete || isUnknownBeginning) && isKnown.slice(0, last).every(Boolean);
    if (mayComplete && fits.size < limit) {
      const before = concepts.slice(0, last);
      const completions = new Map();
      for (const [word, part] of this.words.completions(written[written.length - 1])) {
        if (!before.some((concept) => concept.has(word))) completions.set(word, part * this._weights[word]);
      }
      const ranks = this._required(before).length ? this._withAll(before, completions) : this._lightest(completions);
      this._addFits(fits, ranks, before, completions);
    }
    if (fits.size < FEW_TEXTS && concepts.length > 1 && isKnown.some(Boolean)) {
      const ranks = this._withSome(concepts);
      for (const least of [MIN_RECALL, MIN_RECALL / 2]) {
        this._addFits(fits, ranks, concepts, new Map(), least);
        if (fits.size) break;
      }
    }
    return [...fits.values()].sort((fit, other) => other.score - fit.score || fit.rank - other.rank);
  }

  /* The weight of a word of a query; the greatest of all for one that no text has. */
  _weight(concept) {
    if (!concept.size) return Math.log(this._sources.length);
    const best = Math.max(...concept.values());
    return Math.max(...[...concept].filter(([, part]) => part === best).map(([word]) => this._weights[word]));
  }

  /* How the texts at `ranks` fit the words of the query and the best one of `completions` (word → weight). */
  _addFits(fits, ranks, concepts, completions, least = MIN_RECALL) {
    const weights = concepts.map((concept) => this._weight(concept));
    const total = sumOf(weights);
    const query = new Map();
    concepts.forEach((concept, place) => {
      for (const [word, part] of concept) {
        if (part > (query.get(word)?.part || 0)) query.set(word, { part, weight: part * weights[place], place });
      }
    });
    const named = new Float64Array(concepts.length);
    const matched = new Float64Array(concepts.length);
    for (const rank of ranks.slice(0, MAX_SCORED)) {
      if (fits.has(rank)) continue;
      const text = this._order[rank];
      let completed = 0;
      named.fill(0);
      matched.fill(0);
      for (let kind = 0; kind < 3; kind += 1) {
        const [naming, matching, completing] = KIND_SHARES[kind];
        const end = this._starts[3 * text + kind + 1];
        for (let token = this._starts[3 * text + kind]; token < end; token += 1) {
          const word = this._tokens[token];
          const asked = query.get(word);
          if (asked) {
            named[asked.place] = Math.max(named[asked.place], naming * asked.part * this._weights[word]);
            matched[asked.place] = Math.max(matched[asked.place], matching * asked.weight);
          } else if (completions.has(word)) {
            completed = Math.max(completed, completing * completions.get(word));
          }
        }
      }
      const precision = Math.min(1, (sumOf(named) + completed) / Math.max(this._textWeights[text], LIGHT_WEIGHT));
      const recall = total ? Math.min(1, sumOf(matched) / total) : 1;
      if (recall < least || precision <= 0) continue;
      const lacking = []; // {place in the query, share of its weight} of the words it lacks
      matched.forEach((share, place) => share || lacking.push({ place, share: weights[place] / total }));
      const added = this._added[text];
      const score = Math.round((fitScore(precision, recall) + added) * 1e5) / 1e5;
      fits.set(rank, { rank, score, precision, recall, added, lacking });
    }
  }

  /* Those that are no function words. */
  _required(concepts) {
    return concepts.filter((concept) => [...concept.keys()].some((word) => !this._functionWords.has(word)));
  }

  /* The first MAX_SCORED ranks of texts with a word of each concept, function words apart, and with one of
     `completions`, if given; ascending. The rarest of these leads: tens of thousands of texts have "encounter". */
  _withAll(concepts, completions = null) {
    const required = this._required(concepts);
    const needed = [...(required.length ? required : concepts), ...(completions ? [completions] : [])];
    const size = (words) => sumOf([...words.keys()].map((word) => this._posting(word).length));
    const [rarest, ...others] = needed
      .map((words) => ({ words, size: size(words) }))
      .sort((one, other) => one.size - other.size)
      .map(({ words }) => words);
    const ranks = [];
    for (const rank of mergedRanks([...rarest.keys()].map((word) => this._posting(word)))) {
      if (others.every((words) => this._hasWordOf(this._order[rank], words))) ranks.push(rank);
      if (ranks.length === MAX_SCORED) break;
    }
    return ranks;
  }

  _hasWordOf(text, words) {
    return this.tokensOf(text).some((word) => words.has(word));
  }

  /* The ranks of the lightest texts with a word of `completions`, ascending. */
  _lightest(completions) {
    return mergedRanks([...completions.keys()].map((word) => this._posting(word).subarray(0, MAX_OF_COMPLETION)));
  }

  /* The ranks of the texts that fit best by the words that they share, as far as the rarer words tell. */
  _withSome(concepts) {
    const weights = new Map();
    for (const concept of concepts) {
      for (const [word, part] of concept) weights.set(word, part * this._weight(concept));
    }
    const frequency = (word) => this._postingStarts[word + 1] - this._postingStarts[word];
    const rarest = [...weights.keys()].sort((word, other) => frequency(word) - frequency(other) || word - other);
    const shared = (this._shared ??= new Float64Array(this._order.length)); // rank → weight of the query's words in it
    const met = [];
    let visits = MAX_VISITED;
    for (const word of rarest) {
      const posting = this._posting(word).subarray(0, visits);
      visits -= posting.length;
      for (const rank of posting) {
        if (!shared[rank]) met.push(rank);
        shared[rank] += weights.get(word);
      }
    }
    const total = sumOf(concepts.map((concept) => this._weight(concept)));
    const ranks = Uint32Array.from(met).sort();
    // fitScore's order: precision is shared / weight of the text, recall is shared / total
    const scores = Float64Array.from(ranks, (rank) => {
      const weight = shared[rank];
      return (-weight * weight) / (Math.max(this._textWeights[this._order[rank]], weight) + total);
    });
    for (const rank of ranks) shared[rank] = 0; // for the next query
    if (ranks.length <= MAX_PARTIAL) return ranks;
    const last = scores.slice().sort()[MAX_PARTIAL - 1];
    let ties = MAX_PARTIAL - scores.filter((score) => score < last).length;
    return ranks.filter((_, place) => scores[place] < last || (scores[place] === last && ties-- > 0));
  }
}

/* The harmonic mean of both, times the recall once more. */
function fitScore(precision, recall) {
  return (2 * precision * recall ** 2) / (precision + recall);
}

function sumOf(numbers) {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
}

/* The numbers of ascending arrays, each once, ascending. */
function mergedRanks(postings) {
  if (postings.length === 1) return postings[0];
  const ranks = new Uint32Array(sumOf(postings.map((posting) => posting.length)));
  let size = 0;
  for (const posting of postings) {
    ranks.set(posting, size);
    size += posting.length;
  }
  return ranks.sort().filter((rank, place) => !place || rank !== ranks[place - 1]);
}
