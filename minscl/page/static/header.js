"use strict";
/* The bar above the panes and what is said of the whole note: documents, progress, what is saved, warnings.
   Read next: tabs.js, the notices under it. */

const FILTER_FROM = 8; // documents, from which on a field filters their list
const CAUTION = "Not for clinical use without review.";
const LEFT_OUT = /^(left out, score below [^:]+): (.+)$/; // infer/report.py has the words

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
  const reason = latestAnswer(review).noCodes || "no codes";
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

/** What the machine said of the codes in the list: its latest answer, or the document as it came. @returns {Answer} */
function latestAnswer({ state, document: coded }) {
  return state.answer ?? { ...coded, ...app.remarks[app.documents.indexOf(coded)] };
}

/** Code set, model and what a score is, and what none of it is for. @returns {string} */
function aboutReview(review) {
  return `${visibleText(latestAnswer(review).about || codeSetName())}. ${CAUTION}`;
}

/** The code set of the page. @returns {string} */
function codeSetName() {
  const { edition, date } = app.page;
  return `ICD-10-CM edition ${edition}${date ? `, date of service ${date}` : ""}`;
}

/** Warnings that no card shows, and whether the rules are those of the codes in the list now. */
function showWarnings(coded, review) {
  const place = document.getElementById("warnings");
  const checked = app.checks.get(coded.id);
  const answer = latestAnswer(review);
  const rules = checked ? [...checked.rules.values()].flat() : answer.codes.flatMap((code) => code.rules ?? []);
  const onCards = new Set(rules);
  const all = [...(answer.ownWarnings ?? []), ...(checked?.warnings ?? answer.warnings ?? [])]; // a check has others
  const warnings = [...new Set(all)].filter((warning) => !onCards.has(warning));
  const isOpen = place.querySelector("details")?.open ?? false;
  place.replaceChildren();
  if (!checked && haveCodesChanged(coded, review)) {
    place.append(newElement("p", "place", "Rules were checked for the machine's codes; not again."));
  }
  if (!warnings.length) return;
  const details = newElement("details");
  details.open = isOpen;
  details.append(newElement("summary", "", `Warnings (${warnings.length})`), newWarnings(warnings));
  place.append(details);
}

/* Codes that were left out are listed, with their descriptions. */
function newWarnings(warnings) {
  const list = newElement("ul");
  for (const warning of warnings) {
    const row = list.appendChild(newElement("li"));
    const [, what, codes] = LEFT_OUT.exec(warning) ?? [null, warning, ""];
    row.append(visibleText(codes ? `${what}:` : what));
    if (codes) row.append(newList(codes.split(", ").map((text) => visibleText(withDescription(text)))));
  }
  return list;
}

/* "K21.00 (0.18)" as "K21.00 Gastro-esophageal reflux disease with esophagitis, without bleeding (0.18)". */
function withDescription(text) {
  const [code] = text.split(" ", 1);
  return [code, app.codeSet?.description(code), text.slice(code.length + 1)].filter(Boolean).join(" ");
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
