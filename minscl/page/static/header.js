"use strict";
/* The bar above the panes and what is said of the whole note: documents, progress, what is saved, notices, warnings. */

const FILTER_FROM = 8; // documents, from which on a field filters their list

/** The header's controls. */
function buildHeader() {
  buildPicker(document.getElementById("document-picker"));
  const actions = document.getElementById("bar-actions");
  const status = newElement("p");
  status.id = "kept";
  const reviewer = headerButton("reviewer", "", nameReviewer);
  const panes = headerButton("pane-switch", "Show codes", changePane);
  actions.append(
    status,
    panes,
    reviewer,
    headerButton("to-export", "Export", exportDialog),
    headerButton("to-help", "Help", showHelp),
  );
  const notice = document.getElementById("notice") ?? document.getElementById("bar").appendChild(newElement("div"));
  notice.id = "notice";
  notice.hidden = true;
  const note = document.getElementById("note");
  note.tabIndex = 0;
  note.setAttribute("role", "region");
  note.setAttribute("aria-label", "Text of the note; arrow keys select words");
  document.getElementById("review").before(document.getElementById("print")); // on paper the summary comes first
  const noCodes = newElement("p");
  noCodes.id = "no-codes";
  document.getElementById("codes").before(noCodes);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address names the note
    goToCodes();
  });
  showReviewer();
  showPane("note");
  showDocumentNames();
  window.addEventListener("beforeunload", (event) => {
    if (app.isUnsaved) event.preventDefault();
  });
  window.addEventListener("pagehide", () => app.store.close?.(app.documents[app.index]?.id));
}

function headerButton(id, label, onClick) {
  const button = newElement("button", "", label);
  button.type = "button";
  button.id = id;
  button.addEventListener("click", () => onClick());
  return button;
}

function buildPicker(place) {
  const select = newElement("select");
  select.id = "documents";
  select.setAttribute("aria-label", "Note");
  select.addEventListener("change", () => showNote(Number(select.value)));
  const filter = newElement("input");
  filter.id = "document-filter";
  filter.type = "search";
  filter.placeholder = "Filter notes";
  filter.setAttribute("aria-label", "Filter the list of notes; “unfinished” shows those");
  filter.hidden = app.documents.length < FILTER_FROM;
  filter.addEventListener("input", showDocumentNames);
  const [before, after] = [
    headerButton("note-before", "‹", () => stepNote(-1)),
    headerButton("note-after", "›", () => stepNote(1)),
  ];
  before.setAttribute("aria-label", "Previous note");
  after.setAttribute("aria-label", "Next note");
  place.append(before, select, after, filter);
}

/** The list of documents: those that the filter leaves, and the shown one. */
function showDocumentNames() {
  const words = document.getElementById("document-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const options = app.documents.flatMap((coded, index) => {
    const name = `${index + 1}. ${visibleText(coded.id)} – ${stateName(coded)}`;
    const isLeft = words.every((word) => ` ${name.toLowerCase()}`.includes(word === "finished" ? "– finished" : word));
    return isLeft || index === app.index ? [new Option(name, index, false, index === app.index)] : [];
  });
  document.getElementById("documents").replaceChildren(...options);
}

/* "finished", or "unfinished, 3 of 9 decided"; a note without entries need not be folded for it. */
function stateName(coded) {
  if (!app.reviews.has(coded.id) && !app.entries.has(coded.id)) return `unfinished, 0 of ${coded.codes.length} decided`;
  const { state } = reviewById(coded.id);
  const { decided, total } = progressOf(state);
  return state.finished ? "finished" : `unfinished, ${decided} of ${total} decided`;
}

/** Progress of the shown note, in the bar and in the list. */
function showProgress(review) {
  const { decided, total } = progressOf(review.state);
  const finished = review.state.finished ? "Finished: " : "";
  document.getElementById("progress").textContent = `${finished}${decided} of ${total} decided`;
  const coded = review.document;
  const option = document.querySelector(`#documents option[value="${app.index}"]`);
  const name = `${app.index + 1}. ${visibleText(coded.id)} – ${stateName(coded)}`;
  if (option) [option.textContent, option.selected] = [name, true];
  else showDocumentNames();
  document.body.classList.toggle("finished", review.state.finished);
  const reason = app.remarks[app.index]?.noCodes || "no codes";
  document.getElementById("no-codes").textContent = total
    ? ""
    : `${visibleText(reason)}; press / to search and add one.`;
}

function showReviewer() {
  document.getElementById("reviewer").textContent = app.reviewer
    ? `Reviewer: ${visibleText(app.reviewer)}`
    : "Set reviewer";
}

/** What the store says of the log. */
function showStatus(text, unsaved) {
  document.getElementById("kept").textContent = text;
  app.isUnsaved = unsaved > 0;
}

/** Code set, model and what a score is, as the page says it of a document. @returns {string} */
function aboutDocument(coded) {
  const { about = "" } = app.remarks[app.documents.indexOf(coded)] ?? {};
  return visibleText(about);
}

/** Warnings of the document that no card shows, and whether its rules are those of the codes in the list now. */
function showWarnings(coded, review) {
  const place = document.getElementById("warnings");
  const onCards = new Set(coded.codes.flatMap((code) => code.rules ?? []));
  const checked = app.checks.get(coded.id);
  const warnings = (checked?.warnings ?? coded.warnings ?? []).filter((warning) => !onCards.has(warning));
  const isOpen = place.querySelector("details")?.open ?? false;
  place.replaceChildren();
  if (!checked && haveCodesChanged(coded, review)) {
    place.append(newElement("p", "place", "Rules were checked for the machine's codes; not again."));
  }
  if (!warnings.length) return;
  const details = newElement("details");
  details.open = isOpen;
  details.append(newElement("summary", "", `Warnings (${warnings.length})`), newList(warnings.map(visibleText)));
  place.append(details);
}

function haveCodesChanged(coded, review) {
  const left = Object.values(review.state.codes).filter((item) => item.decision !== "rejected");
  const names = (items) =>
    items
      .map((item) => item.code)
      .sort()
      .join();
  return names(left) !== names(coded.codes);
}

/** Tell the server that this tab works on a note; say who else does. */
async function openNote(id) {
  const answer = await app.store.open(id);
  if (answer.owner) app.readOnly.delete(id);
  else app.readOnly.add(id);
  if (id === app.documents[app.index].id) showNotice(answer.owner ? null : id, answer.since);
}

/** The store was told that another tab has this note, or writes to this page's storage. */
function showTaken(id) {
  if (!id) {
    showNotice("", "");
    return;
  }
  app.readOnly.add(id);
  if (id === app.documents[app.index].id) showNotice(id);
}

function showNotice(id, since = "") {
  const notice = document.getElementById("notice");
  notice.replaceChildren();
  notice.hidden = id === null;
  if (id === null) return;
  const when = since ? ` since ${since.slice(0, 16).replace("T", " ")}` : "";
  const text =
    id === ""
      ? "This page is open in another tab too, which has decided since. Reload to see it."
      : `This note is open in another tab${when}. Here it can be read only.`;
  notice.append(newElement("p", "", text));
  if (id !== "") notice.append(headerButton("take-over", "Work on it here instead", () => takeOver(id)));
  document.getElementById("alert").textContent = text;
}

/* The entries of the other tab first, then what this one could not save. */
async function takeOver(id) {
  try {
    const entries = await app.store.entries(id);
    const mine = reviewById(id).entries.filter((entry) => !entries.some((other) => other.entry === entry.entry));
    app.reviews.set(id, newReview(reviewById(id).document, [...entries, ...mine]));
    app.store.adopt(reviewById(id));
    await app.store.open(id, true);
    app.readOnly.delete(id);
    showNotice(null);
    refreshAll();
    say("This tab has the note now.");
  } catch (error) {
    say(`Not taken over: ${error.message}`);
  }
}
