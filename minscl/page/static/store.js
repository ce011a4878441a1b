"use strict";
/* Where a served page keeps the decision log: the server's journal. An entry is saved once the server has answered;
   until then it is sent again. What the server refuses is set aside, and the other notes go on.

   Read next: file_store.js, for a page in a file; tabs.js, for two tabs. */

const ENTRIES_AT_ONCE = 200; // the server checks them before it answers
const BYTES_AT_ONCE = 2_000_000; // of entries; with the reviewed document the server's limit is 5 MB
const OPEN_SECONDS = 5; // a coder waits no longer for what another tab has decided
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
  /**
   * @param {Object} server of page-data
   * @param {{onStatus: (text: string, unsaved: number) => void, onTaken: (document: string) => void,
   *   onRefused: (document: string, reason: string) => void}} handlers
   */
  constructor(server, handlers) {
    this.server = server;
    this.handlers = handlers;
    this.queues = new Map(); // document id → {review, entries}, not yet answered
    this.blocked = new Set(); // documents that another tab has, or has decided about
    this.refused = new Set(); // documents of which the server does not take what is in the queue
    this.bytes = BYTES_AT_ONCE;
    this.failures = 0;
    this.isSending = false;
    this.timer = null;
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

  /** A review was folded anew: what is sent of its document is that of this one, without those that the server has. */
  adopt(review, keptIds) {
    const { id } = review.document;
    if (!this.queues.has(id)) return;
    this.queues.get(id).review = review;
    this.remove(id, keptIds);
  }

  /** The id of the last entry of a review that the server has, as far as this tab knows; null: none. */
  lastKept(review) {
    const waiting = this.queues.get(review.document.id)?.entries.length ?? 0;
    return review.entries[review.entries.length - waiting - 1]?.entry ?? null;
  }

  /** Say that this tab works on a note. @returns {Promise<{owner: boolean, since?: string, last?: string|null}>} */
  async open(document, take = false) {
    try {
      const body = { document, tab: TAB, ...(take && { take }) };
      const response = await callServer(this.server, "/api/open", body, AbortSignal.timeout(OPEN_SECONDS * 1000));
      return response.ok ? await response.json() : { owner: true };
    } catch {
      return { owner: true }; // the journal refuses what a second tab decides anyhow
    }
  }

  /** Whether decisions about a note are sent. */
  setBlocked(document, isBlocked) {
    if (isBlocked) this.blocked.add(document);
    else this.blocked.delete(document);
    this.send();
  }

  /** This tab is gone; the next one need not ask for the note. */
  close(document) {
    const headers = { "X-Minscl-Token": this.server.token, "Content-Type": "application/json" };
    const body = JSON.stringify({ document, tab: TAB, close: true });
    fetch("/api/open", { method: "POST", headers, body, keepalive: true }).catch(() => {});
  }

  /** The entries that the server has of a note; without one, of all. @returns {Promise<Entry[]>} */
  async entries(document = null) {
    const query = document === null ? "" : `?document=${encodeURIComponent(document)}`;
    const response = await callServer(this.server, `/api/entries${query}`);
    if (!response.ok) throw new Error(await response.text());
    return (await response.json()).entries;
  }

  async send() {
    if (this.isSending) return;
    this.isSending = true;
    clearTimeout(this.timer);
    for (let next = this.nextQueue(); next; next = this.nextQueue()) {
      this.handlers.onStatus("Saving…", this.unsaved);
      if (!(await this.sendSome(next))) break;
    }
    this.isSending = false;
    if (!this.queues.size) this.handlers.onStatus("Saved", 0);
    else if (!this.nextQueue()) this.handlers.onStatus(`Not saved (${this.unsaved}): ${this.reason()}`, this.unsaved);
  }

  nextQueue() {
    return [...this.queues.values()].find(({ review }) => {
      const { id } = review.document;
      return !this.blocked.has(id) && !this.refused.has(id);
    });
  }

  /* Why nothing more is sent. */
  reason() {
    const ids = [...this.queues.keys()];
    const isRefused = ids.some((id) => this.refused.has(id));
    const isBlocked = ids.some((id) => this.blocked.has(id) && !this.refused.has(id));
    return [isRefused && "the server refuses them", isBlocked && "another tab has the note"].filter(Boolean).join("; ");
  }

  /* Whether to go on at once. */
  async sendSome({ review, entries }) {
    const { id } = review.document;
    const sent = this.firstOf(entries);
    const reviewed = review.state.finished ? reviewedDocument(review, app.page) : null;
    const body = { document: id, tab: TAB, after: this.lastKept(review), entries: sent, reviewed };
    try {
      const response = await callServer(this.server, "/api/log", body);
      if (!response.ok) return this.answerRefusal(id, sent, response.status, (await response.text()).slice(0, 300));
    } catch {
      return this.retry(id, "the server does not answer");
    }
    this.remove(id, new Set(sent.map(({ entry }) => entry)));
    this.failures = 0;
    return true;
  }

  /* The entries that go into one request: at least one. */
  firstOf(entries) {
    let [count, bytes] = [0, 0];
    while (count < Math.min(entries.length, ENTRIES_AT_ONCE)) {
      bytes += new TextEncoder().encode(JSON.stringify(entries[count])).length;
      if (count && bytes > this.bytes) break;
      count += 1;
    }
    return entries.slice(0, count);
  }

  /* Whether to go on at once: with less, or with another note. */
  answerRefusal(id, sent, status, line) {
    if (status === 409) {
      this.blocked.add(id);
      this.handlers.onTaken(id);
    } else if (status === 413 && sent.length > 1) {
      this.bytes /= 2;
    } else if ([400, 404, 413].includes(status)) {
      this.refused.add(id); // it would refuse the same again
      this.handlers.onRefused(id, line);
    } else return this.retry(id, line);
    return true;
  }

  /* The queue of a document without these entries. */
  remove(id, ids) {
    const queue = this.queues.get(id);
    if (!queue) return;
    queue.entries = queue.entries.filter(({ entry }) => !ids.has(entry));
    if (!queue.entries.length) this.queues.delete(id);
  }

  retry(id, reason) {
    const seconds = RETRY_SECONDS[Math.min(this.failures, RETRY_SECONDS.length - 1)];
    const queue = this.queues.get(id);
    this.queues.delete(id);
    if (queue) this.queues.set(id, queue); // the next try begins with another note
    this.failures += 1;
    this.handlers.onStatus(
      `Not saved (${this.unsaved}): ${reason}. Trying again; the export has everything.`,
      this.unsaved,
    );
    this.timer = setTimeout(() => this.send(), seconds * 1000);
    return false;
  }
}
