"use strict";
/* What the page sends to the server, and what it does where the server refuses it. */

const assert = require("node:assert");
const test = require("node:test");
const { loadScripts, plain } = require("./scripts.js");

/* A ServerStore; `answer(body)` is the status that the server gives to a request. */
function newStore(answer) {
  const [requests, said, refused, taken] = [[], [], [], []];
  const evaluate = loadScripts("text.js", "state.js", "export.js");
  evaluate("0", {
    crypto: globalThis.crypto,
    TextEncoder,
    clearTimeout,
    setTimeout: () => 0, // nothing is tried again
    fetch: async (_, { body }) => {
      requests.push(JSON.parse(body));
      const status = answer(requests.at(-1), body);
      return { ok: status === 200, status, text: async () => `status ${status}` };
    },
  });
  const fs = require("node:fs");
  evaluate(fs.readFileSync(`${__dirname}/../../minscl/page/static/store.js`, "utf8"));
  const handlers = {
    onStatus: (text) => said.push(text),
    onTaken: (id) => taken.push(id),
    onRefused: (id, reason) => refused.push([id, reason]),
  };
  const store = evaluate("new ServerStore({ token: '' }, handlers)", { handlers });
  return { store, requests, said, refused, taken, evaluate };
}

/* A review of `id` with so many entries, each of about so many characters. */
function newReviewOf(evaluate, id, count, characters = 10) {
  const entries = Array.from({ length: count }, (_, number) => ({
    entry: `${id}-${number}`,
    act: "accept",
    document: id,
    before: {},
    after: {},
    code: "é".repeat(characters),
    undoes: null,
  }));
  return evaluate("newReview(value, entries)", { value: { id, text: "", codes: [] }, entries });
}

/* Once all that can be sent is sent. */
async function settled(store) {
  for (let turn = 0; turn < 1000 && (turn < 3 || store.isSending); turn += 1) await new Promise(setImmediate);
}

const idsOf = (requests) => requests.flatMap(({ entries }) => entries.map(({ entry }) => entry));

test("a long log is cut by bytes, and halved where the server still finds it too large", async () => {
  // guards one import of a few megabytes after which nothing is saved any more
  const limit = 300_000;
  const { store, requests, said, evaluate } = newStore((_, body) => (body.length > limit ? 413 : 200));
  const review = newReviewOf(evaluate, "a", 60, 50_000); // 100,000 bytes each
  store.keep(review, review.entries);
  await settled(store);
  assert.ok(requests.every(({ entries }) => JSON.stringify(entries).length < 1_100_000)); // characters of two bytes
  const answered = requests.filter((request) => JSON.stringify(request).length <= limit);
  assert.deepStrictEqual(idsOf(answered), plain(review.entries).map(({ entry }) => entry));
  assert.deepStrictEqual([said.at(-1), store.unsaved], ["Saved", 0]);
});

test("each request names the last entry that the server has", async () => {
  // guards a tab that sends on, although another one has decided since
  const { store, requests, evaluate } = newStore(() => 200);
  const review = newReviewOf(evaluate, "a", 450);
  store.keep(review, review.entries.slice(1)); // the first came with the page
  await settled(store);
  assert.deepStrictEqual(
    requests.map(({ after }) => after),
    ["a-0", "a-200", "a-400"],
  );
  assert.strictEqual(store.lastKept(review), "a-449");
});

for (const status of [400, 413]) {
  test(`a note that the server refuses with ${status} is set aside, and the others are saved`, async () => {
    // guards one bad entry that blocks all notes for ever
    const { store, requests, said, refused, evaluate } = newStore(({ document }) => (document === "a" ? status : 200));
    const [bad, good] = ["a", "b"].map((id) => newReviewOf(evaluate, id, 1));
    store.keep(bad, bad.entries);
    await settled(store);
    store.keep(good, good.entries);
    await settled(store);
    assert.deepStrictEqual(idsOf(requests), ["a-0", "b-0"]);
    assert.deepStrictEqual(refused, [["a", `status ${status}`]]);
    assert.strictEqual(said.at(-1), "Not saved (1): the server refuses them");
  });
}

test("where the server fails at one note, the next try begins with another", async () => {
  // guards a failure of one note that all others wait for
  const { store, requests, said, evaluate } = newStore(({ document }) => (document === "a" ? 500 : 200));
  const [bad, good] = ["a", "b"].map((id) => newReviewOf(evaluate, id, 1));
  store.keep(bad, bad.entries);
  await settled(store);
  store.keep(good, good.entries);
  await settled(store);
  await store.send();
  assert.deepStrictEqual(idsOf(requests), ["a-0", "a-0", "b-0", "a-0"]);
  assert.match(said.at(-1), /^Not saved \(1\): status 500/);
});
