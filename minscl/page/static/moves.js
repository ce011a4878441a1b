"use strict";
/* Moving about: from code to code, note to note, between note and codes, and from word to word.

   Read next: commands.js, what is done to the code in focus. */

/** The next or previous code in the list gets the focus. */
function stepCode(step) {
  const keys = listedItems(currentNote().review.state).map((item) => item.key);
  if (!keys.length) return say("This note has no codes; press / to add one.");
  const place = placeAfter(keys, step);
  say("");
  if (place < 0 || place >= keys.length) say(step < 0 ? "This is the first code." : "This is the last code.");
  const key = keys[Math.max(0, Math.min(keys.length - 1, place))];
  showPane("codes");
  app.codeView.focus(key);
  return lookAt(key);
}

/* Where a step leads. The principal diagnosis has just moved to the beginning: on from where it was. */
function placeAfter(keys, step) {
  const { key, neighbours = {} } = app.moved ?? {};
  const neighbour = key === app.key ? keys.indexOf(neighbours[step]) : -1;
  return neighbour < 0 ? keys.indexOf(app.key) + step : neighbour;
}

function stepNote(step) {
  const index = app.index + step;
  if (!app.documents[index]) return say(step < 0 ? "This is the first note." : "This is the last note.");
  showNote(index);
  return say(`Note ${index + 1} of ${app.documents.length}: ${visibleText(app.documents[index].id)}`);
}

/** From the codes to the note, where the arrow keys select words, and back. */
function changePane() {
  const isNote = isNarrow()
    ? document.body.dataset.pane === "note"
    : document.getElementById("note").contains(document.activeElement);
  if (isNote) goToCodes();
  else goToNote();
}

/** Whether one of note and codes is shown, as in screens.css. */
function isNarrow() {
  return matchMedia("(max-width: 899px)").matches;
}

/** To the code in focus, or the pane where there is none. */
function goToCodes() {
  showPane("codes");
  if (app.key === null) document.getElementById("code-pane").focus();
  else app.codeView.focus(app.key, app.quotation);
}

/** To the text of the note; on a narrow page, which had hidden it, at what is in focus. */
function goToNote() {
  showPane("note");
  document.getElementById("note").focus({ preventScroll: true });
  if (isNarrow()) showFocus(true);
}

/** On a narrow page, which of note and codes is shown. */
function showPane(name) {
  document.body.dataset.pane = name;
  document.getElementById("pane-switch").textContent = name === "note" ? "Show codes" : "Show note";
}

/** Arrow keys select words of the note, Enter shows the code that quotes them. @param {HTMLElement} note */
function listenToNote() {
  const note = document.getElementById("note");
  const steps = { ArrowRight: [1, false], ArrowLeft: [-1, false], ArrowDown: [1, true], ArrowUp: [-1, true] };
  note.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") {
      const ids = wordCursor().spans();
      if (ids.length) pickSpans(ids);
    } else if (event.key in steps) {
      const [step, lines] = steps[event.key];
      const range = wordCursor().move(step, { lines, extend: event.shiftKey });
      if (range) say(visibleText(oneLine(currentNote().note.slice(range.start, range.end))));
    } else return;
    event.preventDefault();
  });
}

/* The keyboard's cursor in the shown note. */
function wordCursor() {
  if (app.cursor?.note !== app.noteView.note) app.cursor = new WordCursor(app.noteView);
  return app.cursor;
}
