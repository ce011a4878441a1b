"use strict";
/* The code set in the page: unpacked once, then look-ups. No DOM. minscl/page/code_set.py describes the format.

       const codeSet = await unpackCodeSet(document.getElementById("code-set").textContent)
       codeSet.edition, .label, .date
       codeSet.normalise("e1165")     "E11.65"; null for a text that names no listed code
       codeSet.has(code), .description(code), .isBillable(code), .parent(code), .children(code), .ancestors(code)
       codeSet.info(code)             what a card shows, see there
       codeSet.siblings(code)         the billable codes of its category without itself, in the List's order

   A node is a chapter ("9"), a section ("section I30-I5A"), or a code or heading ("I50", "I50.9").
   Read next: search.js. */

const NOTE_TITLES = {
  includes: "Includes",
  inclusionTerm: "Inclusion terms",
  excludes1: "Excludes1",
  excludes2: "Excludes2",
  codeFirst: "Code first",
  useAdditionalCode: "Use additional code",
  codeAlso: "Code also",
  notes: "Note",
};

/* The code set in `base64`, what pack_code_set returned. Rejects where the text is damaged. */
async function unpackCodeSet(base64) {
  const packed = atob(base64.trim());
  const bytes = new Uint8Array(packed.length);
  for (let place = 0; place < packed.length; place += 1) bytes[place] = packed.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new CodeSet(await new Response(stream).json());
}

class CodeSet {
  constructor(packed) {
    if (packed.format !== 2) throw new Error(`code set: format ${packed.format}, this page reads 2`);
    this.edition = packed.edition;
    this.label = packed.label;
    this.date = packed.date;
    this.codes = packed.codes;
    this.index = packed.index; // for search.js
    this.abbreviations = new Map(Object.entries(packed.abbreviations)); // for agreement.js
    this._billable = packed.billable;
    this._notes = new Map(Object.entries(packed.notes)); // node → {kind: [texts]}
    this._elsewhere = new Map(Object.entries(packed.elsewhere)); // code → [description, when valid]
    this._exempt = packed.poaExempt && new Set(packed.poaExempt);
    this._places = new Map(packed.codes.map((code, place) => [code, place]));
    this._parents = packed.parents;
    this._descriptions = packed.descriptions;
    this._children = null;
    for (let place = 0; place < this.codes.length; place += 1) {
      const text = this._descriptions[place];
      const parent = place - this._parents[place]; // before its children in the List
      if (text.startsWith("\t")) this._descriptions[place] = this._descriptions[parent] + text.slice(1);
    }
  }

  /* Whether the code set says which codes are exempt from POA reporting. */
  get listsExempt() {
    return Boolean(this._exempt);
  }

  has(code) {
    return this._places.has(code);
  }

  /* The Tabular List's description; that of another edition for a code that only it has; "" for any other text. */
  description(code) {
    const place = this._places.get(code);
    return place === undefined ? (this._elsewhere.get(code) || [""])[0] : this._descriptions[place];
  }

  isBillable(code) {
    const place = this._places.get(code);
    return place !== undefined && this._billable[place] === "1";
  }

  /* The node above; null for a chapter and for what is not listed. */
  parent(code) {
    const place = this._places.get(code);
    return place === undefined || !this._parents[place] ? null : this.codes[place - this._parents[place]];
  }

  /* The nodes above, from the parent up to the chapter. */
  ancestors(code) {
    const above = [];
    for (let node = this.parent(code); node !== null; node = this.parent(node)) above.push(node);
    return above;
  }

  /* The nodes directly below, in the List's order. */
  children(code) {
    if (!this._children) {
      this._children = new Map();
      this.codes.forEach((child, place) => {
        const parent = this.codes[place - this._parents[place]];
        if (parent === child) return;
        if (this._children.has(parent)) this._children.get(parent).push(child);
        else this._children.set(parent, [child]);
      });
    }
    return this._children.get(code) || [];
  }

  /* The notes of one kind (NOTE_TITLES) at this node itself. */
  notes(node, kind) {
    return (this._notes.has(node) && this._notes.get(node)[kind]) || [];
  }

  /* The billable codes at or below a node, in the List's order. */
  billableBelow(node) {
    if (this.isBillable(node)) return [node];
    return this.children(node).flatMap((child) => this.billableBelow(child));
  }

  /* The listed code that people write as "e1165" or "E11.6-"; null if there is none. */
  normalise(text) {
    const bare = text.normalize("NFKC").replace(/[\s.]/g, "").replace(/-+$/, "").toUpperCase();
    const code = bare.length > 3 ? `${bare.slice(0, 3)}.${bare.slice(3)}` : bare;
    return /^[A-Z]/.test(code) && this.has(code) ? code : null;
  }

  /* What a card shows of a code, which need not be listed:
       {code, description,
        status     "billable"; "heading", more characters must follow; "not valid", in another edition; "unknown"
        valid      "" or, in words, what a coder must know: "valid until 2026-09-30", "needs more characters"
        path       [{code, name, description}] from the chapter down to the code itself
        notes      [{kind, title, code, name, texts}] by kind; of the code itself first, then up to the chapter
        poaExempt  whether it is exempt from POA reporting; null where the code set does not say}
     `name` is a node as people write it: "chapter 9". */
  info(code) {
    const above = this.has(code) ? this.ancestors(code) : [];
    const path = this.has(code) ? [...above].reverse().concat(code) : [];
    return {
      code,
      description: this.description(code),
      ...this.validity(code),
      path: path.map((node) => ({ code: node, name: nodeName(node), description: this.description(node) })),
      notes: this._notesFor(code, above),
      poaExempt: this._exempt ? this._exempt.has(code) : null,
    };
  }

  /* The first codes that another edition bills and this one does not list, of those that begin so, in order. */
  elsewhere(beginning, limit) {
    const codes = [...this._elsewhere.keys()].filter((code) => code.startsWith(beginning) && !this.has(code));
    return codes.sort().slice(0, limit);
  }

  siblings(code) {
    return this.billableBelow(code.slice(0, 3)).filter((other) => other !== code);
  }

  /* {status, valid}, as info() has them. */
  validity(code) {
    if (this.isBillable(code)) return { status: "billable", valid: "" };
    const elsewhere = this._elsewhere.get(code);
    if (this.has(code) && !elsewhere) return { status: "heading", valid: "needs more characters" };
    if (elsewhere) return { status: "not valid", valid: elsewhere[1] };
    return { status: "unknown", valid: `not in edition ${this.edition}` };
  }

  /* Inclusion terms are a code's own, and for one with a 7th character also those of the code before it. */
  _notesFor(code, above) {
    const base = above.length && this.isSeventh(code) ? above.slice(0, 1) : [];
    return Object.keys(NOTE_TITLES).flatMap((kind) =>
      [code, ...(kind === "inclusionTerm" ? base : above)]
        .filter((node) => this.notes(node, kind).length)
        .map((node) => ({
          kind,
          title: NOTE_TITLES[kind],
          code: node,
          name: nodeName(node),
          texts: this.notes(node, kind),
        })),
    );
  }

  /* Whether the last character of a code is a 7th character: it and its like differ from their parent in it alone. */
  isSeventh(code) {
    const parent = this.parent(code);
    return parent !== null && this.seventhCharacters(parent).length > 0;
  }

  /* [{character, meaning, code}] for a node whose children differ in their 7th character; [] for any other. */
  seventhCharacters(code) {
    const children = this.children(code);
    const beginning = code.replace(".", "").padEnd(6, "X");
    if (!children.length || children.some((child) => child.replace(".", "").slice(0, -1) !== beginning)) return [];
    const prefix = `${this.description(code)}, `;
    return children.map((child) => {
      const text = this.description(child);
      const meaning = text.startsWith(prefix) ? text.slice(prefix.length) : text;
      return { character: child.slice(-1), meaning, code: child };
    });
  }
}

/* A node as people write it: "9" is "chapter 9". */
function nodeName(node) {
  return /^[0-9]+$/.test(node) ? `chapter ${node}` : node;
}
