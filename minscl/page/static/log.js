"use strict";
/* A decisions.jsonl, read back in: every member is checked, for what it says is folded into the review and, on a served
   page, must pass the same checks in minscl.page.entry. No DOM. Messages have no note text.

   Read next: store.js, where the log is kept. */

const KEY_SHAPE = /^(\d{1,9}|[a-z]-[0-9a-z]{1,40})$/; // no key is "__proto__"
const ENTRY_KEYS = ["entry", "at", "who", "document", "act", "code", "before", "after", "undoes"];
const CHANGE_KEYS = ["codes", "order", "finished", "answer", "evidence"];
const ITEM_KEYS = ["key", "code", "description", "evidence", "score", "rules", "decision", "added", "principal", "poa"];
const EVIDENCE_KEYS = ["text", "start", "end", "grounded", "assertion"];
const DECISIONS = ["undecided", "accepted", "rejected"];
const ASSERTIONS = [null, "denied", "family", "hypothetical", "historical", "affirmed"];
const TIME_SHAPE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
const MAX_NAME_LENGTH = 200; // characters, as in entry.py
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * The entries of a decisions.jsonl. A log is read whole or not at all.
 * @param {string} text the file
 * @param {(id: string) => Object|undefined} noteOf a note of this page by its id, as noteText() reads it
 * @param {(id: string) => Object|undefined} documentOf its document, with the machine's codes
 * @returns {{entries?: Entry[], problem?: string}} the problem names the line, and no note text
 */
function readLog(text, noteOf, documentOf) {
  const entries = [];
  const firstChanges = new FirstChanges(documentOf);
  for (const [index, line] of text
    .replace(/^\uFEFF/, "")
    .split("\n")
    .entries()) {
    if (!line.trim()) continue;
    let entry;
    try {
      entry = JSON.parse(line);
    } catch {
      return { problem: `Line ${index + 1} is not JSON; choose a decisions.jsonl.` };
    }
    const problem = entryProblem(entry, noteOf) || firstChanges.problem(entry);
    if (problem) return { problem: `Line ${index + 1}: ${problem}` };
    entries.push(entry);
  }
  return entries.length ? { entries } : { problem: "The file has no decisions." };
}

/* Keys are positions among the machine's codes: where an item is first changed, it is still as the machine gave it. */
class FirstChanges {
  constructor(documentOf) {
    this.documentOf = documentOf;
    this.machine = new Map(); // document id → the state that it begins with
    this.changed = new Map(); // document id → keys, and "order", that entries have changed so far
  }

  /** What is wrong with the next entry; "" if nothing is. @returns {string} */
  problem({ document: id, before }) {
    if (!this.machine.has(id)) {
      this.machine.set(id, initialState(this.documentOf(id)));
      this.changed.set(id, new Set());
    }
    const [machine, changed] = [this.machine.get(id), this.changed.get(id)];
    const isFirst = (name) => !changed.has(name) && Boolean(changed.add(name));
    const items = Object.entries(before.codes ?? {}).filter(([key]) => /^\d+$/.test(key) && isFirst(key));
    const isOrder = !before.order || !isFirst("order") || before.order.join() === machine.order.join();
    const isSame = isOrder && items.every(([key, item]) => isSameCode(item, machine.codes[key]));
    return isSame ? "" : "a decision about other codes than this page's; open the page that the log was made with.";
  }
}

/* Whether two items have the same code and quotations; sentences of rules may have changed since. */
function isSameCode(item, other) {
  const places = (evidence) => evidence.map(({ text, start, end }) => [text, start, end]);
  const name = ({ code, evidence }) => JSON.stringify([code, places(evidence)]);
  return Boolean(item && other) && name(item) === name(other);
}

/** What is wrong with a log entry; "" if nothing is. @returns {string} */
function entryProblem(entry, noteOf) {
  if (!isRecord(entry, ENTRY_KEYS) || ENTRY_KEYS.some((key) => !Object.hasOwn(entry, key)))
    return "not an entry of a decision log.";
  if (![entry.entry, entry.at, entry.who, entry.document].every((value) => isText(value) && value))
    return "an entry without id, time, name or note.";
  if (!TIME_SHAPE.test(entry.at)) return "a time that is not such as 2026-11-26T23:30:05.123Z.";
  if (![entry.code, entry.undoes].every((value) => value === null || isText(value)))
    return "a code or an id that is not text.";
  if ([entry.entry, entry.who, entry.code ?? ""].some((value) => [...value].length > MAX_NAME_LENGTH))
    return `an id, a name or a code of more than ${MAX_NAME_LENGTH} characters.`;
  if (!Object.hasOwn(PLANS, entry.act) && !["undo", "redo"].includes(entry.act))
    return "an act that this page does not know.";
  const note = noteOf(entry.document);
  if (!note) return "a decision about a note that is not on this page; open the page with that note.";
  if (![entry.before, entry.after].every(isPatch)) return "a change that this page cannot read.";
  const changes = [entry.before, entry.after];
  const items = changes.flatMap((patch) => [...Object.values(patch.codes ?? {}), ...(patch.answer?.codes ?? []), patch]);
  const isInPlace = (evidence) =>
    !isLocated(evidence) ||
    (evidence.start <= evidence.end &&
      evidence.end <= note.length &&
      note.slice(evidence.start, evidence.end) === evidence.text);
  const inPlace = items.every((item) => (item?.evidence ?? []).every(isInPlace));
  return inPlace ? "" : "evidence that is not at its place; the note has changed since.";
}

/* An object with no other keys than these. */
function isRecord(value, keys) {
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value);
  return isObject && Object.keys(value).every((key) => keys.includes(key));
}

/* A string of whole characters, which can be written as UTF-8. */
function isText(value) {
  return typeof value === "string" && !LONE_SURROGATE.test(value);
}

function isPatch(patch) {
  if (!isRecord(patch, CHANGE_KEYS)) return false;
  const { codes = {}, order = [], finished = false, answer = null, evidence = [] } = patch;
  if (!isAnswer(answer) || !isEvidenceList(evidence)) return false;
  const isKeyed = ([key, item]) => KEY_SHAPE.test(key) && (item === null || isItem(item, key));
  if (codes === null || typeof codes !== "object" || Array.isArray(codes)) return false;
  const isKey = (key) => isText(key) && KEY_SHAPE.test(key);
  const isOrder = Array.isArray(order) && order.every(isKey);
  return Object.entries(codes).every(isKeyed) && isOrder && typeof finished === "boolean";
}

function isItem(item, key) {
  const isScore = (score) => score === null || (typeof score === "number" && score >= 0 && score <= 1);
  return (
    isRecord(item, ITEM_KEYS) &&
    item.key === key &&
    isText(item.code) &&
    item.code.trim() !== "" &&
    isText(item.description) &&
    DECISIONS.includes(item.decision) &&
    isEvidenceList(item.evidence) &&
    isScore(item.score) &&
    (item.rules === null || (Array.isArray(item.rules) && item.rules.every(isText))) &&
    [null, "exempt", ...POA_VALUES].includes(item.poa) &&
    typeof item.added === "boolean" &&
    typeof item.principal === "boolean"
  );
}

function isEvidenceList(evidence) {
  return Array.isArray(evidence) && evidence.every(isEvidence);
}

/* A quotation; one that was not found in the note, and no other, has no place. */
function isEvidence(evidence) {
  if (!isRecord(evidence, EVIDENCE_KEYS) || !isText(evidence.text)) return false;
  const { start, end, grounded = null, assertion = null } = evidence;
  const isOffset = (value) => (grounded === false ? value === null : Number.isInteger(value) && value >= 0);
  return isOffset(start) && isOffset(end) && [null, true, false].includes(grounded) && ASSERTIONS.includes(assertion);
}
