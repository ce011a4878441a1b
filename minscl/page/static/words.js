"use strict";
/* The words of a line of the Alphabetic Index or of a description, as search compares them: lookup/words.py in
   JavaScript, which says why. No DOM. Read next: word_index.js. */

const FUNCTION_WORDS = new Set(
  "an and as at by for from in is nec nos of on or the to with".split(" "),
);
// Words for what a code says where the note says no more.
const LIGHT_WORDS = new Set([
  ...FUNCTION_WORDS,
  ..."unspecified initial encounter closed displaced part site".split(" "),
]);
const WITHOUT = /\bwithout (?:loss of )?[^,]*?(?= of | in | on |,|$)/g;
const TITLE_CONNECTIVE = /^(?:with|in|due to|following|complicating|by|from|of|on|to)\b/;
const BRITISH = /(?<=..)our$|(?<!^)[ao]e(?=.)|^[ao]e/g;
const NUMERALS = { ii: "2", iii: "3", iv: "4" };
const WORD_ENDINGS = /(?<=....)(?:ation|ing|ine|ous|ed|al|ar|ic|um|us|is|a|e)$/;
const HYPHENATED = /[\p{L}\p{N}_]+(?:-[\p{L}\p{N}_]+)+/gu;
const POSSESSIVE = /['’]s?(?![\p{L}\p{N}_])/gu;
// Column of a table → [its essential words, synonyms]: what the Index calls the column where it refers to the table.
const COLUMN_WORDS = {
  "Malignant Primary": ["malignant", "primary cancer carcinoma adenocarcinoma"],
  "Malignant Secondary": ["secondary", "metastasis metastatic"],
  "Ca in situ": ["situ", "carcinoma ca in"],
  Benign: ["benign", "tumor"],
  "Uncertain Behavior": ["uncertain", "behavior tumor"],
  "Unspecified Behavior": ["unspecified", "behavior tumor"],
  "Poisoning Accidental (unintentional)": ["", "poisoning overdose accidental unintentional"],
  "Poisoning Intentional self-harm": ["", "poisoning overdose intentional self-harm"],
  "Poisoning Assault": ["", "poisoning overdose assault"],
  "Poisoning Undetermined": ["", "poisoning overdose undetermined"],
};
const LETTERS = "abcdefghijklmnopqrstuvwxyz";

/* The vocabulary: each word, in its compared form, has a number. */
class Words {
  constructor() {
    this.numbers = new Map(); // compared form → number
    this.names = []; // number → compared form
    this._written = new Map(); // folded word as written → number
    this._sorted = [];
    this._ofText = new Map([["", []]]); // parts of titles and descriptions repeat: read once
    this._ofStem = new Map();
    this._ofTitle = new Map();
  }

  /* The numbers of the words of `text`, in order; new words are added. */
  of(text) {
    let numbers = this._ofText.get(text);
    if (numbers === undefined) {
      numbers = splitWords(text).map((word) => this._number(word));
      this._ofText.set(text, numbers);
    }
    return numbers;
  }

  /* [the essential words of a title, its synonyms]. What follows a comma is another form where it begins alike
     ("Failure, failed"), else it says more ("Fracture, pathological"). */
  ofTitle(title) {
    let numbers = this._ofTitle.get(title);
    if (numbers !== undefined) return numbers;
    const essential = [];
    const synonyms = [];
    const parts = TITLE_CONNECTIVE.test(title) ? [title] : title.split(", ");
    parts.forEach((part, place) => {
      const [name, ...alternatives] = TITLE_CONNECTIVE.test(part) ? [part] : part.split(" or ");
      const isAlike = name.slice(0, 3).toLowerCase() === parts[0].slice(0, 3).toLowerCase();
      const isSynonym = place > 0 && (alternatives.length > 0 || isAlike);
      (isSynonym ? synonyms : essential).push(...this.of(name));
      for (const alternative of alternatives) synonyms.push(...this.of(alternative));
    });
    numbers = [essential, [...synonyms, ...this.joined(title)]];
    this._ofTitle.set(title, numbers);
    return numbers;
  }

  /* The hyphenated words of `text` as one word each: "Pre-eclampsia" is also "preeclampsia". */
  joined(text) {
    if (!text.includes("-")) return [];
    return this.of((text.match(HYPHENATED) || []).join(" ").replaceAll("-", ""));
  }

  /* No more words will be added. */
  freeze() {
    for (const [word, number] of this.numbers) {
      if (word.length <= 4) continue;
      const stem = wordStem(word);
      if (this._ofStem.has(stem)) this._ofStem.get(stem).push(number);
      else this._ofStem.set(stem, [number]);
    }
    this._ofText.clear();
    this._ofTitle.clear();
    this.names = [...this.numbers.keys()];
    this._sorted = [...new Set([...this._written.keys(), ...this.names])].sort();
  }

  /* The numbers of the words that share the stem of a folded word: "uterine" of "uterus". */
  related(word) {
    const compared = singular(word);
    return (compared.length > 4 && this._ofStem.get(wordStem(compared))) || [];
  }

  /* Word number → how much of the word (0..1) `beginning`, a folded word, is; for all words that begin so. */
  completions(beginning) {
    const completions = new Map();
    for (const spelling of new Set([beginning, toAmerican(beginning)])) {
      for (let place = this._firstFrom(spelling); place < this._sorted.length; place += 1) {
        const word = this._sorted[place];
        if (!word.startsWith(spelling)) break;
        const number = this._written.get(word) ?? this.numbers.get(word);
        completions.set(number, Math.max(completions.get(number) || 0, spelling.length / word.length));
      }
    }
    return completions;
  }

  /* The numbers of the words that differ from a folded word by one letter, or by two that changed places. */
  corrections(word) {
    const numbers = new Set();
    const add = (edit) => this._written.has(edit) && numbers.add(this._written.get(edit));
    for (let place = 0; place <= word.length; place += 1) {
      const [first, second] = [word.slice(0, place), word.slice(place)];
      if (second) add(first + second.slice(1));
      if (second.length > 1) add(first + second[1] + second[0] + second.slice(2));
      for (const letter of LETTERS) {
        if (second) add(first + letter + second.slice(1));
        add(first + letter + second);
      }
    }
    return [...numbers].sort((one, other) => one - other);
  }

  _firstFrom(spelling) {
    let low = 0;
    let high = this._sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this._sorted[middle] < spelling) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  _number(word) {
    let number = this._written.get(word);
    if (number === undefined) {
      const compared = singular(word);
      number = this.numbers.get(compared);
      if (number === undefined) {
        number = this.numbers.size;
        this.numbers.set(compared, number);
      }
      this._written.set(word, number);
    }
    return number;
  }
}

/* The folded words of `text` without possessives: lower case, no accents. A hyphen separates words. */
function splitWords(text) {
  let folded = text.toLowerCase();
  if (/[^\0-\x7f]/.test(folded)) folded = folded.replaceAll("ß", "ss").normalize("NFKD").replace(/\p{M}/gu, "");
  if (/['’]/.test(folded)) folded = folded.replace(POSSESSIVE, "");
  return folded.match(/[\p{L}\p{N}]+/gu) || [];
}

/* The compared form of a folded word: one for singular and plural, British and American; not always English. */
function singular(word) {
  return word.length > 4 ? toAmerican(withoutPlural(word)) : NUMERALS[word] || withoutPlural(word);
}

function toAmerican(word) {
  return word.replace(BRITISH, (spelling) => (spelling === "our" ? "or" : "e"));
}

function withoutPlural(word) {
  if (word.length < 4 || !word.endsWith("s") || /(?:ss|us)$/.test(word)) return word;
  if (word.endsWith("ies")) return `${word.slice(0, -3)}y`;
  if (/(?:sses|ches|shes|xes)$/.test(word)) return word.slice(0, -2);
  if (word.endsWith("is")) return word.endsWith("sis") ? `${word.slice(0, -2)}e` : word; // stenosis and stenoses
  return word.slice(0, -1);
}

/* What a compared form has in common with its adjective or participle: "uter" of "uterus", "uterine". */
function wordStem(word) {
  return word.replace(WORD_ENDINGS, "");
}

/* [essential words, synonyms, modifiers] of an entry of the Index with the titles above it. */
function termWords(words, row, column) {
  row.titleWords ??= row.path.map((title) => words.ofTitle(title)); // read once for all columns
  const essential = [];
  const synonyms = [];
  if (column) {
    const [named, alike] = COLUMN_WORDS[column] || ["", column];
    essential.push(...words.of(named));
    synonyms.push(...words.of(alike));
  }
  const isNeoplasm = essential.length > 0; // the main term is "Neoplasm, neoplastic"
  if (isNeoplasm) synonyms.push(...words.of(row.path[0]));
  for (const [first, others] of isNeoplasm ? row.titleWords.slice(1) : row.titleWords) {
    essential.push(...first);
    synonyms.push(...others);
  }
  return [essential, synonyms, row.modifiers.flatMap((text) => words.of(text))];
}

/* [essential words, synonyms, modifiers] of a description or inclusion term. */
function descriptionWords(words, description) {
  const modifiers = [];
  let text = description;
  if (text.includes("(")) {
    for (const match of text.matchAll(/\(([^()]*)\)/g)) modifiers.push(...words.of(match[1]));
    text = text.replace(/\(([^()]*)\)/g, "");
  }
  if (text.includes("without")) {
    // the default where the note does not say: as if in parentheses
    for (const match of text.match(WITHOUT) || []) modifiers.push(...words.of(match));
    text = text.replace(WITHOUT, "");
  }
  const essential = text.split(", ").flatMap((part) => words.of(part));
  const isCancer = text.includes("alignant neoplasm") && !text.includes("econdary");
  const synonyms = isCancer ? words.of("cancer carcinoma adenocarcinoma") : [];
  return [essential, [...words.joined(text), ...synonyms], modifiers];
}
