"use strict";
/* The commands: what each is called, its keys, and what it runs; the bar that shows them and the keyboard that starts
   them. Single letters rest while one types in a field or a dialog is open. Read next: main.js, which has the acts. */

const WINDOWS_REDO = "Ctrl+Y";

/* keys: as KeyboardEvent names them after `chordOf`; bar: shown in the hint bar; needs: what must be in focus. */
const COMMANDS = {
  accept: { label: "Accept", keys: ["A"], group: "Decide", bar: true, run: () => actOnCode("accept") },
  reject: { label: "Reject", keys: ["R"], group: "Decide", bar: true, run: () => actOnCode("reject") },
  undecide: { label: "Undecide", keys: ["D"], group: "Decide", run: () => actOnCode("undecide") },
  undo: { label: "Undo", keys: ["U", "Ctrl+Z"], group: "Decide", bar: true, run: () => turn("undo") },
  redo: {
    label: "Redo",
    keys: ["Shift+U", "Ctrl+Shift+Z", WINDOWS_REDO],
    group: "Decide",
    bar: true,
    run: () => turn("redo"),
  },
  next: { label: "Next", keys: ["J"], about: "Next code", group: "Move", bar: true, run: () => stepCode(1) },
  previous: {
    label: "Previous",
    keys: ["K"],
    about: "Previous code",
    group: "Move",
    bar: true,
    run: () => stepCode(-1),
  },
  "next-note": { label: "Next note", keys: ["N"], group: "Move", run: () => stepNote(1) },
  "previous-note": { label: "Previous note", keys: ["B"], group: "Move", run: () => stepNote(-1) },
  pane: {
    label: "Note/codes",
    keys: ["V"],
    group: "Move",
    bar: true,
    run: changePane,
    about: "From the codes to the note, where arrow keys select words, and back",
  },
  "add-evidence": {
    label: "Add evidence",
    keys: ["E"],
    group: "Evidence and codes",
    bar: true,
    run: addEvidence,
    about: "Add the selected words of the note to the code's evidence",
  },
  "remove-evidence": {
    label: "Remove",
    keys: ["Delete", "Backspace"],
    group: "Evidence and codes",
    bar: true,
    run: removeEvidence,
    about: "Remove the quotation in focus",
  },
  search: {
    label: "Add a code",
    keys: ["/"],
    group: "Evidence and codes",
    bar: true,
    run: addCode,
    about: "Search and add a code; selected words become its evidence",
  },
  change: {
    label: "Change",
    keys: ["C"],
    group: "Evidence and codes",
    bar: true,
    run: changeCode,
    about: "Change the code to another of its category",
  },
  principal: {
    label: "Principal",
    keys: ["P"],
    group: "Evidence and codes",
    bar: true,
    run: setPrincipal,
    about: "Principal diagnosis; again: not",
  },
  "move-down": {
    label: "Move down",
    keys: ["Shift+J"],
    group: "Evidence and codes",
    run: () => actOnCode("move", "move it", { direction: 1 }),
  },
  "move-up": {
    label: "Move up",
    keys: ["Shift+K"],
    group: "Evidence and codes",
    run: () => actOnCode("move", "move it", { direction: -1 }),
  },
  "poa-y": poaCommand("1", "Y", "yes"),
  "poa-n": poaCommand("2", "N", "no"),
  "poa-u": poaCommand("3", "U", "documentation insufficient"),
  "poa-w": poaCommand("4", "W", "clinically undetermined"),
  "poa-exempt": poaCommand("5", "exempt", "exempt from reporting"),
  "poa-none": poaCommand("0", null, "not said"),
  finish: {
    label: "Finish",
    keys: ["F"],
    group: "Note and page",
    bar: true,
    run: finishNote,
    about: "Finish the note; a finished one: reopen it",
  },
  export: {
    label: "Export",
    keys: ["X"],
    group: "Note and page",
    run: () => exportDialog(),
    about: "Export, import, print, what is kept",
  },
  help: { label: "Help", keys: ["?"], group: "Note and page", bar: true, run: showHelp },
};

function poaCommand(key, poa, words) {
  const label = `POA ${poa ?? "none"}`;
  return {
    label,
    keys: [key],
    group: "Present on admission",
    run: () => setPoa(poa),
    about: `${poa ?? "–"}: ${words}`,
  };
}

/** "Ctrl+Shift+Z", "A", "?": a key with what is held; Shift only for letters. @returns {string} */
function chordOf(event) {
  const isCharacter = event.key.length === 1;
  const isLatin = isCharacter && event.key <= "\u007f";
  const fromCode = /^Key[A-Z]$/.test(event.code) ? event.code.slice(3) : event.key; // another alphabet's keyboard
  const key = isCharacter && !isLatin ? fromCode : isCharacter ? event.key.toUpperCase() : event.key;
  const shift = event.shiftKey && (/^[A-Z]$/.test(key) || !isCharacter) ? "Shift+" : "";
  return `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${shift}${key}`;
}

/** Let the keyboard start commands. */
function listenForKeys() {
  const byChord = new Map(Object.entries(COMMANDS).flatMap(([name, { keys }]) => keys.map((key) => [key, name])));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.isComposing || document.querySelector("dialog[open]") || isTyping(event.target)) return;
    const chord = chordOf(event);
    const name = byChord.get(chord);
    if (!name || (!app.lettersAct && /^(Shift\+)?.$/u.test(chord)) || (event.repeat && !REPEATABLE.has(name))) return;
    event.preventDefault();
    if (event.repeat && app.isBrought) return;
    app.isBrought = false;
    run(name);
  });
}

const REPEATABLE = new Set(["next", "previous", "undo", "redo", "move-up", "move-down"]); // while the key is held

function isTyping(element) {
  if (element.matches("textarea, select, [contenteditable]")) return true;
  return element.matches("input") && !["checkbox", "radio", "button"].includes(element.type);
}

function run(name) {
  COMMANDS[name].run();
}

/** The bar of commands with their keys. @param {HTMLElement} bar */
function showHints(bar) {
  const group = newElement("div", "hint-row");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "Commands and their keys");
  for (const [name, { label, keys, about, bar: isShown }] of Object.entries(COMMANDS)) {
    if (!isShown) continue;
    const button = newButton(name, "", `hint-${name}`);
    if (about) button.title = about;
    button.setAttribute("aria-keyshortcuts", keys.map(shortcutName).join(" "));
    const key = newElement("kbd", "", keys[0]);
    key.setAttribute("aria-hidden", "true");
    button.append(key, newElement("span", "", label));
    group.append(button);
  }
  group.addEventListener("pointerdown", (event) => event.preventDefault()); // the selection in the note stays
  group.addEventListener("click", (event) => {
    const button = event.target.closest("[data-command]");
    if (button) run(button.dataset.command);
  });
  bar.append(newMessageLine(), group);
}

function shortcutName(chord) {
  return chord.replace("Ctrl", "Control");
}

function newMessageLine() {
  const line = newElement("p", "message");
  line.id = "message";
  line.setAttribute("aria-hidden", "true"); // the live region says it
  return line;
}

/** Tell the coder something, in sight and by voice. */
function say(sentence) {
  const text = visibleText(sentence); // a code is what a file says it is
  document.getElementById("message").textContent = text;
  const live = document.getElementById("live");
  live.textContent = "";
  requestAnimationFrame(() => {
    live.textContent = text; // the same text twice is said twice
  });
}
