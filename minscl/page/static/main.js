"use strict";
/* Starts the page and does what the commands say: reads the data, builds the views, keeps them and the log in step.

   page-data → app → showNote → refresh; a command → act → perform (state.js) → the store, refresh, a sentence.
   header.js has the bar above. Read state.js for what an act changes. */

const app = {
  documents: [], // coded documents, as in the page
  remarks: [], // of each document: about, its code set and model; noCodes, why it has none
  server: null,
  page: null, // page-data without documents and entries
  reviews: new Map(), // document id → Review, made when it is first needed
  notes: new Map(), // document id → noteText
  entries: new Map(), // document id → entries in the page, not yet folded
  checks: new Map(), // document id → {rules, assertions, warnings} of the server, for what is decided now
  diverged: new Set(), // ids of documents whose imported log had other decisions than this page
  readOnly: new Set(), // ids of documents that another tab has
  opening: Promise.resolve(), // settles once what other tabs decided about the shown note is known
  index: 0, // the document that is shown
  key: null, // the code that acts are about
  quotation: null, // index of its quotation in focus
  moved: null, // {key, neighbours: {-1, 1}} of the principal diagnosis, which has just moved to the beginning
  reviewer: "",
  lettersAct: true,
  codeSet: null, // until it is unpacked
  search: null, // until its index is built
  store: null,
  noteView: null,
  codeView: null,
  isBrought: false, // whether the last key has only brought its card to the screen
  cursor: null, // WordCursor of the shown note, once the arrow keys are used
  coding: null, // the model's buttons, on a served page that has a model
  toPrint: null,
};

/** @returns {Review|undefined} */
function reviewById(id) {
  if (!app.reviews.has(id)) {
    const document = app.documents.find((other) => other.id === id);
    if (!document) return undefined;
    app.reviews.set(id, newReview(document, app.entries.get(id)));
  }
  return app.reviews.get(id);
}

function allReviews() {
  return app.documents.map(({ id }) => reviewById(id));
}

/** All entries, each note's in the order in which they were folded, not that of their times. @returns {Entry[]} */
function allEntries(reviews) {
  return reviews.flatMap((review) => review.entries);
}

/** The note with this id as noteText() reads it; undefined if the page has none. */
function noteOf(id) {
  if (!app.notes.has(id)) {
    const document = app.documents.find((other) => other.id === id);
    if (!document) return undefined;
    app.notes.set(id, noteText(document.text));
  }
  return app.notes.get(id);
}

function currentNote() {
  const document = app.documents[app.index];
  return { document, review: reviewById(document.id), note: noteOf(document.id) };
}

/** Whether a code is exempt from present-on-admission reporting; false where the code set does not say. */
function isExempt(code) {
  return app.codeSet?.info(code).poaExempt === true;
}

/** Show another note, from its beginning. */
function showNote(index) {
  if (!app.documents[index]) return;
  app.index = index;
  const { document: coded, review, note } = currentNote();
  app.noteView.show(note);
  app.codeView.foldNotes();
  app.moved = null;
  app.key =
    listedItems(review.state).find((item) => item.decision === "undecided")?.key ?? review.state.order[0] ?? null;
  app.quotation = null;
  document.getElementById("note-title").textContent = visibleText(coded.id);
  document.getElementById("note-pane").scrollTop = 0;
  document.getElementById("code-pane").scrollTop = 0;
  history.replaceState(null, "", `#${index + 1}`); // a reload shows the same note
  refresh();
  app.codeView.reveal(app.key);
  showFocus(true);
  openNote(coded.id);
  checkSoon(review);
}

/** Show the note's state: highlights, cards, progress. */
function refresh() {
  const { document: coded, review, note } = currentNote();
  const items = listedItems(review.state);
  if (!review.state.codes[app.key]) app.key = items[0]?.key ?? null;
  app.noteView.setSpans([...items, ownEvidence(review.state)].flatMap(spansOf));
  app.codeView.show(items.map((item) => cardOf(review, note, item)));
  showFocus();
  document.getElementById("note-about").textContent = aboutReview(review);
  showWarnings(coded, review);
  showProgress(review);
  refreshCodingActions(review);
}

/** The page after more than one note has changed. */
function refreshAll() {
  refresh();
  showDocumentNames();
}

function spansOf(item) {
  return item.evidence.flatMap(({ start, end, ...evidence }, index) =>
    isLocated({ start, end, ...evidence })
      ? [{ id: `${item.key}.${index}`, key: item.key, start, end, decision: item.decision, code: item.code }]
      : [],
  );
}

function cardOf(review, note, item) {
  const checked = app.checks.get(review.document.id);
  const place = ({ line, column }) => `${line}:${column}`;
  return {
    item,
    origin: originOf(review, item),
    poa: poaOf(item, isExempt),
    rules: checked?.rules.get(item.code) ?? item.rules ?? [],
    assertions: item.evidence.map(
      ({ start, end, assertion }) => checked?.assertions.get(evidenceName(item.code, start, end)) ?? assertion ?? "",
    ),
    places: item.evidence.map((evidence) => (isLocated(evidence) ? place(note.lineColumn(evidence.start)) : "")),
    info: app.codeSet?.info(item.code) ?? null,
  };
}

/* Light the evidence of the code in focus, or its one quotation. */
function showFocus(scroll = false) {
  const { review } = currentNote();
  const count = review.state.codes[app.key]?.evidence.length ?? 0;
  if (app.quotation !== null && app.quotation >= count) app.quotation = count ? count - 1 : null;
  const indexes = app.quotation === null ? [...Array(count).keys()] : [app.quotation];
  app.codeView.mark(app.key, app.quotation);
  app.noteView.focus(
    indexes.map((index) => `${app.key}.${index}`),
    scroll,
  );
}

/** Put a code, or one of its quotations, in focus; its evidence lights up and scrolls into view. */
function lookAt(key, index = null) {
  putInFocus(key, index);
  showFocus(true);
}

function putInFocus(key, index) {
  if (key !== app.key) app.moved = null;
  app.key = key;
  app.quotation = index;
}

/* A click on marked text: the code whose quotation it is; again: the next one that quotes it. */
function pickSpans(marked) {
  const ids = marked.filter((id) => !id.startsWith(`${OWN}.`));
  if (!ids.length) return say("Your evidence without a code.");
  const place = ids.indexOf(`${app.key}.${app.quotation}`);
  const [key, index] = ids[(place + 1) % ids.length].split(".");
  putInFocus(key, Number(index));
  showFocus();
  showPane("codes");
  app.codeView.focus(key, app.quotation);
  const item = currentNote().review.state.codes[key];
  return say(`${item.code} ${visibleText(item.description)}, ${item.decision}`);
}

/**
 * Do an act of the shown note (or of `review`, if it is another's): log, show and say it.
 * @param {string} name @param {Object} details as perform() takes them
 */
async function act(name, details, review = currentNote().review) {
  await app.opening;
  const { id } = review.document;
  if (app.readOnly.has(id)) return say(READ_ONLY);
  if (!app.reviewer && !(await nameReviewer())) return say("Nothing was decided: the log needs a name.");
  if (reviewById(id) !== review) {
    if (name !== "code-again") return say("Another tab has decided about this note; look at its codes again.");
    review = reviewById(id); // the model's answer keeps what is decided
  }
  const { entry, refused } = perform(review, name, details, app.reviewer);
  if (refused) return say(refused);
  if (!entry) return say("Nothing to change.");
  app.store.keep(review, [entry]);
  if (review !== currentNote().review) {
    showDocumentNames();
    return say(`${visibleText(review.document.id)}: ${sentenceOf(review, entry)}`);
  }
  const changed = Object.keys(entry.after.codes ?? {}).filter((key) => review.state.codes[key]);
  if (changed.length === 1) [app.key] = changed;
  refresh();
  if (["undo", "redo", "add-code", "change-code", "move", "principal"].includes(name)) app.codeView.focus(app.key);
  checkSoon(review);
  return say(sentenceOf(review, entry));
}

function start() {
  const { documents, entries, remarks = [], ...page } = JSON.parse(document.getElementById("page-data").textContent);
  Object.assign(app, { documents, remarks, page, server: page.server });
  const handlers = {
    onStatus: showStatus,
    onTaken: showTaken,
    onFree: showFree,
    onFull: showFull,
    onRefused: showRefused,
  };
  app.store = app.server ? new ServerStore(app.server, handlers) : new FileStore(documents, handlers);
  const restored = app.store.restore?.() ?? [];
  for (const entry of [...entries, ...readable(restored)]) {
    if (!app.entries.has(entry.document)) app.entries.set(entry.document, []);
    app.entries.get(entry.document).push(entry);
  }
  app.reviewer = app.server?.reviewer || remembered("sessionStorage", NAME_KEY);
  app.lettersAct = remembered("localStorage", LETTERS_KEY) !== "rest";
  app.noteView = new NoteView(document.getElementById("note"), pickSpans);
  app.codeView = new CodeView(document.getElementById("codes"), cardCommand);
  buildHeader();
  showCodingActions(document.getElementById("code-actions"));
  showHints(document.getElementById("hints"));
  listenForKeys();
  listenToNote();
  listenToPrinter();
  app.store.tell?.();
  for (const id of app.server?.unwritten ?? []) app.store.keep(reviewById(id), []); // a kill came before its file
  if (documents.length) showNote(Math.min(documents.length, Number(location.hash.slice(1)) || 1) - 1);
  beginAtTop();
  setTimeout(unpack); // the note is painted first
}

/* Tab begins with the link to the codes; a browser begins where the page was scrolled to last, unless told. */
function beginAtTop() {
  document.body.tabIndex = -1;
  document.body.focus({ preventScroll: true });
  document.body.removeAttribute("tabindex");
}

/* What the browser's storage had, unless something else wrote there. */
function readable(entries) {
  return entries.every((entry) => entryProblem(entry, noteOf) === "") ? entries : [];
}

/* The code set comes after the note is on the screen: it is large. */
async function unpack() {
  try {
    app.codeSet = await unpackCodeSet(document.getElementById("code-set").textContent);
    if (app.documents.length) refresh();
    app.search = await buildSearch(app.codeSet);
    await warmUp(app.search);
  } catch (error) {
    say(`The code set of this page cannot be read (${error.message}); reviewing works, search does not.`);
  }
}

start();
