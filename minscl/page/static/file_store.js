"use strict";
/* Where a page in a file keeps the decision log: nowhere, until it is downloaded; in the browser's storage only if the
   reviewer switches that on. There each entry has a key of its own, so that two tabs never write over each other; the
   second is told by a broadcast channel and only reads.

   Read next: tabs.js. */

const STORAGE = "minscl.review.";
const ENTRY_KEY = /^(\d+)\.(.+)$/; // number in the order of writing, id of the entry

/** The log of a page in a file. */
class FileStore {
  /**
   * @param {Object[]} documents
   * @param {{onStatus: (text: string, unsaved: number) => void, onTaken: () => void, onFree: () => void,
   *   onFull: () => void}} handlers onTaken: another tab keeps the decisions of this page; onFree: none does any more;
   *   onFull: the storage takes no more and is empty now
   */
  constructor(documents, handlers) {
    this.handlers = handlers;
    this.unsaved = 0; // decisions since the log was downloaded
    this.restored = 0; // of them in the storage when the page was opened
    this.prefix = `${STORAGE}${pageId(documents)}.`;
    this.number = 0; // of the next entry
    this.isOn = false;
    this.isTaken = false;
    window.addEventListener("storage", (event) => this.onStorage(event));
    try {
      this.channel = new BroadcastChannel(this.prefix);
      this.channel.addEventListener("message", ({ data }) => this.onMessage(data));
    } catch {
      this.channel = null; // forbidden: the first decision of another tab tells
    }
  }

  /** The entries that the browser kept of this page. @returns {Object[]} */
  restore() {
    try {
      this.isOn = localStorage.getItem(`${this.prefix}on`) !== null;
      const places = this.isOn ? this.places() : [];
      const entries = places.map(({ key }) => JSON.parse(localStorage.getItem(key)));
      this.number = (places.at(-1)?.number ?? -1) + 1;
      this.restored = entries.length;
      if (this.isOn) this.post("opened");
      return entries;
    } catch {
      return []; // the browser forbids storage, or another page wrote into it
    }
  }

  /* Keys of this page's entries in the storage, in the order of writing. */
  places() {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => ({ key, match: ENTRY_KEY.exec(key.slice(this.prefix.length)) }))
      .filter(({ match }) => match)
      .map(({ key, match }) => ({ key, number: Number(match[1]) }))
      .sort((one, other) => one.number - other.number);
  }

  keep(_review, entries) {
    this.unsaved += entries.length;
    if (this.isOn) this.write(entries);
    this.tell();
  }

  /* Where the storage is full or forbidden, nothing stays: half a log would be patient text that nobody expects. */
  write(entries) {
    try {
      for (const entry of entries) {
        localStorage.setItem(`${this.prefix}${this.number}.${entry.entry}`, JSON.stringify(entry));
        this.number += 1;
      }
    } catch {
      this.empty();
      this.handlers.onFull();
    }
  }

  /** Switch the browser's storage on, with the log so far, or off, and empty it. @param {Entry[]} entries so far */
  switchStorage(on, entries) {
    if (on && this.isKeptElsewhere()) {
      this.yield();
      return;
    }
    this.empty();
    if (on) {
      this.isOn = true;
      try {
        localStorage.setItem(`${this.prefix}on`, "1");
      } catch {
        this.empty();
        this.handlers.onFull();
      }
    }
    if (this.isOn) this.write(entries);
    this.tell();
  }

  /* Whether another tab of this page has switched the storage on since this one was opened. */
  isKeptElsewhere() {
    try {
      return !this.isOn && localStorage.getItem(`${this.prefix}on`) !== null;
    } catch {
      return false;
    }
  }

  /* Take everything of this page out of the storage, which is off then. */
  empty() {
    try {
      for (const key of Object.keys(localStorage)) if (key.startsWith(this.prefix)) localStorage.removeItem(key);
    } catch {
      // forbidden: there is nothing
    }
    this.leave();
  }

  /* The storage is off: what was in it is nowhere but in this page. */
  leave() {
    this.isOn = false;
    this.number = 0;
    this.unsaved += this.restored;
    this.restored = 0;
  }

  /** The log was downloaded. */
  downloaded() {
    this.unsaved = 0;
    this.restored = 0;
    this.tell();
  }

  tell() {
    const { unsaved } = this;
    const inBrowser = this.isOn ? "Kept in this browser" : "";
    const text = unsaved ? `${unsaved} ${unsaved === 1 ? "decision" : "decisions"} not downloaded` : "";
    this.handlers.onStatus([inBrowser, text].filter(Boolean).join("; "), this.isOn ? 0 : unsaved);
  }

  /** Whether this tab decides; see ServerStore. */
  async open() {
    return { owner: !this.isTaken };
  }

  setBlocked() {}

  /** This tab decides from now on, and goes on from what is in the storage. */
  takeOver() {
    this.post("taken");
    location.reload();
  }

  post(what, to = null) {
    this.channel?.postMessage({ what, from: TAB, to });
  }

  onMessage({ what, from, to }) {
    if (!this.isOn || (to && to !== TAB)) return;
    if (what === "opened" && !this.isTaken) this.post("open", from);
    else if (what !== "opened") this.yield();
  }

  /* Another tab wrote, or switched the storage off. */
  onStorage({ key, newValue }) {
    if (!(this.isOn || this.isTaken) || !key?.startsWith(this.prefix)) return;
    if (newValue !== null) this.yield();
    else if (key === `${this.prefix}on`) {
      this.leave();
      this.isTaken = false;
      this.handlers.onFree();
      this.tell();
    }
  }

  yield() {
    this.isTaken = true;
    this.handlers.onTaken();
  }
}

/* Tells pages apart by ids, texts and machine's codes of their notes (FNV-1a, two halves). */
function pageId(documents) {
  let [low, high] = [0x811c9dc5, 0x9747b28c];
  for (const { id, text, codes } of documents) {
    const places = codes.map(({ code, evidence }) => [code, evidence.map(({ start, end }) => [start, end])]);
    for (const character of `${id}\n${text.length}\n${text}\n${JSON.stringify(places)}\n`) {
      low = Math.imul(low ^ character.codePointAt(0), 0x01000193);
      high = Math.imul(high ^ character.codePointAt(0), 0x01000197);
    }
  }
  return [low, high].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}
