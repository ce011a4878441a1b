"use strict";
/* Small things that every view builds with. What comes from a note, a file or the model gets into the page as text
   content alone. Read next: note_view.js. */

/** An element with a class and, if `text` is given, that text. @returns {HTMLElement} */
function newElement(tag, className = "", text = undefined) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A button that names a command. @returns {HTMLButtonElement} */
function newButton(command, label, part = command) {
  const button = newElement("button", "", label);
  button.type = "button";
  button.dataset.command = command;
  button.dataset.part = part;
  return button;
}

function newList(texts) {
  const list = newElement("ul");
  list.append(...texts.map((text) => newElement("li", "", text)));
  return list;
}

/** `text` with its invisible characters named, for all that is not the note. @returns {string} */
function visibleText(text) {
  return visiblePieces(text)
    .map((piece) => (piece.label ? `[${piece.label}]` : piece.text))
    .join("");
}

/** `text` with its white space as single blanks; a byte order mark is none. @returns {string} */
function oneLine(text) {
  return text
    .split(/[^\S\uFEFF]+/)
    .filter(Boolean)
    .join(" ");
}
