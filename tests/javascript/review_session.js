"use strict";
/* Random reviews: state.js against a naive replay, then what export.js makes of them, as JSON on stdout.

   test_page_state.py runs it and reads the exports with minscl's own readers.
   Usage: node review_session.js SESSIONS | --entries */

const assert = require("node:assert");
const { loadScripts, plain } = require("./scripts.js");

const evaluate = loadScripts("text.js", "state.js", "answer.js", "export.js", "log.js");
const page = evaluate(
  `({ noteText, newReview, perform, listedItems, reviewedDocument, machineDocument, toJsonLines, codesCsv, readLog,
    entryProblem, PLANS })`,
  { crypto: globalThis.crypto },
);
const TEXT = '=cmd| 😀 Type 2 diabetes\r\nwith "neuropathy"; no chest\u200b pain 🩺, A1c 9.4\n';
const WORDS = ['Type 2 diabetes\r\nwith "neuropathy"', "😀 Type", "no chest\u200b pain 🩺", "A1c 9.4", "=cmd|"];
const CODES = ["E11.40", "E11.9", "I10", "R07.9", "Z79.4", "N18.9"];

/* A generator of numbers in [0, 1) that a seed repeats (mulberry32). */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/* A quotation with its place in code points, as Python counts. */
function quote(words) {
  const start = [...TEXT.slice(0, TEXT.indexOf(words))].length;
  return { text: words, start, end: start + [...words].length };
}

function newDocument(id) {
  const codes = CODES.slice(0, 3).map((code, index) => ({
    code,
    description: index ? `description of ${code}` : '@a "quoted", description',
    score: index / 4,
    rules: [],
    evidence: [
      { ...quote(WORDS[index]), grounded: true },
      { text: "not there", start: null, end: null, grounded: false },
    ],
  }));
  return { id, text: TEXT, codes };
}

/* What the machine says of the note when it is asked. */
function newAnswer(assignment) {
  const about = { about: "ICD-10-CM edition 2027; model demo", noCodes: "", ownWarnings: ["left out"] };
  const made = { edition: "2027", coded_with: { model: "demo" } };
  const answer = { codes: [assignment], warnings: ["left out"], ...made, ...about };
  return { codes: [assignment], answer };
}

function randomDetails(act, review, pick) {
  const key = pick(review.state.order);
  const target = pick([{ key }, {}]); // of evidence: a code, or none
  const code = { code: pick(CODES), description: 'another, "described"' };
  const details = {
    "add-code": { ...code, evidence: [quote(pick(WORDS))] },
    "change-code": { key, ...code },
    "add-evidence": { ...target, evidence: quote(pick(WORDS)) },
    "remove-evidence": { ...target, index: pick([0, 1]) },
    "present-on-admission": { key, poa: pick(["Y", "N", "U", "W", "exempt", null]) },
    move: { key, direction: pick([1, -1]) },
    "code-again": newAnswer({ ...code, evidence: [quote(pick(WORDS))], score: 0.5 }),
    finish: {},
    reopen: {},
    undo: {},
    redo: {},
  };
  return details[act] ?? { key };
}

/* Naive: every state is remembered whole, and undo and redo move a cursor over them. */
function playSession(seed, id) {
  const random = randomNumbers(seed);
  const pick = (values) => values[Math.floor(random() * values.length)];
  const acts = [...Object.keys(page.PLANS), "undo", "undo", "undo", "redo", "redo", "reopen", "reopen"];
  const review = page.newReview(newDocument(id));
  let states = [plain(review.state)];
  let cursor = 0;
  for (let step = 0; step < 150; step += 1) {
    const act = pick(acts);
    const before = plain(review.state);
    const { entry } = page.perform(review, act, randomDetails(act, review, pick), 'Ann, "A"');
    if (act === "undo" || act === "redo")
      cursor = Math.max(0, Math.min(states.length - 1, cursor + (act === "undo" ? -1 : 1)));
    else if (entry) {
      states = [...states.slice(0, cursor + 1), plain(review.state)];
      cursor += 1;
      assert.notDeepStrictEqual(plain(review.state), before, `${act} was logged without an effect`);
    }
    assert.deepStrictEqual(plain(review.state), states[cursor], `seed ${seed}, step ${step}: ${act}`);
  }
  const folded = page.newReview(newDocument(id), plain(review.entries));
  assert.deepStrictEqual(plain(folded.state), plain(review.state), "the log does not give the state");
  assert.deepStrictEqual(plain(folded.undone), plain(review.undone), "redo is lost by a reload");
  while (review.done.length) page.perform(review, "undo", {}, "Ann");
  assert.deepStrictEqual(plain(review.state), states[0], "undo does not lead back to the machine's document");
  return folded;
}

/* What an import must refuse, made of an entry that it takes. */
function checkImport(log, noteOf) {
  assert.deepStrictEqual(
    plain(page.readLog(log, noteOf, newDocument)).entries,
    log
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  );
  const good = log
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .find((entry) =>
      Object.values(entry.after.codes ?? {}).some((item) => item?.evidence.some(({ start }) => start !== null)),
    );
  const spoil = (change) => {
    const entry = plain(good);
    change(
      entry,
      Object.values(entry.after.codes).find((item) => item?.evidence.some(({ start }) => start !== null)),
    );
    return page.entryProblem(entry, noteOf);
  };
  assert.strictEqual(
    spoil(() => {}),
    "",
  );
  assert.match(
    spoil((_, item) => {
      item.evidence.find(({ start }) => start !== null).start -= 1;
    }),
    /not at its place/,
  );
  assert.match(
    spoil((entry) => {
      entry.document = "other";
    }),
    /not on this page/,
  );
  assert.match(
    spoil((entry) => {
      entry.act = "constructor";
    }),
    /does not know/,
  );
  assert.match(
    spoil((entry) => {
      entry.after.codes = JSON.parse('{"__proto__": null}');
    }),
    /cannot read/,
  );
  assert.match(
    spoil((_, item) => {
      item.decision = "perhaps";
    }),
    /cannot read/,
  );
  for (const answer of [{}, { codes: [{ code: "I10", evidence: 1 }] }, { codes: [], coded_with: { model: 1 } }]) {
    assert.match(
      spoil((entry) => {
        entry.after.answer = answer;
      }),
      /cannot read/,
    );
  }
  const elsewhere = [{ ...quote(WORDS[0]), start: 1 }];
  assert.match(
    spoil((entry) => {
      entry.after.answer = { codes: [{ code: "I10", evidence: elsewhere }] };
    }),
    /not at its place/,
  );
  assert.match(
    spoil((entry) => {
      entry.after.evidence = elsewhere;
    }),
    /not at its place/,
  );
  const otherCodes = (id) => {
    const document = newDocument(id);
    document.codes.reverse();
    return document;
  };
  const fewerCodes = (id) => ({ ...newDocument(id), codes: newDocument(id).codes.slice(0, 2) });
  for (const documentOf of [otherCodes, fewerCodes]) {
    assert.match(page.readLog(log, noteOf, documentOf).problem, /other codes than this page's/);
  }
  assert.match(page.readLog("{", noteOf, newDocument).problem, /^Line 1 is not JSON/);
}

if (process.argv[2] === "--entries") {
  // entries as JSON on stdin → what is wrong with each
  const note = page.noteText(TEXT);
  const entries = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
  process.stdout.write(JSON.stringify(entries.map((entry) => page.entryProblem(entry, () => note))));
  process.exit();
}

const PAGE = { edition: "2027", date: "2026-11-02" };
const reviews = [];
for (let seed = 1; seed <= Number(process.argv[2]); seed += 1) reviews.push(playSession(seed, `=note ${seed}`));
// a note that nobody has coded, coded, undone, and coded again by the page's model
const uncoded = page.newReview({ id: "=note 0", text: TEXT, codes: [] });
const first = { code: CODES[0], description: "first", evidence: [quote(WORDS[0])], score: 0.5 };
page.perform(uncoded, "code-again", newAnswer(first), "Ann");
page.perform(uncoded, "undo", {}, "Ann");
page.perform(uncoded, "code-again", newAnswer({ ...first, description: "second" }), "Ann");
const log = page.toJsonLines(reviews.flatMap((review) => review.entries));
const note = page.noteText(TEXT);
checkImport(log, (id) => (id.startsWith("=note ") ? note : undefined));
process.stdout.write(
  JSON.stringify({
    log,
    reviewed: page.toJsonLines(reviews.map((review) => page.reviewedDocument(review, PAGE))),
    machine: reviews.map(page.machineDocument),
    uncoded: page.machineDocument(uncoded),
    csv: page.codesCsv(reviews, (code) => code === "Z79.4", PAGE),
    items: reviews.map((review) => page.listedItems(review.state)),
  }),
);
