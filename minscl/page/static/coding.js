"use strict";
/* The model and the rules of a served page: code a note, code it again from the coder's evidence, check after changes.

   Answers stream in as text; the document at their end becomes one act that can be undone. Read next: store.js. */

const CHECK_DELAY = 300; // ms after the last change

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
  app.coding = { note, again, stop, answer, abort: null };
  note.addEventListener("click", () => codeNote(null));
  again.addEventListener("click", codeAgain);
  stop.addEventListener("click", () => app.coding.abort?.abort());
  place.append(note, again, stop, answer);
}

/** Offer what fits the note: coding where it has no codes yet, coding again where it has. */
function refreshCodingActions(review) {
  if (!app.coding) return;
  const hasCodes = Object.keys(review.state.codes).length > 0;
  app.coding.note.hidden = hasCodes;
  app.coding.again.hidden = !hasCodes;
}

/* "+ Evid.": quotations of accepted codes and those that the coder added, instead of the model's own. */
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
  const texts = evidence.sort((one, other) => one.start - other.start).map(({ text }) => text);
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
  if (app.coding.abort) return;
  if (review.state.finished) {
    say("This note is finished. Press F to reopen it.");
    return;
  }
  const { coding } = app;
  coding.abort = new AbortController();
  coding.answer.textContent = "";
  setCoding(true);
  say("The model is coding this note…");
  try {
    const body = { document: review.document.id, evidence };
    const document = await streamAnswer(body, coding.abort.signal, (text) => {
      coding.answer.append(text);
      coding.answer.scrollTop = coding.answer.scrollHeight;
    });
    await act("code-again", { codes: document.codes }, review);
  } catch (error) {
    say(error.name === "AbortError" ? "Stopped; nothing has changed." : `Not coded: ${error.message}`);
  } finally {
    coding.abort = null;
    setCoding(false);
  }
}

function setCoding(isRunning) {
  const { note, again, stop, answer } = app.coding;
  note.disabled = isRunning;
  again.disabled = isRunning;
  stop.hidden = !isRunning;
  answer.hidden = !isRunning;
}

/* The coded document at the end of the stream; `onText` is given what comes before. */
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
      if (message.document) return message.document;
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
