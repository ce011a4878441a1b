"use strict";
/* The list of codes: one card an item, built again only where what it shows has changed.

   What a click does is told to `onAct(command, key, index)`; nothing is decided here. Read next: card.js, a card. */

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
    list.addEventListener("keydown", (event) => {
      if (event.repeat && event.key === "Enter") event.preventDefault(); // a key held down presses a button once
    });
    list.addEventListener("focusin", (event) => this.tellFocus(event.target));
    list.addEventListener("toggle", (event) => this.fillNotes(event.target), true); // toggle does not bubble
  }

  /** Show these cards, in order. @param {Card[]} cards */
  show(cards) {
    const focusedPart = this.focusedPart();
    this.cards = new Map(cards.map((card) => [card.item.key, card]));
    for (const [key, element] of this.elements) {
      if (this.cards.has(key)) continue;
      element.remove();
      this.elements.delete(key);
    }
    cards.forEach((card, position) => this.place(card, position));
    if (focusedPart) this.restoreFocus(focusedPart);
  }

  /* Touches only what has changed: a list that is emptied for a moment loses its place. */
  place(card, position) {
    const { key } = card.item;
    const signature = JSON.stringify({ ...card, info: card.info && card.info.valid });
    const before = this.elements.get(key);
    if (!before || this.signatures.get(key) !== signature) {
      const wasUnfolded = before?.querySelector("details")?.open;
      this.elements.set(key, newCard(card));
      before?.replaceWith(this.elements.get(key));
      if (wasUnfolded) this.unfold(key);
    }
    this.signatures.set(key, signature);
    const element = this.elements.get(key);
    if (this.list.children[position] !== element) this.list.insertBefore(element, this.list.children[position] ?? null);
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

  /** Bring the card of `key` to the screen; the keyboard focus comes to it, unless it is on a part of it. */
  bring(key) {
    const element = this.elements.get(key);
    if (!element) return;
    if (!element.contains(document.activeElement)) element.firstElementChild.focus({ preventScroll: true });
    element.scrollIntoView({ block: "nearest" });
    if (!this.isOnScreen(key)) element.scrollIntoView({ block: "start" });
  }

  /** Scroll the card of `key` into view, without the keyboard focus. */
  reveal(key) {
    this.elements.get(key)?.scrollIntoView({ block: "nearest" });
  }

  /** Whether the heading and most of the card of `key`, or as much as fits, are on the screen. @returns {boolean} */
  isOnScreen(key) {
    const element = this.elements.get(key);
    if (!element?.checkVisibility()) return false;
    const pane = this.list.closest("section").getBoundingClientRect();
    const hints = document.getElementById("hints").getBoundingClientRect(); // may lie over the pane
    const top = Math.max(pane.top, 0);
    const bottom = Math.min(pane.bottom, hints.top, window.innerHeight);
    const share = (part) => {
      const box = part.getBoundingClientRect();
      return (Math.min(box.bottom, bottom) - Math.max(box.top, top)) / Math.min(box.height, bottom - top);
    };
    return bottom > top && share(element.querySelector("h3")) > 0.95 && share(element) >= 0.6;
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
    if (key && !this.isRestoring) this.onAct("reach", key, index && Number(index));
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

  unfold(key) {
    const details = this.elements.get(key).querySelector("details");
    if (!details) return;
    details.open = true;
    this.fillNotes(details); // now: the event of its opening comes later, and the list would jump
  }

  /** Fold the notes of all cards: another document comes. */
  foldNotes() {
    for (const details of this.list.querySelectorAll("details")) details.open = false;
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
