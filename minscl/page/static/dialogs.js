"use strict";
/* Dialogs: one <dialog> at a time, which gives the focus back when it closes; a reviewer's name, finishing, the keys.

   openDialog builds and shows one and resolves to what it was closed with, null for Escape. Read next: picker.js. */

/**
 * @param {string} title
 * @param {(body: HTMLElement, close: (result: any) => void) => void} build fills the dialog
 * @returns {Promise<any>}
 */
function openDialog(title, build) {
  const dialog = newElement("dialog");
  const heading = newElement("h2", "", title);
  heading.id = randomId("t");
  dialog.setAttribute("aria-labelledby", heading.id);
  const body = newElement("div", "dialog-body");
  dialog.append(heading, body);
  document.getElementById("dialogs").append(dialog);
  return new Promise((resolve) => {
    let result = null;
    const close = (value) => {
      result = value;
      dialog.close();
    };
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    build(body, close);
    dialog.showModal();
    const first = body.querySelector("[autofocus]") ?? body.querySelector("input, button, select");
    first?.focus();
    first?.select?.(); // at once: what is typed next replaces it
  });
}

/** A form whose first button submits; every other closes with its value. */
function newForm(content, buttons, onSubmit) {
  const form = newElement("form");
  const row = newElement("div", "dialog-buttons");
  buttons.forEach(({ label, run }, index) => {
    const button = newElement("button", index ? "" : "main-button", label);
    button.type = index ? "button" : "submit";
    if (index) button.addEventListener("click", run);
    row.append(button);
  });
  form.append(...content, row);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onSubmit(form);
  });
  return form;
}

/** A labelled text field. @returns {[HTMLLabelElement, HTMLInputElement]} */
function newField(label, value = "") {
  const input = newElement("input");
  input.type = "text";
  input.value = value;
  input.autocomplete = "off";
  input.spellcheck = false;
  const wrapper = newElement("label", "field", label);
  wrapper.append(input);
  return [wrapper, input];
}

/** A labelled check box. @returns {[HTMLLabelElement, HTMLInputElement]} */
function newCheckBox(label, checked = false) {
  const input = newElement("input");
  input.type = "checkbox";
  input.checked = checked;
  const wrapper = newElement("label", "check");
  wrapper.append(input, ` ${label}`);
  return [wrapper, input];
}

/** The reviewer's name, or null. @returns {Promise<string|null>} */
function askName(name) {
  return openDialog("Who reviews?", (body, close) => {
    const [label, input] = newField("Your name, as the decision log is to show it", name);
    input.maxLength = 200;
    input.required = true;
    const about = newElement("p", "", "Every decision is logged with it. It is asked once in this tab.");
    const submit = () => close(input.value.trim() || null);
    body.append(
      newForm([about, label], [{ label: "Use this name" }, { label: "Cancel", run: () => close(null) }], submit),
    );
  });
}

/** Whether to go on although something speaks against it. @returns {Promise<boolean>} */
function confirmDialog(title, sentences, label, cancel = "Cancel") {
  return openDialog(title, (body, close) => {
    const texts = sentences.map((sentence) => newElement("p", "", sentence));
    const buttons = [{ label }, { label: cancel, run: () => close(false) }];
    body.append(newForm(texts, buttons, () => close(true)));
    body.querySelector(".dialog-buttons button:last-child").autofocus = true; // what changes nothing
  }).then(Boolean);
}

/** Whether to finish a document that has undecided codes, accepted ones that are not valid, or no principal one. */
async function confirmFinish(state) {
  const { decided, total } = progressOf(state);
  const accepted = Object.values(state.codes).filter((item) => item.decision === "accepted");
  const doubts = [];
  if (decided < total) doubts.push(`${total - decided} of ${total} codes are undecided; they are left out.`);
  if (accepted.length && !accepted.some((item) => item.principal))
    doubts.push("No accepted code is the principal diagnosis.");
  const invalid = accepted
    .map(({ code }) => ({ code: visibleText(code), reason: app.codeSet?.info(code).valid }))
    .filter(({ reason }) => reason);
  if (invalid.length) {
    const names = invalid.map(({ code, reason }) => `${code} (${reason})`).join(", ");
    doubts.push(`Accepted, but not valid as a code: ${names}.`);
  }
  if (!accepted.length) doubts.push("No code is accepted: the note will say that there is nothing to code.");
  return !doubts.length || confirmDialog("Finish this note?", doubts, "Finish it", "Go on reviewing");
}

/**
 * The keys, each command also as a button, and whether single letters act; resolves to a command's name or null.
 * @param {{about: string[]}} page sentences on code set and version
 */
function helpDialog(page) {
  return openDialog("Keys and help", (body, close) => {
    const [label, input] = newCheckBox("Single letters act (Ctrl+Z and the buttons always do)", app.lettersAct);
    input.addEventListener("change", () => {
      app.lettersAct = input.checked;
      remember("localStorage", LETTERS_KEY, input.checked ? "" : "rest");
    });
    body.append(label);
    for (const group of [...new Set(Object.values(COMMANDS).map((command) => command.group))]) {
      const rows = Object.entries(COMMANDS).filter(([, command]) => command.group === group);
      const table = newElement("table", "keys");
      table.append(newElement("caption", "", group));
      for (const [name, { keys, label, about }] of rows) {
        const row = table.insertRow();
        const header = row.appendChild(newElement("th"));
        header.scope = "row";
        keys.forEach((key, index) => header.append(index ? " or " : "", newElement("kbd", "", key)));
        const button = newButton(name, about ?? label);
        button.addEventListener("click", () => close(name));
        row.insertCell().append(button);
      }
      body.append(table);
    }
    const selecting = "In the note, arrow keys select a word, and with Shift more words; Enter shows its code.";
    const texts = [selecting, "Keys rest while you type in a field.", ...page.about];
    body.append(...texts.map((text) => newElement("p", "", text)));
    body.append(newForm([], [{ label: "Close" }], () => close(null)));
  });
}
