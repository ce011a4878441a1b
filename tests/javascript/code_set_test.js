"use strict";
/* codes.js and the search over the code set in the file that CODE_SET names: what pack_code_set returned. */
const assert = require("node:assert");
const fs = require("node:fs");
const test = require("node:test");
const { loadScripts, plain } = require("./scripts.js");

const SEARCH = ["words.js", "texts.js", "word_index.js", "agreement.js", "default_codes.js", "search.js"];
const evaluate = loadScripts("text.js", "codes.js", ...SEARCH);
const packed = fs.readFileSync(process.env.CODE_SET, "utf8");

test("the code set and the search over it", async (t) => {
  const codeSet = await evaluate("unpackCodeSet(packed)", { packed: `\n${packed}\n` });

  await t.test("a card has the path, the notes with the node where they stand, and what is not known", () => {
    const info = plain(codeSet.info("E11.65"));
    const path = info.path.map(({ name }) => name);
    assert.deepStrictEqual(path, ["chapter 4", "section E08-E13", "E11", "E11.6", "E11.65"]);
    assert.equal(info.description, "Type 2 diabetes mellitus with hyperglycemia");
    assert.deepStrictEqual([info.status, info.valid, info.poaExempt], ["billable", "", null]);
    const places = info.notes.map(({ kind, name }) => `${kind} ${name}`);
    assert.ok(places.includes("excludes1 E11") && places.includes("useAdditionalCode E11"), places.join());
    assert.ok(info.notes.every(({ title, texts }) => title && texts.length));
  });

  await t.test("inclusion terms of the code before the 7th character are those of the full code", () => {
    const terms = (code) => plain(codeSet.info(code).notes).filter(({ kind }) => kind === "inclusionTerm");
    assert.deepStrictEqual(terms("S06.0X0A"), terms("S06.0X0"));
    assert.ok(terms("I50.9").length && terms("I50.9").every(({ code }) => code === "I50.9"));
  });

  await t.test("a code that cannot be billed says why", () => {
    const [heading, old] = ["I50", "I42.0"].map((code) => codeSet.info(code));
    assert.deepStrictEqual([heading.status, heading.valid], ["heading", "needs more characters"]);
    assert.deepStrictEqual([old.status, old.valid], ["not valid", "valid until 2026-09-30"]);
    for (const code of ["U99.9", "", "constructor", "__proto__"]) {
      const info = plain(codeSet.info(code));
      assert.deepStrictEqual([info.status, info.path, info.notes, info.description], ["unknown", [], [], ""], code);
    }
  });

  await t.test("siblings are the billable codes of the category", () => {
    const siblings = plain(codeSet.siblings("I50.9"));
    assert.ok(siblings.includes("I50.23") && !siblings.includes("I50.9") && !siblings.includes("I50.2"));
    assert.ok(siblings.every((code) => code.startsWith("I50") && codeSet.isBillable(code)));
    assert.deepStrictEqual(plain(codeSet.siblings("I10")), []);
  });

  await t.test("a code may be written in any way", () => {
    const spellings = ["e1165", "E11.65", " e11.65 ", "Ｅ１１．６５"];
    for (const text of spellings) assert.equal(codeSet.normalise(text), "E11.65", text);
    assert.equal(codeSet.normalise("e11.6-"), "E11.6");
    for (const text of ["", "pain", "9", "E99", "I10.0"]) assert.equal(codeSet.normalise(text), null, text);
  });

  const search = await evaluate("buildSearch(codeSet)", { codeSet });

  await t.test("words in any order, unfinished, misspelt or abbreviated find the code that a coder means", () => {
    for (const [query, code, where] of [
      ["heart fail", "I50.9", "index: Failure, failed > heart"],
      ["failure heart", "I50.9", "index: Failure, failed > heart"],
      ["heart attack ", "I21.9", "index: Attack, attacks > heart, see infarct, myocardium"],
      ["pneumon", "J18.9", "index: Pneumonia"],
      ["copd", "J44.9", null],
      ["left knee pain", "M25.562", null],
      ["astma", "J45.909", null],
      ["type 2 diabetes with hyperglycemia", "E11.65", null],
      ["ménière", "H81.09", null],
      ["femoral neck fracture left", "S72.002A", null],
    ]) {
      const [first] = search.search(query, 5);
      assert.equal(first.code, code, `${query}: ${JSON.stringify(first)}`);
      if (where) assert.equal(first.where, where);
      assert.ok(first.billable && first.description === codeSet.description(code));
    }
    assert.ok(search.search("left heart failure").some(({ where }) => where === "inclusion term: Left heart failure"));
  });

  await t.test("the beginning of a code gives its codes in order, and what is nothing gives nothing", () => {
    const codes = (query) => plain(search.search(query, 4)).map(({ code }) => code);
    assert.equal(codes("e1165")[0], "E11.65");
    assert.deepStrictEqual(codes("e1165"), codes("E11.65"));
    assert.deepStrictEqual(codes("E11.6"), ["E11.6", "E11.61", "E11.610", "E11.618"]);
    for (const query of ["", " ", "()", "zzzzqx", "constructor"]) assert.deepStrictEqual(codes(query), [], query);
    assert.ok(search.search("pain ".repeat(5000)).length > 0);
  });

  await t.test("what is written as a code finds codes or nothing, and codes of another edition say when", () => {
    // guards T32.99 for "I50.99", and a code of the next or last edition that was not found
    const codes = (query) => plain(search.search(query, 3)).map(({ code }) => code);
    for (const query of ["I50.99", "i50.99", "I5099", "C99", "J18.99"]) assert.deepStrictEqual(codes(query), [], query);
    assert.equal(codes("I50.2-")[0], "I50.2");
    assert.equal(codes("E11,65")[0], "E11.65");
    assert.equal(codes("CHF")[0], "I50.9");
    assert.ok(codes("b12").length > 0, "B12 is a word");
    const old = plain(codeSet.elsewhere("", 1))[0];
    const hit = search.search(old, 5).find(({ code }) => code === old);
    assert.ok(!hit.billable && /^valid /.test(codeSet.validity(old).valid), old);
  });

  await t.test("the time of a key", () => {
    const times = [];
    const queries = ["acute on chronic systolic heart failure", "fracture of unspecified part of neck of right femur"];
    for (const query of queries) {
      for (let length = 1; length <= query.length; length += 1) {
        const start = performance.now();
        search.search(query.slice(0, length));
        times.push(performance.now() - start);
      }
    }
    times.sort((one, other) => one - other);
    const middle = times[times.length >> 1];
    assert.ok(middle < 50, `half of the keys take over ${middle} ms`); // a busy machine's slowest key says nothing
  });

  await t.test("answers for another program", () => {
    if (!process.env.QUERIES) return;
    const queries = JSON.parse(fs.readFileSync(process.env.QUERIES, "utf8"));
    fs.writeFileSync(process.env.ANSWERS, JSON.stringify(queries.map((query) => search.search(query, 20))));
  });
});
