"use strict";
/* Where the decision log is kept.

   served page   the server's journal: an entry is saved once the server has answered; until then it is sent again
   page in a file   nowhere, until it is downloaded; in the browser's storage only if the reviewer switches that on

   Read next: main.js. */

const STORAGE = "minscl.review.";
const ENTRIES_AT_ONCE = 200; // keeps a request far below the server's limit
const RETRY_SECONDS = [1, 2, 5, 10, 30];
const TAB = randomId("t");

/** A request to the server; rejects where it does not answer. @returns {Promise<Response>} */
function callServer(server, path, body = undefined, signal = undefined) {
  const headers = { "X-Minscl-Token": server.token };
  if (body === undefined) return fetch(path, { headers, signal });
  headers["Content-Type"] = "application/json";
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/** The log on the server. */
class ServerStore {
  /** @param {Object} server of page-data @param {{onStatus: (text: string, unsaved: number) => void,
   *  onTaken: (document: string) => void}} handlers */
  constructor(server, handlers) {
    this.server = server;
    this.handlers = handlers;
    this.queues = new Map(); // document id → {review, entries}, not yet answered
    this.blocked = new Set(); // documents that another tab has
    this.failures = 0;
    this.isSending = false;
  }

  get unsaved() {
    return [...this.queues.values()].reduce((sum, { entries }) => sum + entries.length, 0);
  }

  /** Keep these new entries of `review`. */
  keep(review, entries) {
    const { id } = review.document;
    if (!this.queues.has(id)) this.queues.set(id, { review, entries: [] });
    this.queues.get(id).entries.push(...entries);
    this.send();
  }

  /** A review was folded anew: what is sent of its document is that of this one. */
  adopt(review) {
    const queue = this.queues.get(review.document.id);
    if (queue) queue.review = review;
  }

  /** Say that this tab works on a note. @returns {Promise<{owner: boolean, since?: string}>} */
  async open(document, take = false) {
    try {
      const response = await callServer(this.server, "/api/open", { document, tab: TAB, ...(take && { take }) });
      const answer = response.ok ? await response.json() : { owner: true };
      if (answer.owner) this.blocked.delete(document);
      else this.blocked.add(document);
      if (answer.owner) this.send();
      return answer;
    } catch {
      return { owner: true }; // the journal refuses entries of a second tab anyhow
    }
  }

  /** This tab is gone; the next one need not ask for the note. */
  close(document) {
    const headers = { "X-Minscl-Token": this.server.token, "Content-Type": "application/json" };
    const body = JSON.stringify({ document, tab: TAB, close: true });
    fetch("/api/open", { method: "POST", headers, body, keepalive: true }).catch(() => {});
  }

  /** The entries that the server has of a note. @returns {Promise<Entry[]>} */
  async entries(document) {
    const response = await callServer(this.server, `/api/entries?document=${encodeURIComponent(document)}`);
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()).entries;
  }

  async send() {
    if (this.isSending) return;
    this.isSending = true;
    for (let next = this.nextQueue(); next; next = this.nextQueue()) {
      this.handlers.onStatus("Saving…", this.unsaved);
      if (!(await this.sendSome(next))) break;
    }
    this.isSending = false;
    if (!this.unsaved) this.handlers.onStatus("Saved", 0);
    else if (!this.nextQueue())
      this.handlers.onStatus(`Not saved (${this.unsaved}): another tab has the note`, this.unsaved);
  }

  nextQueue() {
    return [...this.queues.values()].find(({ review }) => !this.blocked.has(review.document.id));
  }

  /* Whether to go on at once. */
  async sendSome({ review, entries }) {
    const { id } = review.document;
    const sent = entries.slice(0, ENTRIES_AT_ONCE);
    const reviewed = review.state.finished ? reviewedDocument(review, app.page) : null;
    try {
      const response = await callServer(this.server, "/api/log", { document: id, tab: TAB, entries: sent, reviewed });
      if (response.status === 409) {
        this.blocked.add(id);
        this.handlers.onTaken(id);
        return true;
      }
      if (!response.ok) return this.retry((await response.text()).slice(0, 300));
    } catch {
      return this.retry("the server does not answer");
    }
    entries.splice(0, sent.length);
    if (!entries.length) this.queues.delete(id);
    this.failures = 0;
    return true;
  }

  retry(reason) {
    const seconds = RETRY_SECONDS[Math.min(this.failures, RETRY_SECONDS.length - 1)];
    this.failures += 1;
    this.handlers.onStatus(
      `Not saved (${this.unsaved}): ${reason}. Trying again; the export has everything.`,
      this.unsaved,
    );
    setTimeout(() => this.send(), seconds * 1000);
    return false;
  }
}

/** The log of a page in a file. */
class FileStore {
  /** @param {Object[]} documents @param {Object} handlers those of ServerStore; onTaken without a document */
  constructor(documents, handlers) {
    this.handlers = handlers;
    this.unsaved = 0; // decisions since the log was downloaded
    this.prefix = `${STORAGE}${pageId(documents)}.`;
    this.count = 0;
    this.isOn = false;
    window.addEventListener("storage", (event) => {
      if (this.isOn && event.key?.startsWith(this.prefix)) handlers.onTaken();
    });
  }

  /** The entries that the browser kept of this page. @returns {Object[]} */
  restore() {
    try {
      this.isOn = localStorage.getItem(`${this.prefix}on`) !== null;
      const entries = [];
      for (let text = this.read(0); text; text = this.read(entries.length)) entries.push(JSON.parse(text));
      this.count = entries.length;
      return entries;
    } catch {
      return []; // the browser forbids storage, or another page wrote into it
    }
  }

  read(number) {
    return this.isOn ? localStorage.getItem(this.prefix + number) : null;
  }

  keep(_review, entries) {
    this.unsaved += entries.length;
    if (this.isOn) this.write(entries);
    this.tell();
  }

  write(entries) {
    try {
      for (const entry of entries) {
        localStorage.setItem(this.prefix + this.count, JSON.stringify(entry));
        this.count += 1;
      }
    } catch {
      this.isOn = false; // it is full or forbidden
      say("The browser's storage takes no more; download the log.");
    }
  }

  /** Switch the browser's storage on, with the log so far, or off, and empty it. @param {Entry[]} entries so far */
  switchStorage(on, entries) {
    for (const key of Object.keys(localStorage)) if (key.startsWith(this.prefix)) localStorage.removeItem(key);
    this.isOn = on;
    this.count = 0;
    if (on) localStorage.setItem(`${this.prefix}on`, "1");
    if (on) this.write(entries);
    this.tell();
  }

  /** The log was downloaded. */
  downloaded() {
    this.unsaved = 0;
    this.tell();
  }

  tell() {
    const { unsaved } = this;
    const inBrowser = this.isOn ? "Kept in this browser" : "";
    const text = unsaved ? `${unsaved} ${unsaved === 1 ? "decision" : "decisions"} not downloaded` : "";
    this.handlers.onStatus([inBrowser, text].filter(Boolean).join("; "), this.isOn ? 0 : unsaved);
  }

  async open() {
    return { owner: true };
  }
}

/* Tells pages apart by ids and texts of their notes (FNV-1a, two halves). */
function pageId(documents) {
  let [low, high] = [0x811c9dc5, 0x9747b28c];
  for (const { id, text } of documents) {
    for (const character of `${id}\n${text.length}\n${text}\n`) {
      low = Math.imul(low ^ character.codePointAt(0), 0x01000193);
      high = Math.imul(high ^ character.codePointAt(0), 0x01000197);
    }
  }
  return [low, high].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}
