"use strict";
/* The model and the rules of a served page: code a note, code it again from the coder's evidence, check after changes.

   Answers stream in as text; the document at their end becomes one act that can be undone. Read next: store.js. */

const CHECK_DELAY = 300; // ms after the last change

const OWN = "own"; // in ids of spans: evidence without a code

/** The buttons that run the model, and where its answer appears. @param {HTMLElement} place */
function showCodingActions(place) {
  if (!app.server?.canCode) return;
  const note = newButton("code-note", "Code this note");
  const again = newButton("code-again", "Code again from my evidence");
  const stop = newButton("stop-coding", "Stop");
  stop.hidden = true;
  const answer = newElement("pre", "answer");
  answer.hidden = true;
  answer.tabIndex = 0;
  answer.setAttribute("role", "region");
  answer.setAttribute("aria-label", "The model's answer");
  const own = newElement("div");
  own.id = "own-evidence";
  own.addEventListener("click", removeOwnEvidence);
  app.coding = { note, again, stop, answer, own, abort: null, running: null };
  note.addEventListener("click", () => codeNote(null));
  again.addEventListener("click", codeAgain);
  stop.addEventListener("click", () => app.coding.abort?.abort());
  place.append(note, again, stop, answer, own);
}

/** Offer what fits the note: coding where it has no codes yet, coding again where it has, or evidence of the coder's. */
function refreshCodingActions(review) {
  if (!app.coding) return;
  const hasCodes = Object.keys(review.state.codes).length > 0;
  app.coding.note.hidden = hasCodes;
  app.coding.again.hidden = !hasCodes && !review.state.evidence.length;
  app.coding.answer.hidden = review !== app.coding.running;
  showOwnEvidence(review);
}

/* The evidence without a code as an item, for its spans in the note. */
function ownEvidence({ evidence }) {
  return { key: OWN, code: "", decision: "undecided", evidence };
}

function showOwnEvidence({ document: coded, state }) {
  const { own } = app.coding;
  own.replaceChildren();
  if (!state.evidence.length) return;
  const list = newElement("ul", "quotations");
  list.setAttribute("aria-label", "My evidence without a code");
  state.evidence.forEach(({ text, start }, index) => {
    const row = list.appendChild(newElement("li"));
    const { line, column } = noteOf(coded.id).lineColumn(start);
    const words = newElement("div", "", `“${visibleText(oneLine(text))}” `);
    words.append(newElement("span", "place", `line ${line}:${column}`));
    const remove = newButton("remove-evidence", "Remove");
    remove.setAttribute("aria-label", `Remove quotation ${index + 1} of my evidence without a code`);
    remove.dataset.index = index;
    row.append(words, remove);
  });
  own.append(newElement("p", "", "My evidence without a code, from which the model can code again:"), list);
}

async function removeOwnEvidence(event) {
  const button = event.target.closest("[data-command]");
  if (!button) return;
  await act("remove-evidence", { index: Number(button.dataset.index) });
  (app.coding.own.querySelector("button") ?? [app.coding.again, app.coding.note].find(({ hidden }) => !hidden))?.focus();
}

/* "+ Evid.": quotations of accepted codes and those that the coder added, with or without a code, instead of the
   model's own. */
function codeAgain() {
  const { review } = currentNote();
  const evidence = listedItems(review.state)
    .filter((item) => item.decision !== "rejected")
    .flatMap((item) =>
      item.evidence.filter(
        (quotation) =>
          isLocated(quotation) && (item.decision === "accepted" || isCodersOwn(review, item.key, quotation)),
      ),
    );
  const all = [...review.state.evidence, ...evidence].sort((one, other) => one.start - other.start);
  const texts = all.map(({ text }) => text);
  if (!texts.length) say("Accept a code with evidence first, or add evidence; then the model codes from it.");
  else codeNote([...new Set(texts)]);
}

function isCodersOwn(review, key, { start, end }) {
  const has = (item) => Boolean(item?.evidence.some((quotation) => quotation.start === start && quotation.end === end));
  return review.entries.some(
    ({ act: name, before, after }) => name === "add-evidence" && has(after.codes?.[key]) && !has(before.codes?.[key]),
  );
}

async function codeNote(evidence) {
  const { review } = currentNote();
  if (app.coding.abort) return undefined;
  if (review.state.finished) return say(FINISHED);
  const { id } = review.document;
  if (app.readOnly.has(id)) return say(READ_ONLY);
  if (!app.reviewer && !(await nameReviewer())) return say("Not coded: the log needs a name."); // before minutes of work
  if (app.coding.abort) return undefined;
  const { coding } = app;
  coding.abort = new AbortController();
  coding.answer.textContent = "";
  setCoding(review);
  say("The model is coding this note…");
  try {
    const body = { document: id, evidence };
    const { document, answer } = await streamAnswer(body, coding.abort.signal, (text) => {
      coding.answer.append(text);
      coding.answer.scrollTop = coding.answer.scrollHeight;
    });
    return await act("code-again", { codes: document.codes, answer }, review);
  } catch (error) {
    const which = review === currentNote().review ? "" : `${visibleText(id)}: `;
    const what = error.name === "AbortError" ? "Stopped; nothing has changed." : `Not coded: ${error.message}`;
    return say(which + what);
  } finally {
    coding.abort = null;
    setCoding(null);
  }
}

/* `review`: the note that is being coded; null for none. */
function setCoding(review) {
  const { note, again, stop, answer } = app.coding;
  app.coding.running = review;
  note.disabled = review !== null;
  again.disabled = review !== null;
  stop.hidden = review === null;
  answer.hidden = review === null;
}

/* The last message of the stream, {document, answer}; `onText` is given what comes before. */
async function streamAnswer(body, signal, onText) {
  const response = await callServer(app.server, "/api/code", body, signal);
  if (response.status === 429) throw new Error("the model is coding another note; try again when it is done");
  if (!response.ok) throw new Error((await response.text()).slice(0, 300));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value = "", done } = await reader.read();
    const lines = (rest + value).split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines.filter(Boolean)) {
      const message = JSON.parse(line);
      if (message.document) return message;
      if (message.error) throw new Error(message.error);
      onText(visibleText(message.text ?? ""));
    }
    if (done) throw new Error("the answer ended too early");
  }
}

/** Check rules and assertions of the codes that are not rejected, a moment after the last change. */
function checkSoon(review) {
  if (!app.server) return;
  clearTimeout(app.checkTimer);
  app.checkTimer = setTimeout(() => check(review), CHECK_DELAY);
}

async function check(review) {
  const items = listedItems(review.state).filter((item) => item.decision !== "rejected");
  const toPlain = ({ text, start, end }) => ({ text, start, end });
  const codes = items.map(({ code, evidence }) => ({ code, evidence: evidence.filter(isLocated).map(toPlain) }));
  const asked = review.state;
  try {
    const response = await callServer(app.server, "/api/check", { document: review.document.id, codes });
    if (!response.ok || review.state !== asked) return;
    const answer = await response.json();
    const assertions = answer.codes.flatMap(({ code, evidence }) =>
      evidence.map(({ start, end, assertion }) => [evidenceName(code, start, end), assertion ?? ""]),
    );
    const rules = new Map(answer.codes.map((code) => [code.code, code.rules ?? []]));
    app.checks.set(review.document.id, { rules, assertions: new Map(assertions), warnings: answer.warnings ?? [] });
    refresh();
  } catch {
    // the store says that the server does not answer; the findings before stay
  }
}

function evidenceName(code, start, end) {
  return `${code}:${start}:${end}`;
}
