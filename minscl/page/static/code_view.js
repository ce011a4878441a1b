"use strict";
/* The list of codes: one card an item, built again only where what it shows has changed.

   A card says in words what colour says too: decision, validity, assertion, evidence that was not found. What a click
   does is told to `onAct(command, key, index)`; nothing is decided here. Read next: keys.js, the commands. */

const POA_WORDS = { Y: "yes", N: "no", U: "documentation insufficient", W: "clinically undetermined", exempt: "exempt" };
const INFORMATIONAL = ["Excludes1 (different sides)", "Excludes2", "Use additional code", "Code also"];

/**
 * What a card shows.
 * @typedef {{item: Item, origin: string, poa: string|null, rules: string[], assertions: string[], places: string[],
 *   info: Object|null}} Card
 */
class CodeView {
  /** @param {HTMLElement} list @param {(command: string, key: string, index?: number) => void} onAct */
  constructor(list, onAct) {
    this.list = list;
    this.onAct = onAct;
    this.elements = new Map(); // key → its <li>
    this.signatures = new Map();
    this.cards = new Map();
    this.isRestoring = false;
    list.addEventListener("click", (event) => this.tell(event.target));
    list.addEventListener("focusin", (event) => this.tellFocus(event.target));
    list.addEventListener("toggle", (event) => this.fillNotes(event.target), true); // toggle does not bubble
  }

  /** Show these cards, in order. @param {Card[]} cards */
  show(cards) {
    const focusedPart = this.focusedPart();
    for (const key of this.elements.keys()) if (!cards.some(({ item }) => item.key === key)) this.elements.delete(key);
    this.cards = new Map(cards.map((card) => [card.item.key, card]));
    const elements = cards.map((card) => {
      const { key } = card.item;
      const signature = JSON.stringify({ ...card, info: card.info && card.info.valid });
      if (!this.elements.has(key) || this.signatures.get(key) !== signature) this.elements.set(key, newCard(card));
      this.signatures.set(key, signature);
      return this.elements.get(key);
    });
    const isInPlace = elements.length === this.list.children.length
      && elements.every((element, index) => element === this.list.children[index]);
    if (!isInPlace) this.list.replaceChildren(...elements);
    if (focusedPart) this.restoreFocus(focusedPart);
  }

  /** Mark the card of `key` as the one that acts are about, and a quotation of it. */
  mark(key, index = null) {
    for (const [other, element] of this.elements) {
      const isCurrent = other === key;
      element.classList.toggle("current", isCurrent);
      const card = element.firstElementChild;
      card.tabIndex = isCurrent ? 0 : -1;
      if (isCurrent) card.setAttribute("aria-current", "true");
      else card.removeAttribute("aria-current");
      element.querySelectorAll(".quotations > li").forEach((quotation, position) => {
        quotation.classList.toggle("current", isCurrent && position === index);
      });
    }
  }

  /** Give the card of `key`, or a quotation of it, the keyboard focus, in view. */
  focus(key, index = null) {
    const element = this.elements.get(key);
    if (!element) return;
    const part = index === null ? null : element.querySelector(`[data-part="quotation-${index}"]`);
    (part ?? element.firstElementChild).focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
    part?.scrollIntoView({ block: "nearest" });
  }

  /** Whether most of the card of `key`, or as much as fits, is on the screen now. @returns {boolean} */
  isOnScreen(key) {
    const box = this.elements.get(key)?.getBoundingClientRect();
    const pane = this.list.closest("section").getBoundingClientRect();
    const top = Math.max(pane.top, 0);
    const bottom = Math.min(pane.bottom, window.innerHeight);
    if (!box?.height || bottom <= top) return false;
    const visible = Math.min(box.bottom, bottom) - Math.max(box.top, top);
    return visible >= 0.6 * Math.min(box.height, bottom - top);
  }

  tell(target) {
    const key = target.closest(".card-place")?.dataset.key;
    if (!key) return;
    const button = target.closest("[data-command]");
    if (button) this.onAct(button.dataset.command, key, button.dataset.index && Number(button.dataset.index));
    else if (!target.closest("details")) this.onAct("focus", key);
  }

  tellFocus(target) {
    const key = target.closest(".card-place")?.dataset.key;
    const index = target.closest("[data-index]")?.dataset.index;
    if (key && !this.isRestoring) this.onAct("look", key, index && Number(index));
  }

  focusedPart() {
    const key = document.activeElement?.closest?.(".card-place")?.dataset.key;
    return key ? { key, part: document.activeElement.dataset.part } : null;
  }

  restoreFocus({ key, part }) {
    const element = this.elements.get(key);
    if (!element || element.contains(document.activeElement)) return;
    this.isRestoring = true; // no look at the card by the coder
    (element.querySelector(`[data-part="${part}"]`) ?? element.firstElementChild).focus({ preventScroll: true });
    this.isRestoring = false;
  }

  /* The notes of the Tabular List, built when they are unfolded. */
  fillNotes(details) {
    const card = this.cards.get(details.closest(".card-place")?.dataset.key);
    if (!card || !details.open || details.childElementCount > 1) return;
    for (const { title, name, texts } of card.info.notes) {
      details.append(newElement("h4", "", `${title} (${name})`), newList(texts.map((text) => visibleText(text))));
    }
  }
}

/* The <li> of a card. */
function newCard(card) {
  const { item, info } = card;
  const place = newElement("li", `card-place ${item.decision}`);
  place.dataset.key = item.key;
  const element = place.appendChild(newElement("article", "card"));
  element.tabIndex = -1;
  element.dataset.part = "card";
  const title = newElement("h3");
  title.id = `code-${item.key}`;
  title.append(newElement("span", "code", item.code), ` ${visibleText(item.description) || "(not in the Tabular List)"}`);
  element.setAttribute("aria-labelledby", title.id);
  const head = newElement("div", "card-head");
  head.append(title, newElement("span", "decision", item.decision));
  element.append(head, newElement("p", "facts", factsOf(card)));
  if (info?.valid) element.append(newElement("p", "problem", `Not valid as a code: ${info.valid}.`));
  element.append(newQuotations(card));
  if (card.rules.length) element.append(newRules(card));
  if (info?.path.length > 1) element.append(newPath(info.path.slice(0, -1)));
  if (info?.notes.length) element.append(newNotes(info.notes));
  element.append(newButtons(item));
  return place;
}

/* "principal diagnosis · present on admission: yes (Y) · score 0.82" */
function factsOf({ item, origin, poa }) {
  const facts = [];
  if (item.principal) facts.push("principal diagnosis");
  if (poa) facts.push(`present on admission: ${poa === "exempt" ? "exempt" : `${POA_WORDS[poa]} (${poa})`}`);
  if (item.score !== null) facts.push(`score ${item.score.toFixed(2)}`);
  if (item.added) facts.push("added by a reviewer");
  else if (origin !== "no") facts.push(origin);
  return facts.join(" · ");
}

function newQuotations({ item, assertions, places }) {
  if (!item.evidence.length) return newElement("p", "problem", "No evidence is named.");
  const list = newElement("ul", "quotations");
  list.setAttribute("aria-label", `Evidence of ${item.code}`);
  item.evidence.forEach((evidence, index) => {
    const row = list.appendChild(newElement("li"));
    row.dataset.index = index;
    const quotation = newButton("look", `“${visibleText(oneLine(evidence.text))}”`, `quotation-${index}`);
    quotation.classList.add("quotation");
    quotation.dataset.index = index;
    const place = places[index] ? `line ${places[index]}` : "not found in the note";
    const status = assertions[index];
    const remove = newButton("remove-evidence", "Remove", `remove-${index}`);
    remove.setAttribute("aria-label", `Remove quotation ${index + 1} of ${item.code}`);
    remove.dataset.index = index;
    const words = newElement("div");
    words.append(quotation, " ", newElement("span", places[index] ? "place" : "problem", place));
    if (status) words.append(" ", newElement("span", status === "affirmed" ? "place" : "problem", status));
    row.append(words, remove);
  });
  return list;
}

function newRules({ rules }) {
  const list = newList(rules.map(visibleText));
  list.classList.add("rules");
  rules.forEach((rule, index) => {
    const informs = INFORMATIONAL.some((name) => rule.startsWith(`${name}:`));
    list.children[index].className = informs ? "note-rule" : "problem";
  });
  return list;
}

function newPath(nodes) {
  const path = newElement("ol", "path");
  path.setAttribute("aria-label", "Place in the Tabular List");
  for (const { name, description } of nodes) path.append(newElement("li", "", `${name} ${description}`));
  return path;
}

function newNotes(notes) {
  const details = newElement("details", "notes");
  const kinds = [...new Set(notes.map(({ title }) => title.toLowerCase()))];
  const summary = newElement("summary", "", `Notes: ${kinds.join(", ")}`);
  summary.dataset.part = "notes";
  details.append(summary);
  return details;
}

function newButtons(item) {
  const row = newElement("div", "card-acts");
  for (const [command, label, decision] of [["accept", "Accept", "accepted"], ["reject", "Reject", "rejected"]]) {
    const button = newButton(command, label, command);
    button.setAttribute("aria-label", `${label} ${item.code}`);
    button.setAttribute("aria-pressed", String(item.decision === decision));
    row.append(button);
  }
  return row;
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
  return visiblePieces(text).map((piece) => (piece.label ? `[${piece.label}]` : piece.text)).join("");
}

/** `text` with its white space as single blanks; a byte order mark is none. @returns {string} */
function oneLine(text) {
  return text.split(/[^\S\uFEFF]+/).filter(Boolean).join(" ");
}
