"use strict";
/* Loads the page's classic scripts, which share one global scope, into a context without a DOM. */

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");

const STATIC = path.join(__dirname, "../../minscl/page/static");

/* Returns `evaluate(source, values)`: the value of an expression in the context, where `values` are its globals. */
function loadScripts(...names) {
  const context = vm.createContext({ atob, Blob, console, DecompressionStream, performance, Response, setTimeout });
  for (const name of names) {
    vm.runInContext(fs.readFileSync(path.join(STATIC, name), "utf8"), context, { filename: name });
  }
  return (source, values = {}) => vm.runInContext(source, Object.assign(context, values));
}

/* `value` with the prototypes of this context, for deepStrictEqual. */
function plain(value) {
  return JSON.parse(JSON.stringify(value));
}

module.exports = { loadScripts, plain };
