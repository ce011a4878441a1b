"use strict";
/* A document under review: the machine's document, then the `after` of each log entry in order. No DOM.

   document + entries → newReview → { state, entries, done, undone }; perform() plans an act, appends its entry and
   folds it. Every entry holds the part of the state that it changed, before and after: undo is the entry turned round.
   Offsets are code points, as in Python. Read next: note_view.js and code_view.js, which show a state. */

/**
 * @typedef {{text: string, start: number|null, end: number|null, grounded?: boolean, assertion?: string}} Evidence
 * @typedef {{key: string, code: string, description: string, evidence: Evidence[], score: number|null,
 *   rules: string[]|null, decision: "undecided"|"accepted"|"rejected", added: boolean, principal: boolean,
 *   poa: "Y"|"N"|"U"|"W"|"exempt"|null}} Item
 * @typedef {{codes: Object<string, Item>, order: string[], finished: boolean, answer: Answer|null,
 *   evidence: Evidence[]}} State answer: the machine's latest, as answer.js has it; evidence: without a code
 * @typedef {{codes?: Object<string, Item|null>, order?: string[], finished?: boolean, answer?: Answer|null,
 *   evidence?: Evidence[]}} Patch
 * @typedef {{entry: string, at: string, who: string, document: string, act: string, code: string|null, before: Patch,
 *   after: Patch, undoes: string|null}} Entry
 * @typedef {{document: Object, state: State, entries: Entry[], ids: Set<string>,
 *   done: Entry[], undone: Entry[]}} Review
 */

const POA_VALUES = ["Y", "N", "U", "W"];
const FINISHED = "This note is finished. Press F to reopen it.";

/** The state that the machine's document is in before any decision. @returns {State} */
function initialState(document) {
  const items = document.codes.map((assignment, position) => newItem(String(position), assignment));
  return { codes: byKey(items), order: items.map((item) => item.key), finished: false, answer: null, evidence: [] };
}

/** An undecided item of an assignment (DESIGN section 3), as the machine gives it. @returns {Item} */
function newItem(key, assignment) {
  return {
    key,
    code: assignment.code,
    description: assignment.description,
    evidence: assignment.evidence.map((evidence) => ({ ...evidence })),
    score: assignment.score ?? null,
    rules: assignment.rules ?? null,
    decision: "undecided",
    added: false,
    principal: false,
    poa: null,
  };
}

/** A document with its entries folded. @returns {Review} */
function newReview(document, entries = []) {
  const review = { document, state: initialState(document), entries: [], ids: new Set(), done: [], undone: [] };
  for (const entry of entries) appendEntry(review, entry);
  return review;
}

/** Fold one entry into `review`; false if it is there already. @returns {boolean} */
function appendEntry(review, entry) {
  if (review.ids.has(entry.entry)) return false;
  review.ids.add(entry.entry);
  review.entries.push(entry);
  review.state = applyPatch(review.state, entry.after);
  if (entry.act === "undo") {
    review.done = review.done.filter((earlier) => earlier.entry !== entry.undoes);
    review.undone.push(entry);
  } else {
    review.undone = entry.act === "redo" ? review.undone.filter((earlier) => earlier.entry !== entry.undoes) : [];
    review.done.push(entry);
  }
  return true;
}

/** `state` with the members of `patch`; `null` for an item takes it away. The order always names every item once. */
function applyPatch(state, patch) {
  const codes = { ...state.codes };
  for (const [key, item] of Object.entries(patch.codes ?? {})) {
    if (item === null) delete codes[key];
    else codes[key] = item;
  }
  const order = [...new Set(patch.order ?? state.order)].filter((key) => Object.hasOwn(codes, key));
  const missing = Object.keys(codes).filter((key) => !order.includes(key));
  const { finished, answer, evidence } = { ...state, ...patch };
  return { codes, order: [...order, ...missing], finished, answer, evidence };
}

/** The items as they are listed: the principal diagnosis first, then in order. @returns {Item[]} */
function listedItems(state) {
  const items = state.order.map((key) => state.codes[key]);
  return [...items.filter((item) => item.principal), ...items.filter((item) => !item.principal)];
}

/** How far a document is decided. @returns {{decided: number, total: number}} */
function progressOf(state) {
  const items = Object.values(state.codes);
  return { decided: items.filter((item) => item.decision !== "undecided").length, total: items.length };
}

/**
 * Do one act: plan it, append its entry and fold it.
 * @param {Review} review
 * @param {string} act one of the contract's acts
 * @param {Object} details what the act needs: key, evidence, index, code, description, direction, poa, codes, answer
 * @param {string} who the reviewer's name
 * @returns {{entry?: Entry, refused?: string}} neither where the act changes nothing
 */
function perform(review, act, details, who) {
  if (act === "undo" || act === "redo") return turnRound(review, act, who);
  const { state } = review;
  if (state.finished && act !== "reopen") return { refused: FINISHED };
  if (details.key !== undefined && !state.codes[details.key]) return { refused: "No code is in focus." };
  const { patch, refused } = PLANS[act](state, details);
  if (refused) return { refused };
  const after = changesOf(state, patch);
  if (!Object.keys(after).length) return {};
  const code = details.code ?? state.codes[details.key]?.code ?? null;
  return { entry: appendNew(review, { act, code, before: partOf(state, after), after, undoes: null }, who) };
}

/** The entry that an undo or a redo would turn round, and the item that it is about; undefined where there is none. */
function nextTurn({ done, undone, state }, act) {
  const last = (act === "undo" ? done : undone).at(-1);
  const keys = Object.keys(last?.before.codes ?? {}).filter((key) => state.codes[key]);
  return { last, item: keys.length === 1 ? state.codes[keys[0]] : itemWithCode(state, last?.code) };
}

function turnRound(review, act, who) {
  const { last } = nextTurn(review, act);
  if (!last) return { refused: `Nothing to ${act}.` };
  const { code, before, after, entry } = last;
  return { entry: appendNew(review, { act, code, before: after, after: before, undoes: entry }, who) };
}

function appendNew(review, { act, code, before, after, undoes }, who) {
  const at = new Date().toISOString();
  const entry = { entry: randomId("e"), at, who, document: review.document.id, act, code, before, after, undoes };
  appendEntry(review, entry);
  return entry;
}

/** The act that an entry stands for: an undo or redo leads back to what it turned round. @returns {Entry} */
function originalEntry(review, entry) {
  let original = entry;
  while (original.undoes) {
    const earlier = review.entries.find((other) => other.entry === original.undoes);
    if (!earlier) break;
    original = earlier;
  }
  return original;
}

/* What each act changes: (state, details) → { patch } or { refused: a sentence for the coder }. */
const PLANS = {
  accept: (state, { key }) => change(state, key, { decision: "accepted" }),
  reject: (state, { key }) => change(state, key, { decision: "rejected", principal: false }),
  undecide: (state, { key }) => change(state, key, { decision: "undecided" }),
  "add-code": planAddCode,
  "change-code": planChangeCode,
  "add-evidence": planAddEvidence,
  "remove-evidence": (state, { key, index }) =>
    changeEvidence(state, key, (evidence) => evidence.filter((_, position) => position !== index)),
  principal: planPrincipal,
  "present-on-admission": (state, { key, poa }) => change(state, key, { poa }),
  move: planMove,
  "code-again": planCodeAgain,
  finish: () => ({ patch: { finished: true } }),
  reopen: () => ({ patch: { finished: false } }),
};

function change(state, key, fields) {
  return { patch: { codes: { [key]: { ...state.codes[key], ...fields } } } };
}

/* The evidence of an item; without a key, that which has no code. */
function evidenceOf(state, key) {
  return key === undefined ? state.evidence : state.codes[key].evidence;
}

function changeEvidence(state, key, changed) {
  const evidence = changed(evidenceOf(state, key));
  return key === undefined ? { patch: { evidence } } : change(state, key, { evidence });
}

function planAddCode(state, { code, description, evidence = [] }) {
  const same = itemWithCode(state, code);
  if (same) return { refused: `${code} is in the list already (${same.decision}).` };
  const item = { ...newItem(randomId("a"), { code, description, evidence }), decision: "accepted", added: true };
  return { patch: { codes: { [item.key]: item }, order: [...state.order, item.key] } };
}

/* The score and the rules were the old code's; a coder who names the code has accepted it. */
function planChangeCode(state, { key, code, description }) {
  const same = itemWithCode(state, code);
  if (same && same.key !== key) return { refused: `${code} is in the list already (${same.decision}).` };
  if (same) return { patch: {} };
  return change(state, key, { code, description, score: null, rules: null, decision: "accepted", poa: null });
}

function planAddEvidence(state, { key, evidence }) {
  const before = evidenceOf(state, key);
  if (before.some(({ start, end }) => start === evidence.start && end === evidence.end)) {
    return { refused: "This quotation is among the evidence already." };
  }
  const next = before.findIndex(({ start }) => start !== null && start > evidence.start);
  const position = next < 0 ? before.length : next; // quotations stay in the note's order
  return changeEvidence(state, key, () => [...before.slice(0, position), evidence, ...before.slice(position)]);
}

/* One principal diagnosis at most; the same key takes it away. */
function planPrincipal(state, { key }) {
  const item = state.codes[key];
  if (item.decision === "rejected") return { refused: `${item.code} is rejected; accept it first.` };
  const others = Object.values(state.codes).filter((other) => other.principal && other.key !== key);
  const changed = [{ ...item, principal: !item.principal }, ...others.map((other) => ({ ...other, principal: false }))];
  return { patch: { codes: byKey(changed) } };
}

function planMove(state, { key, direction }) {
  if (state.codes[key].principal) return { refused: "The principal diagnosis stays first." };
  const movable = state.order.filter((other) => !state.codes[other].principal);
  const neighbour = movable[movable.indexOf(key) + direction];
  if (neighbour === undefined) return { refused: direction < 0 ? "It is first already." : "It is last already." };
  const swapped = { [key]: neighbour, [neighbour]: key };
  return { patch: { order: state.order.map((other) => swapped[other] ?? other) } };
}

/* Decisions and added codes stay; undecided codes of the machine give way to its new answer. */
function planCodeAgain(state, { codes, answer }) {
  const stays = (item) => item.decision !== "undecided" || item.added;
  const remaining = Object.values(state.codes).filter(stays);
  const listed = new Set(remaining.map((item) => item.code));
  const added = codes.filter(({ code }) => !listed.has(code)).map((code) => {
    const { principal = false, poa = null } = itemWithCode(state, code.code) ?? {}; // decided before its code was
    return { ...newItem(randomId("m"), code), principal, poa };
  });
  const removed = state.order.filter((key) => !stays(state.codes[key]));
  const order = [...state.order.filter((key) => !removed.includes(key)), ...added.map((item) => item.key)];
  const changed = { ...Object.fromEntries(removed.map((key) => [key, null])), ...byKey(added) };
  return { patch: { codes: changed, order, answer } };
}

/** The item of `state` that has `code`, or undefined. @returns {Item|undefined} */
function itemWithCode(state, code) {
  return Object.values(state.codes).find((item) => item.code === code);
}

/* Those members of `patch` that differ from `state`. */
function changesOf(state, patch) {
  const isSame = (one, other) => JSON.stringify(one ?? null) === JSON.stringify(other ?? null);
  const codes = Object.entries(patch.codes ?? {}).filter(([key, item]) => !isSame(item, state.codes[key]));
  const changes = {};
  if (codes.length) changes.codes = Object.fromEntries(codes);
  if (patch.order && !isSame(patch.order, state.order)) changes.order = patch.order;
  if (patch.finished !== undefined && patch.finished !== state.finished) changes.finished = patch.finished;
  for (const name of ["answer", "evidence"]) {
    if (patch[name] !== undefined && !isSame(patch[name], state[name])) changes[name] = patch[name];
  }
  return changes;
}

/* The part of `state` that `patch` replaces. */
function partOf(state, patch) {
  const part = {};
  const keys = Object.keys(patch.codes ?? {});
  if (patch.codes) part.codes = Object.fromEntries(keys.map((key) => [key, state.codes[key] ?? null]));
  if (patch.order) part.order = state.order;
  for (const name of ["finished", "answer", "evidence"]) if (patch[name] !== undefined) part[name] = state[name];
  return part;
}

function byKey(items) {
  return Object.fromEntries(items.map((item) => [item.key, item]));
}

/** `prefix`, a hyphen and 12 random hexadecimal digits. @returns {string} */
function randomId(prefix) {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return `${prefix}-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
