"use strict";
/* Two tabs on one note, and other things that the coder must know and that stay in sight: the notices under the bar.

   showNote → openNote: the store says whether another tab has the note, and which decision was its last. What this tab
   has not seen is loaded before it decides. Read next: main.js. */

const READ_ONLY = "Another tab has this note; take it over first.";
const notices = new Map(); // what it is about → {text, label, run}; a button where there is a label

/** Say something above the panes until it is taken back. @param {{text: string, label?: string}|null} notice */
function setNotice(about, notice) {
  const isNew = notice && notices.get(about)?.text !== notice.text;
  if (notice) notices.set(about, notice);
  else notices.delete(about);
  const place = document.getElementById("notice");
  place.replaceChildren();
  place.hidden = !notices.size;
  for (const { text, label, run } of notices.values()) {
    place.append(newElement("p", "", text));
    if (label) place.append(headerButton("take-over", label, run));
  }
  if (isNew) document.getElementById("alert").textContent = notice.text;
}

/** Open the shown note, after those that are being opened: an act waits for it. @returns {Promise} */
function openNote(id) {
  return inTurn(() => (id === app.documents[app.index].id ? openNow(id) : undefined));
}

function inTurn(open) {
  app.opening = app.opening.then(open).catch((error) => say(`The note was not opened: ${error.message}`));
  return app.opening;
}

/* Whether this tab decides about the note; it has seen what others decided then. */
async function openNow(id, take = false) {
  const { owner, since, last } = await app.store.open(id, take);
  const isKnown = last === undefined || last === app.store.lastKept(reviewById(id));
  const isSeen = isKnown || (await loadDecisions(id, take));
  setReadOnly(id, !(owner && isSeen));
  if (id === app.documents[app.index].id) setNotice("tab", app.readOnly.has(id) ? takenNotice(id, owner, since) : null);
}

function setReadOnly(id, isReadOnly) {
  if (isReadOnly) app.readOnly.add(id);
  else app.readOnly.delete(id);
  app.store.setBlocked(id, isReadOnly);
}

/* Whether this tab has what others decided about the note: where both have decided, the coder takes it over first. */
async function loadDecisions(id, take) {
  try {
    const folded = foldDecisions(id, await app.store.entries(id), take);
    if (folded !== "new") return folded === "known";
  } catch {
    return false; // the server does not answer: the notice stays, and its button tries again
  }
  refreshAll();
  checkSoon(currentNote().review);
  say("Another tab has decided about this note; its decisions are shown.");
  return true;
}

/* Fold the server's entries of a note, then what this tab could not save: "new"; "known" where this tab has all of
   them; "both", and nothing is folded, where both have decided and this tab does not `take` the note over. */
function foldDecisions(id, entries, take) {
  const review = reviewById(id);
  const keptIds = new Set(entries.map(({ entry }) => entry));
  if (entries.every(({ entry }) => review.ids.has(entry))) return "known"; // they are this tab's; an answer was lost
  const mine = review.entries.filter(({ entry }) => !keptIds.has(entry));
  if (mine.length && !take) return "both";
  app.reviews.set(id, newReview(review.document, [...entries, ...mine]));
  app.store.adopt(reviewById(id), keptIds);
  return "new";
}

/** Load what other tabs have decided about any note: those not opened here since, too. What is then still missing, as a
 * sentence. @returns {Promise<string>} */
async function loadAllDecisions() {
  await app.opening;
  const byDocument = new Map(app.documents.map(({ id }) => [id, []]));
  try {
    for (const entry of await app.store.entries()) byDocument.get(entry.document)?.push(entry);
  } catch {
    return "The server does not answer: what other tabs have decided since is not in the files.";
  }
  const folded = new Map([...byDocument].map(([id, entries]) => [id, foldDecisions(id, entries, false)]));
  const having = (what) => [...folded.keys()].filter((id) => folded.get(id) === what);
  if (having("new").length) refreshAll();
  if (having("new").includes(app.documents[app.index].id)) checkSoon(currentNote().review);
  having("both").forEach(showTaken);
  const names = having("both").map(visibleText).join(", ");
  return names && `Of ${names} the files have this tab's decisions only; take over what another tab has decided first.`;
}

function takenNotice(id, isOwner, since = "") {
  const label = "Work on it here instead";
  if (!app.server) {
    const text =
      "This page is open in another tab, which keeps its decisions in this browser. Here it can be read only.";
    return { text, label, run: () => app.store.takeOver() };
  }
  const when = since ? ` since ${since.slice(0, 16).replace("T", " ")}` : "";
  const text = isOwner
    ? "Another tab has decided about this note. Here it can be read only."
    : `This note is open in another tab${when}. Here it can be read only.`;
  return { text, label, run: () => takeOver(id) };
}

/** The store was told that another tab has this note or has decided about it; without an id: that it has this page. */
function showTaken(id) {
  for (const { id: other } of app.documents) if (!id || id === other) setReadOnly(other, true);
  const shown = app.documents[app.index].id;
  if (!id || id === shown) setNotice("tab", takenNotice(shown, true));
}

/** No other tab keeps decisions of this page any more. */
function showFree() {
  app.readOnly.clear();
  setNotice("tab", null);
}

/** The server does not take decisions about a note. */
function showRefused(id, reason) {
  const text =
    `Decisions about ${visibleText(id)} are not saved: the server refuses them (${visibleText(reason.trim())}). ` +
    "The export (X) has them; other notes are saved as before.";
  setNotice(`refused ${id}`, { text });
}

/** The browser's storage takes no more. */
function showFull() {
  const text =
    "The browser's storage takes no more. It is switched off, and nothing of this page is in it: download the log (X).";
  setNotice("storage", { text });
}

/* The entries of the other tab first, then what this one could not save. */
async function takeOver(id) {
  await inTurn(() => openNow(id, true));
  say(app.readOnly.has(id) ? "Not taken over: the server does not answer." : "This tab has the note now.");
}
