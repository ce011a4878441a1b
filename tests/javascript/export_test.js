"use strict";
/* Who is named in codes.csv, and what a code keeps when the note is coded again. */

const assert = require("node:assert");
const test = require("node:test");
const { loadScripts } = require("./scripts.js");

const evaluate = loadScripts("text.js", "state.js", "answer.js", "export.js");
const page = evaluate("({ newReview, perform, deciders, listedItems })", { crypto: globalThis.crypto });
const I10 = { code: "I10", description: "hypertension", evidence: [], score: 0.5 };

function newReview() {
  return page.newReview({ id: "n", text: "HTN.", codes: [I10] });
}

// Guards the first coder's name beside a code that a second one chose.
test("who changes an accepted code has decided it", () => {
  const review = newReview();
  const [{ key }] = page.listedItems(review.state);
  page.perform(review, "accept", { key }, "Alice");
  assert.equal(page.deciders(review).get(key).who, "Alice");
  page.perform(review, "change-code", { key, code: "I11.9", description: "heart disease" }, "Bob");
  assert.equal(page.deciders(review).get(key).who, "Bob");
});

// Guards principal diagnosis and present on admission, decided on a code that the new answer has too.
test("a code that is in the new answer keeps what was decided on it", () => {
  const review = newReview();
  const [{ key }] = page.listedItems(review.state);
  page.perform(review, "present-on-admission", { key, poa: "Y" }, "Alice");
  page.perform(review, "code-again", { codes: [I10, { ...I10, code: "E11.9" }], answer: {} }, "Alice");
  const poa = Object.fromEntries(page.listedItems(review.state).map((item) => [item.code, item.poa]));
  assert.deepEqual({ ...poa }, { I10: "Y", "E11.9": null });
});
