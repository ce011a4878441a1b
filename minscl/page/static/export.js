"use strict";
/* Files out of the reviews.

   reviewed.jsonl   coded documents of DESIGN section 3: what `train --documents` and `evaluate` read
   machine.jsonl    what the machine had coded them with, for `evaluate`
   decisions.jsonl  the log entries, one a line
   codes.csv        a row per code, for spreadsheets
   print summary    codes, evidence and a signature line, for the printer

   Everything but printSummary and download works without a browser. Read next: log.js, which reads the log back in. */

const CSV_COLUMNS = [
  "document",
  "order",
  "code",
  "description",
  "principal",
  "present_on_admission",
  "decision",
  "added",
  "score",
  "evidence",
  "reviewer",
  "decided_at",
  "edition",
  "model",
];

/**
 * The accepted codes of a review as a coded document, the principal diagnosis first. Evidence that was not found in the
 * note is left out.
 * @param {Review} review
 * @param {{edition: string, date: string|null}} codeSet that of the page, by which people decided
 */
function reviewedDocument(review, { edition, date }) {
  const accepted = listedItems(review.state).filter((item) => item.decision === "accepted");
  const codes = accepted.map(({ code, description, evidence }) => ({
    code,
    description,
    evidence: evidence.filter(isLocated).map(({ text, start, end }) => ({ text, start, end })),
  }));
  const settings = settingsOf(review);
  const made = { edition, ...(date && { date }), ...(settings && { coded_with: settings }) };
  return { id: review.document.id, text: review.document.text, codes, ...made };
}

/** Whether a quotation was found in the note. @returns {boolean} */
function isLocated(evidence) {
  return Number.isInteger(evidence.start) && Number.isInteger(evidence.end);
}

/** JSON Lines. @returns {string} */
function toJsonLines(records) {
  return records.map((record) => `${JSON.stringify(record)}\n`).join("");
}

/** Who decided each code last, and when: key → entry. A code back at undecided is not in it. @returns {Map} */
function deciders(review) {
  const entries = new Map();
  for (const entry of review.entries) {
    for (const [key, item] of Object.entries(entry.after.codes ?? {})) {
      const before = entry.before.codes?.[key];
      const isDecided = item?.decision !== before?.decision || item?.code !== before?.code; // a changed code is decided anew
      if (!item || item.decision === "undecided") entries.delete(key);
      else if (isDecided) entries.set(key, entry);
    }
  }
  return entries;
}

/**
 * codes.csv.
 * @param {Review[]} reviews
 * @param {(code: string) => boolean} isExempt from present on admission
 * @param {{edition: string}} codeSet that of the page
 */
function codesCsv(reviews, isExempt, { edition }) {
  const rows = [CSV_COLUMNS, ...reviews.flatMap((review) => csvRows(review, isExempt, edition))];
  return `\uFEFF${rows.map((row) => row.map(csvCell).join(",")).join("\r\n")}\r\n`; // with the mark Excel reads UTF-8
}

function csvRows(review, isExempt, edition) {
  const decided = deciders(review);
  const note = noteText(review.document.text);
  return listedItems(review.state).map((item, position) => [
    review.document.id,
    position + 1,
    item.code,
    item.description,
    item.principal ? "yes" : "no",
    poaOf(item, isExempt) ?? "",
    item.decision,
    originOf(review, item),
    item.score ?? "",
    item.evidence.map((evidence) => quotationWithPlace(note, evidence)).join(" | "),
    decided.get(item.key)?.who ?? "",
    decided.get(item.key)?.at ?? "",
    edition,
    modelOf(review, item.key),
  ]);
}

/** "yes" for a reviewer's code, "changed from I10" for one of the machine's that was changed, else "no". */
function originOf(review, item) {
  if (item.added) return "yes";
  const code = machineCode(review, item.key);
  return code && code !== item.code ? `changed from ${code}` : "no";
}

/** The code that the machine gave to an item; null for an added one. @returns {string|null} */
function machineCode(review, key) {
  if (key.startsWith("a-")) return null;
  if (/^\d+$/.test(key)) return review.document.codes[Number(key)]?.code ?? null;
  const entry = review.entries.find(({ after }) => after.codes?.[key]);
  return entry ? entry.after.codes[key].code : null;
}

/** Present on admission as it is reported: "exempt" where the List says so. */
function poaOf(item, isExempt) {
  return isExempt(item.code) ? "exempt" : item.poa;
}

/** “quotation” (line:column), its white space as single blanks. @returns {string} */
function quotationWithPlace(note, evidence) {
  const quotation = `“${evidence.text
    .split(/[^\S\uFEFF]+/)
    .filter(Boolean)
    .join(" ")}”`;
  if (!isLocated(evidence)) return `${quotation} (not found in the note)`;
  const { line, column } = note.lineColumn(evidence.start);
  return `${quotation} (${line}:${column})`;
}

/* A cell that a spreadsheet would compute begins with an apostrophe. */
function csvCell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Give the browser a file to save. */
function download(name, text, type = "application/x-ndjson") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: `${type};charset=utf-8` }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // Firefox reads it after the click
}
