"use strict";
/* What the commands of keys.js run: they find the code, quotation or selection in focus and call act() of main.js.

   moves.js has those that decide nothing. */

// How one works, without patient text: the name until the tab is closed, whether letters act for all notes.
const NAME_KEY = "minscl.reviewer";
const LETTERS_KEY = "minscl.letters";
const NO_EXEMPT_LIST =
  "This page's code set does not say which codes are exempt from present-on-admission reporting: look them up in " +
  "CMS's list, and say it with key 5.";

/** Do an act of the code in focus, if its card is on the screen; else bring it there. `what`: the act in the message. */
function actOnCode(name, what = "decide", details = {}) {
  const item = focusedItem();
  if (!item) return say("No code is in focus.");
  return isReady(item, what) ? act(name, { ...details, key: item.key }) : undefined;
}

/* Whether one can decide about an item: nothing is in the way, and its card was on the screen at the key. */
function isReady(item, what) {
  const reason = whyNot();
  if (reason) say(reason);
  return !reason && bringToScreen(item, what);
}

/* Why nothing is decided about the shown note; "" if nothing is in the way. */
function whyNot() {
  const { review } = currentNote();
  if (app.readOnly.has(review.document.id)) return READ_ONLY;
  return review.state.finished ? FINISHED : "";
}

function bringToScreen(item, what) {
  if (app.codeView.isOnScreen(item.key)) return true;
  app.isBrought = true; // a key that is held goes no further
  showPane("codes");
  app.codeView.bring(item.key);
  say(`${item.code} was not on the screen. Look at it, then press again to ${what}.`);
  return false;
}

function focusedItem() {
  return currentNote().review.state.codes[app.key];
}

/** Undo or redo. What would accept a code, or do again what was done to one, has its card on the screen first. */
function turn(name) {
  const { review } = currentNote();
  const { last, item } = nextTurn(review, name);
  const isAccepting =
    last?.before.codes?.[item?.key]?.decision === "accepted" && item.decision !== "accepted";
  const isShownFirst = item && (name === "redo" || isAccepting) && !app.readOnly.has(review.document.id);
  if (isShownFirst && !bringToScreen(item, name)) return undefined;
  return act(name, {});
}

/** The selected words become evidence of the code in focus. */
function addEvidence() {
  const evidence = selectedEvidence();
  if (!evidence) return say("Select words in the note first.");
  const item = focusedItem();
  if (!item && !app.coding) return say("No code is in focus; press / to add one with the selected words.");
  if (item && !isReady(item, "add the evidence")) return undefined;
  app.noteView.forgetSelection();
  if (app.key === null) return act("add-evidence", { evidence }); // for the model to code from
  return act("add-evidence", { key: app.key, evidence });
}

function selectedEvidence() {
  const { note } = currentNote();
  app.noteView.remember(); // the browser's event of the last keystroke may still be to come
  const range = app.noteView.selected;
  return range ? { text: note.slice(range.start, range.end), start: range.start, end: range.end } : null;
}

function removeEvidence() {
  if (app.key === null || app.quotation === null) return say("Put a quotation in focus first: Tab, or click it.");
  return actOnCode("remove-evidence", "remove it", { index: app.quotation });
}

/** Search a code and add it, with the selected words as evidence. */
async function addCode() {
  const reason = whyNot(); // before one has searched
  if (reason) return say(reason);
  if (!app.search) return say("The search is still being prepared.");
  const evidence = selectedEvidence();
  const words = evidence && visibleText(oneLine(evidence.text)).slice(0, 200);
  const hit = await searchDialog(
    evidence ? `Evidence: “${words}”` : "Without evidence: no words are selected.",
    words ?? "",
  );
  if (!hit) return undefined;
  const same = itemWithCode(currentNote().review.state, hit.code);
  if (same) {
    lookAt(same.key);
    app.codeView.focus(same.key);
  } else app.noteView.forgetSelection();
  return act("add-code", { code: hit.code, description: hit.description, evidence: evidence ? [evidence] : [] });
}

/** Change the code in focus to another of its category. */
async function changeCode() {
  const item = focusedItem();
  if (!item) return say("No code is in focus.");
  if (!isReady(item, "change it")) return undefined;
  if (!app.codeSet) return say("The code set is still being read.");
  if (!app.codeSet.siblings(item.code).length)
    return say(`Category ${visibleText(item.code.slice(0, 3))} has no other code; press / to add one, R to reject this.`);
  const hit = await siblingDialog(item.code);
  return hit && act("change-code", { key: item.key, code: hit.code, description: hit.description });
}

function setPoa(poa) {
  const item = focusedItem();
  if (item && isExempt(item.code)) return say(`${item.code} is exempt from present-on-admission reporting.`);
  return actOnCode("present-on-admission", "say when it was present", { poa });
}

/** The code in focus is the principal diagnosis, which is listed first; again: not. */
async function setPrincipal() {
  const item = focusedItem();
  if (!item) return say("No code is in focus.");
  if (!isReady(item, "make it the principal diagnosis")) return undefined;
  const keys = listedItems(currentNote().review.state).map(({ key }) => key);
  const place = keys.indexOf(item.key);
  const moved = { key: item.key, neighbours: { "-1": keys[place - 1], 1: keys[place + 1] } };
  await act("principal", { key: item.key });
  app.moved = focusedItem()?.principal ? moved : null;
  return undefined;
}

/** Finish the note, after asking where codes are undecided; reopen a finished one. */
async function finishNote() {
  await app.opening;
  const { review } = currentNote();
  if (app.readOnly.has(review.document.id)) return say(READ_ONLY);
  if (review.state.finished) return act("reopen", {}, review);
  return (await confirmFinish(review.state)) ? act("finish", {}, review) : undefined;
}

async function showHelp() {
  const { version, about } = app.page;
  const where = app.server
    ? "Every decision is written to the server's folder before it counts as saved."
    : "Decisions are in this page only, until you download the log (X) or switch on the browser's storage there.";
  const poa = app.codeSet?.listsExempt === false ? NO_EXEMPT_LIST : "";
  const texts = [where, poa, about || codeSetName(), `minscl ${version}. ${CAUTION}`].filter(Boolean);
  const name = await helpDialog({ about: texts });
  if (name && name !== "help") run(name);
}

/** Ask for the reviewer's name; whether there is one. @returns {Promise<boolean>} */
async function nameReviewer() {
  const name = await askName(app.reviewer);
  if (name) {
    app.reviewer = name;
    remember("sessionStorage", NAME_KEY, name);
    showReviewer();
  }
  return Boolean(app.reviewer);
}

/* Keep a setting, where the browser allows it: else it is asked again after a reload. */
function remember(area, name, value) {
  try {
    window[area].setItem(name, value);
  } catch {
    // it forbids storage
  }
}

function remembered(area, name) {
  try {
    return window[area].getItem(name) ?? "";
  } catch {
    return "";
  }
}

/* What happens on a card: the focus reaches it, a click on it or on a quotation, or a button of it. */
function cardCommand(command, key, index = null) {
  if (command === "reach") return key === app.key && index === app.quotation ? undefined : lookAt(key, index);
  if (command === "look") {
    lookAt(key, index);
    return isNarrow() ? goToNote() : undefined;
  }
  if (command === "focus") {
    lookAt(key);
    return app.codeView.focus(key);
  }
  const what = command === "remove-evidence" ? "remove it" : "decide";
  if (!isReady(currentNote().review.state.codes[key], what)) return undefined;
  return act(command, { key, index });
}

/** The printer gets a summary of the shown note and the note itself, or the summaries that were asked for. */
function listenToPrinter() {
  const place = document.getElementById("print");
  window.addEventListener("beforeprint", () => {
    if (!app.documents.length) return;
    document.body.classList.toggle("print-note", app.toPrint === null);
    fillPrint(app.toPrint ?? [currentNote().review], place);
  });
  window.addEventListener("afterprint", () => {
    app.toPrint = null;
    place.replaceChildren();
  });
}

/* What the page says after an act, by its name. */
const DONE = {
  accept: "Accepted",
  reject: "Rejected",
  undecide: "Undecided again:",
  "add-code": "Added",
  "change-code": "Changed to",
  "add-evidence": "Evidence added to",
  "remove-evidence": "Quotation removed from",
  principal: "Principal diagnosis:",
  "present-on-admission": "Present on admission:",
  move: "Moved",
  "code-again": "Coded by the model",
  finish: "Finished; N shows the next note",
  reopen: "Reopened",
};

function sentenceOf(review, entry) {
  const { decided, total } = progressOf(review.state);
  const original = originalEntry(review, entry);
  const turned = { undo: "Undone: ", redo: "Done again: " }[entry.act] ?? "";
  const item = entry.after.codes?.[app.key];
  const value = { principal: item?.principal ? "set" : "not set", "present-on-admission": item?.poa ?? "not said" };
  const code = original.after.evidence ? "those without a code" : original.code;
  const what = [DONE[original.act], code, turned ? "" : value[original.act]].filter(Boolean).join(" ");
  return `${turned}${what}. ${decided} of ${total} decided.`;
}
