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

/* Fold the server's entries, then what this tab could not save. Whether that was done: where both have decided, the
   coder takes the note over first. */
async function loadDecisions(id, take) {
  const review = reviewById(id);
  try {
    const entries = await app.store.entries(id);
    const keptIds = new Set(entries.map(({ entry }) => entry));
    if (entries.every(({ entry }) => review.ids.has(entry))) return true; // they are this tab's; the answer was lost
    const mine = review.entries.filter(({ entry }) => !keptIds.has(entry));
    if (mine.length && !take) return false;
    app.reviews.set(id, newReview(review.document, [...entries, ...mine]));
    app.store.adopt(reviewById(id), keptIds);
  } catch {
    return false; // the server does not answer: the notice stays, and its button tries again
  }
  refreshAll();
  checkSoon(currentNote().review);
  say("Another tab has decided about this note; its decisions are shown.");
  return true;
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
