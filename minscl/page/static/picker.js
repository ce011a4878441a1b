"use strict";
/* Choosing a code: one field over a list, by keyboard and pointer (the combobox pattern of the ARIA practices).

   searchDialog looks through Index and Tabular List; siblingDialog lists the category of a code. Read next: keys.js. */

const MOST_HITS = 50;
const MOST_LISTED = 200; // codes of a category: S82 has 3,096

/**
 * @typedef {{code: string, description: string, billable: boolean, where: string}} Hit
 * @param {string} title
 * @param {string} label of the field
 * @param {(query: string) => Hit[]} find
 * @param {string} about a sentence above the list
 * @returns {Promise<Hit|null>} the chosen billable code
 */
function pickCode(title, label, find, about, query = "") {
  return openDialog(title, (body, close) => {
    const [wrapper, input] = newField(label, query);
    const list = newElement("ul", "hits");
    list.id = randomId("l");
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Codes found");
    const status = newElement("p", "hit-count");
    status.setAttribute("role", "status");
    for (const [name, value] of Object.entries({
      role: "combobox",
      "aria-controls": list.id,
      "aria-autocomplete": "list",
    }))
      input.setAttribute(name, value);
    const picker = { input, list, status, find, query: "", hits: [], active: 0, close };
    input.addEventListener("input", () => showFound(picker));
    input.addEventListener("keydown", (event) => movePicker(picker, event));
    list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) chooseHit(picker, Number(option.dataset.index));
    });
    const frame = newElement("div", "hit-frame"); // of constant height: the buttons do not jump
    frame.append(list);
    body.append(newElement("p", "", about), wrapper, status, frame);
    body.append(
      newForm([], [{ label: "Use the marked code" }, { label: "Cancel", run: () => close(null) }], () =>
        chooseHit(picker, picker.active),
      ),
    );
    showFound(picker);
  });
}

function showFound(picker) {
  picker.query = picker.input.value.trim();
  const all = picker.find(picker.query);
  picker.hits = all.slice(0, MOST_LISTED);
  picker.list.replaceChildren(...picker.hits.map(newOption));
  const { length } = all;
  picker.list.hidden = !length; // an empty list box has no options to go to
  picker.input.setAttribute("aria-expanded", String(length > 0));
  const none = picker.input.value.trim() ? "No code is found." : "Type words of a diagnosis, or a code.";
  const most = length === MOST_HITS ? " or more" : "";
  const rest = length > MOST_LISTED ? `; the first ${MOST_LISTED} are listed, type more to see others` : "";
  picker.status.textContent = length ? `${length}${most} ${length === 1 ? "code" : "codes"}${rest}` : none;
  markHit(picker, 0);
}

function newOption(hit, index) {
  const option = newElement("li", hit.billable ? "hit" : "hit heading-hit");
  option.id = randomId("o");
  option.dataset.index = index;
  option.setAttribute("role", "option");
  option.append(newElement("span", "code", hit.code), ` ${hit.description}`);
  if (!hit.billable) option.append(newElement("span", "place", ` ${whyNoCode(hit.code)}`));
  if (hit.where) option.append(newElement("span", "where", hit.where));
  return option;
}

/* Why a hit cannot be added, and what choosing it does. */
function whyNoCode(code) {
  if (!code) return "refers to other terms";
  const { valid } = app.codeSet.validity(code);
  return app.codeSet.billableBelow(code).length
    ? `${valid}: choose to see its codes`
    : `${valid}: no code of edition ${app.codeSet.edition}${app.codeSet.date ? ` on ${app.codeSet.date}` : ""}`;
}

function markHit(picker, index) {
  picker.active = Math.max(0, Math.min(picker.hits.length - 1, index));
  [...picker.list.children].forEach((option, position) => {
    option.setAttribute("aria-selected", String(position === picker.active));
  });
  const active = picker.list.children[picker.active];
  picker.input.setAttribute("aria-activedescendant", active?.id ?? "");
  active?.scrollIntoView({ block: "nearest" });
}

function movePicker(picker, event) {
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  if (event.key in steps) markHit(picker, picker.active + steps[event.key]);
  else if (event.key === "Enter") enterHit(picker, event);
  else return;
  event.preventDefault();
}

/* A key that is held, one that ends an input method's word, and a text that is not yet searched choose nothing: the
   coder has not seen what they would add. */
function enterHit(picker, event) {
  if (event.repeat || event.isComposing) return;
  if (picker.input.value.trim() === picker.query) chooseHit(picker, picker.active);
  else showFound(picker);
}

/* A heading is no code: its codes take its place. */
function chooseHit(picker, index) {
  const hit = picker.hits[index];
  if (!hit) return;
  if (hit.billable) {
    picker.close(hit);
    return;
  }
  const below = app.codeSet.billableBelow(hit.code).map(hitOf);
  if (!below.length) {
    picker.status.textContent = `${hit.code || hit.where}: ${whyNoCode(hit.code)}.`;
    return;
  }
  picker.input.value = hit.code;
  picker.find = ((find) => (query) => (query === hit.code ? below : find(query)))(picker.find);
  showFound(picker);
  picker.input.focus();
}

/** A code as a hit without an index path. @returns {Hit} */
function hitOf(code) {
  return { code, description: app.codeSet.description(code), billable: app.codeSet.isBillable(code), where: "" };
}

/** A code by search. @returns {Promise<Hit|null>} */
function searchDialog(about, query) {
  const find = (query) => (query ? app.search.search(query, MOST_HITS) : []);
  return pickCode("Add a code", "Search Index and Tabular List (words or a code)", find, about, query);
}

/** Another code of the category of `code`, which comes first itself. @returns {Promise<Hit|null>} */
function siblingDialog(code) {
  const siblings = app.codeSet.siblings(code).map(hitOf);
  const find = (query) => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    return siblings.filter((hit) =>
      words.every((word) => `${hit.code} ${hit.description}`.toLowerCase().includes(word)),
    );
  };
  const name = visibleText(code);
  const about = `The codes of category ${visibleText(code.slice(0, 3))} other than ${name}.`;
  return pickCode(`Change ${name}`, "Words or a code, to shorten the list", find, about);
}
