"use strict";
/* What the machine said of a note: the document as it came into the page, or its answers in the log. No DOM.

   An answer is a coded document without id, text and output, and with what the page says of it: about, noCodes and
   ownWarnings. It is the member `answer` of the `after` of a "code-again" entry. Read next: export.js. */

/**
 * @typedef {{codes: Object[], warnings?: string[], edition?: string, date?: string, coded_with?: Object<string, string>,
 *   continued?: boolean, truncated?: number, about: string, noCodes: string, ownWarnings: string[]}} Answer
 */
const SAID_OF_ANSWER = ["about", "noCodes", "ownWarnings"]; // the page's own words, no part of a coded document

/** Whether somebody has coded a document, perhaps without finding a code. @returns {boolean} */
function isCoded(document) {
  return document.codes.length > 0 || Boolean(document.coded_with) || typeof document.output === "string";
}

/**
 * The machine's codes of a note before a coder decided: the document as it came, or else the first of the machine's
 * answers; null where no machine has coded it. page/answer.py has the same for the server.
 */
function machineDocument({ document, entries }) {
  if (isCoded(document)) return document;
  const answer = entries.map(({ after }) => after.answer).find(Boolean);
  if (!answer) return null;
  const members = Object.entries(answer).filter(([name]) => !SAID_OF_ANSWER.includes(name));
  return { id: document.id, text: document.text, ...Object.fromEntries(members) };
}

/** The settings with which the machine coded the codes in the list; undefined where it coded none. */
function settingsOf({ state, document }) {
  return (state.answer ?? document).coded_with;
}

/** The model that gave an item, with its adapter; "" for codes that people added, and where it is not known. */
function modelOf({ document, entries }, key) {
  const entry = entries.find(({ after }) => after.codes?.[key] && after.answer);
  const settings = (/^\d+$/.test(key) ? document : entry?.after.answer)?.coded_with ?? {};
  return ["model", "adapter"].map((name) => settings[name]).filter((name) => name && name !== "none").join(" + ");
}

/* Whether an answer in a log that is read back has the members of one. */
function isAnswer(answer) {
  const isText = (value) => value === undefined || typeof value === "string";
  const isTexts = (value) => value === undefined || (Array.isArray(value) && value.every(isText));
  if (answer === null) return true;
  if (typeof answer !== "object" || !Array.isArray(answer.codes)) return false;
  if (!answer.codes.every((item) => isText(item?.code) && isEvidenceList(item.evidence))) return false;
  const { about, noCodes, edition, date, warnings, ownWarnings, coded_with: settings = {} } = answer;
  if (![about, noCodes, edition, date].every(isText) || ![warnings, ownWarnings].every(isTexts)) return false;
  return settings !== null && typeof settings === "object" && Object.values(settings).every(isText);
}
