"use strict";
/* A card: a code with its quotations, the Tabular List's rules, place and notes.

   It says in words what colour says too: decision, validity, assertion, evidence that was not found. A button or a
   quotation names its command; code_view.js listens. Read next: keys.js, the commands. */

const POA_WORDS = {
  Y: "yes",
  N: "no",
  U: "documentation insufficient",
  W: "clinically undetermined",
  exempt: "exempt",
};
const INFORMATIONAL = ["Excludes1 (different sides)", "Excludes2", "Use additional code", "Code also"];

/**
 * What a card shows.
 * @typedef {{item: Item, origin: string, poa: string|null, rules: string[], assertions: string[], places: string[],
 *   info: Object|null}} Card
 */
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
  title.append(
    newElement("span", "code", visibleText(item.code)),
    ` ${visibleText(item.description) || "(not in the Tabular List)"}`,
  );
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
  else if (origin !== "no") facts.push(visibleText(origin));
  return facts.join(" · ");
}

function newQuotations({ item, assertions, places }) {
  if (!item.evidence.length) return newElement("p", "problem", "No evidence is named.");
  const list = newElement("ul", "quotations");
  list.setAttribute("aria-label", `Evidence of ${visibleText(item.code)}`);
  item.evidence.forEach((evidence, index) => {
    const row = list.appendChild(newElement("li"));
    row.dataset.index = index;
    const quotation = newButton("look", `“${visibleText(oneLine(evidence.text))}”`, `quotation-${index}`);
    quotation.classList.add("quotation");
    quotation.dataset.index = index;
    const place = places[index] ? `line ${places[index]}` : "not found in the note";
    const status = assertions[index];
    const remove = newButton("remove-evidence", "Remove", `remove-${index}`);
    remove.setAttribute("aria-label", `Remove quotation ${index + 1} of ${visibleText(item.code)}`);
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
  for (const [command, label, decision] of [
    ["accept", "Accept", "accepted"],
    ["reject", "Reject", "rejected"],
  ]) {
    const button = newButton(command, label, command);
    button.setAttribute("aria-label", `${label} ${visibleText(item.code)}`);
    button.setAttribute("aria-pressed", String(item.decision === decision));
    row.append(button);
  }
  return row;
}
