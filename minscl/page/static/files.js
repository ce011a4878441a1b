"use strict";
/* The export dialog: files to save, the log to go on with, what the browser keeps, and the summary for the printer.

   Read next: export.js, which makes the files. */

/** Everything that leaves the page or comes back into it; a served page first asks what other tabs have decided. */
function exportDialog() {
  return openDialog("Export, import, print", (body, close) => {
    const sections = newElement("div", "dialog-body");
    body.append(sections, newForm([], [{ label: "Close" }], () => close(null)));
    if (!app.server) {
      fillExport(sections, close, app.store.isTaken ? "Another tab keeps the decisions of this page; export there." : "");
      return;
    }
    sections.append(newElement("p", "", "Asking the server what other tabs have decided…"));
    loadAllDecisions().then((missing) => fillExport(sections, close, missing));
  });
}

/* `missing`: a sentence on decisions that the files do not have. */
function fillExport(sections, close, missing) {
  const reviews = allReviews();
  const warning = newElement("p", "problem", missing);
  warning.setAttribute("role", "alert");
  sections.replaceChildren(...(missing ? [warning] : []));
  sections.append(...newFileSection(reviews), ...newPrintSection(reviews, close), ...newImportSection(close));
  if (!app.server) sections.append(...newStorageSection(reviews));
  sections.querySelector("input").focus();
}

function newFileSection(reviews) {
  const finished = reviews.filter(({ state }) => state.finished);
  const begun = reviews.filter(({ entries, state }) => entries.length && !state.finished);
  const [label, unfinished] = newCheckBox(`Also the accepted codes of unfinished notes (${begun.length})`);
  const chosen = () =>
    reviews.filter((review) => finished.includes(review) || (unfinished.checked && begun.includes(review)));
  const reviewed = newAction("Reviewed documents (reviewed.jsonl)", () =>
    download("reviewed.jsonl", toJsonLines(chosen().map((review) => reviewedDocument(review, app.page)))),
  );
  const machine = newAction("The machine's codes of the same notes (machine.jsonl)", () =>
    download("machine.jsonl", toJsonLines(chosen().map(machineDocument).filter(Boolean))),
  );
  const update = () => {
    reviewed.disabled = !chosen().length;
    machine.disabled = !chosen().some(machineDocument);
  };
  unfinished.addEventListener("change", update);
  update();
  const log = newAction("Decision log (decisions.jsonl)", () => {
    download("decisions.jsonl", toJsonLines(allEntries(reviews)));
    app.store.downloaded?.();
  });
  const csv = newAction("Codes as a table (codes.csv)", () =>
    download("codes.csv", codesCsv(reviews, isExempt, app.page), "text/csv"),
  );
  const about = `${finished.length} of ${reviews.length} notes are finished. The files have patient text.`;
  const buttons = newElement("div", "file-buttons");
  buttons.append(log, reviewed, machine, csv);
  return [newElement("h3", "", "Save"), newElement("p", "", about), label, buttons];
}

function newPrintSection(reviews, close) {
  const finished = reviews.filter(({ state }) => state.finished);
  const buttons = newElement("div", "file-buttons");
  buttons.append(newAction("Print this note: summary and text", () => printReviews(null, close)));
  const all = newAction(`Print the summaries of finished notes (${finished.length})`, () =>
    printReviews(finished, close),
  );
  all.disabled = !finished.length;
  buttons.append(all);
  return [newElement("h3", "", "Print"), buttons];
}

function newImportSection(close) {
  const label = newElement("label", "field", "Go on from a decision log (decisions.jsonl)");
  const input = newElement("input");
  input.type = "file";
  input.accept = ".jsonl,application/x-ndjson";
  const problem = newElement("p", "problem");
  problem.setAttribute("role", "alert");
  input.addEventListener("change", async () => {
    const { entries, problem: text } = readLog(await input.files[0].text(), noteOf, (id) => reviewById(id).document);
    if (entries) close(say(importEntries(entries)));
    else problem.textContent = `${text} Nothing was imported.`;
  });
  label.append(input);
  return [newElement("h3", "", "Import"), label, problem];
}

function newStorageSection(reviews) {
  const [label, input] = newCheckBox("Keep my decisions in this browser", app.store.isOn);
  const about =
    "This keeps patient text (quotations, ids) unencrypted on this machine until you switch it off; other " +
    "pages opened from this machine's disk with this browser can read it. It is off unless you switch it on.";
  const text = newElement("p", "", about);
  text.id = randomId("s");
  input.setAttribute("aria-describedby", text.id);
  input.addEventListener("change", () => {
    app.store.switchStorage(input.checked, allEntries(reviews));
    input.checked = app.store.isOn;
  });
  return [newElement("h3", "", "In this browser"), label, text];
}

function newAction(label, run) {
  const button = newElement("button", "", label);
  button.type = "button";
  button.addEventListener("click", run);
  return button;
}

/* Entries that are new here, in the file's order; a sentence on them. */
function importEntries(entries) {
  if (entries.some((entry) => app.readOnly.has(entry.document)))
    return "Another tab has a note of this log; take it over first. Nothing was imported.";
  let added = 0;
  for (const review of new Set(entries.map((entry) => reviewById(entry.document)))) {
    const mine = entries.filter((entry) => entry.document === review.document.id);
    const hadOwn = review.entries.some((entry) => !mine.some((other) => other.entry === entry.entry));
    const fresh = mine.filter((entry) => appendEntry(review, entry));
    if (fresh.length) app.store.keep(review, fresh);
    if (fresh.length && hadOwn) app.diverged.add(review.document.id);
    added += fresh.length;
  }
  refreshAll();
  const apart = app.diverged.size ? " Where both had decisions, the file's hold; undo goes back." : "";
  return added ? `${added} decisions were imported.${apart}` : "This page has all of its decisions already.";
}

/** Print the summaries of these reviews; null: that of the shown note, and its text. */
function printReviews(reviews, close) {
  close(null);
  app.toPrint = reviews;
  setTimeout(() => window.print()); // once the dialog has gone
}

/** Fill what the printer gets: a sheet a note. @param {Review[]} reviews @param {HTMLElement} place */
function fillPrint(reviews, place) {
  place.replaceChildren(...reviews.map(newSheet));
}

function newSheet(review) {
  const { document: coded, state } = review;
  const sheet = newElement("article", "sheet");
  const { decided, total } = progressOf(state);
  const status = state.finished ? "Review finished" : `Review not finished: ${decided} of ${total} codes decided`;
  const decisions = [
    ["Codes", "accepted"],
    ["Undecided", "undecided"],
    ["Rejected", "rejected"],
  ];
  sheet.append(
    newElement("h2", "", `Coding summary: ${visibleText(coded.id)}`),
    newElement("p", "", aboutReview(review)),
    newElement("p", "", `${status}. Printed ${new Date().toLocaleString("en-GB")}.`),
  );
  for (const [title, decision] of decisions) {
    const items = listedItems(state).filter((item) => item.decision === decision);
    if (items.length || decision === "accepted") sheet.append(newCodeTable(review, title, items));
  }
  const signature = newElement("div", "signature");
  signature.append(
    newElement("p", "", `Reviewer: ${reviewersOf(review)}`),
    newElement("p", "", "Date:"),
    newElement("p", "", "Signature:"),
  );
  sheet.append(signature);
  return sheet;
}

function newCodeTable(review, title, items) {
  const table = newElement("table", "summary");
  table.append(newElement("caption", "", items.length ? title : `${title}: none`));
  if (!items.length) return table;
  const head = table.createTHead().insertRow();
  for (const name of ["Code", "Description", "POA", "Evidence (line:column)", "Decided by"]) {
    const cell = newElement("th", "", name);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  const decided = deciders(review);
  for (const item of items) {
    const row = body.insertRow();
    const entry = decided.get(item.key);
    const evidence = item.evidence.map((quotation) =>
      visibleText(quotationWithPlace(noteOf(review.document.id), quotation)),
    );
    const principal = item.principal ? " (principal diagnosis)" : "";
    const by = entry ? `${visibleText(entry.who)}, ${entry.at.slice(0, 16).replace("T", " ")} UTC` : "";
    const cells = [visibleText(item.code), visibleText(item.description) + principal, poaOf(item, isExempt) ?? "", "", by];
    cells.forEach((text) => row.append(newElement("td", "", text)));
    row.cells[3].append(newList(evidence));
  }
  return table;
}

function reviewersOf(review) {
  const names = [...new Set(review.entries.map((entry) => entry.who))];
  return visibleText(names.join(", ") || app.reviewer || "");
}
