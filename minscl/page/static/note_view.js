"use strict";
/* The note with its highlights: blocks of lines, each line text and marks; a selection of it as code points.

   Quotations that overlap are cut into pieces. Each quotation has a lane, and in a piece one layer per quotation draws
   its underline in that lane, so overlapping ones are told apart; where more than LANES overlap, a marker says how many
   have no underline. Characters that one does not see are empty boxes with
   a label from the style sheet: they are never in the page's text. A block is built again only where its marks change.
   Read next: word_cursor.js, selecting by keyboard. */

const BLOCK_LINES = 40; // the style sheet's guess of a block's height counts on it
const LANES = 8; // underlines below one another; quotations beyond are counted in a marker

/**
 * @typedef {{id: string, key: string, start: number, end: number, decision: string, code: string}} Span one quotation;
 *   places in code points
 */
class NoteView {
  /** @param {HTMLElement} container @param {(ids: string[]) => void} onPick a click on a piece, with its span ids */
  constructor(container, onPick) {
    this.container = container;
    this.focused = new Set();
    this.blocks = [];
    this.selected = null; // {start, end} of the words selected last; a click elsewhere does not lose them
    document.addEventListener("selectionchange", () => this.remember());
    container.addEventListener("click", (event) => {
      const piece = event.target.closest(".piece");
      if (piece && getSelection().isCollapsed) onPick(piece.dataset.spans.split(" "));
    });
  }

  /** Show another note, without marks. @param {Object} note of noteText() */
  show(note) {
    this.note = note;
    this.units = new WeakMap(); // text node or box → its first UTF-16 unit
    this.forgetSelection();
    this.spans = [];
    this.blocks = [];
    for (let first = 0; first < note.lines.length; first += BLOCK_LINES) {
      const lines = note.lines.slice(first, first + BLOCK_LINES);
      const element = newElement("div", "block");
      const end = first + BLOCK_LINES < note.lines.length ? note.lines[first + BLOCK_LINES].start : note.length;
      this.blocks.push({ element, first, lines, start: lines[0].start, end, signature: null });
    }
    this.container.replaceChildren(...this.blocks.map((block) => block.element));
    this.setSpans([]);
  }

  /** Mark these quotations instead of those before. @param {Span[]} spans */
  setSpans(spans) {
    this.spans = withLanes(spans.filter((span) => span.end > span.start));
    let first = 0; // the first span that may reach into the block; spans are in order of their start
    const reach = [];
    this.spans.reduce((end, span) => reach[reach.push(Math.max(end, span.end)) - 1], 0);
    for (const block of this.blocks) {
      while (first < this.spans.length && reach[first] <= block.start) first += 1;
      const inBlock = [];
      for (let index = first; index < this.spans.length && this.spans[index].start < block.end; index += 1) {
        if (this.spans[index].end > block.start) inBlock.push(this.spans[index]);
      }
      const signature = inBlock.map((span) => [span.id, span.start, span.end, span.lane, span.code].join()).join(";");
      if (signature !== block.signature) this.buildBlock(block, inBlock);
      block.signature = signature;
    }
    this.paint();
  }

  /** Light the spans with these ids; scroll to the first of them if `scroll`. */
  focus(ids, scroll = false) {
    this.focused = new Set(ids);
    this.paint();
    if (!scroll) return;
    const place = this.spans.find((span) => this.focused.has(span.id));
    if (place) this.pieceAt(place)?.scrollIntoView({ block: "center" });
  }

  pieceAt(span) {
    return [...this.container.querySelectorAll(".piece")].find((piece) =>
      piece.dataset.spans.split(" ").includes(span.id),
    );
  }

  /* Decisions and focus are classes alone: a selection of text outlives them. */
  paint() {
    const byId = new Map(this.spans.map((span) => [span.id, span]));
    for (const layer of this.container.querySelectorAll(".layer")) {
      const { decision } = byId.get(layer.dataset.span);
      const lit = this.focused.has(layer.dataset.span) ? " lit" : "";
      layer.className = `layer ${decision}${lit}`;
    }
    for (const piece of this.container.querySelectorAll(".piece")) {
      const ending = piece.dataset.ending
        .split(" ")
        .filter(Boolean)
        .map((id) => byId.get(id));
      const codes = ending.filter((span) => span.decision !== "rejected").map((span) => span.code);
      piece.dataset.codes = visibleText([...new Set(codes)].join(" "));
    }
  }

  buildBlock(block, spans) {
    const lines = block.lines.map((line, index) => {
      const element = newElement("div", "line");
      element.dataset.number = block.first + index + 1;
      const end = Math.min(line.end + 1, this.note.length); // with its \n, which a copy of the text keeps
      const inLine = spans.filter((span) => span.start < end && span.end > line.start);
      const lanes = inLine.map((span) => span.lane).filter((lane) => lane < LANES);
      element.style.setProperty("--lanes", Math.max(0, ...lanes));
      this.fillLine(element, line.start, end, inLine);
      return element;
    });
    block.element.replaceChildren(...lines);
  }

  fillLine(element, start, end, spans) {
    const inside = (place) => place > start && place < end;
    const cuts = spans.flatMap((span) => [span.start, span.end]).filter(inside);
    const places = [...new Set([start, ...cuts, end])].sort((one, other) => one - other);
    let before = []; // of the piece before, the spans without an underline
    for (let index = 0; index + 1 < places.length; index += 1) {
      const covering = spans.filter((span) => span.start <= places[index] && span.end >= places[index + 1]);
      const target = covering.length ? element.appendChild(newPiece(covering, places[index + 1])) : element;
      const beyond = covering.filter((span) => span.lane === LANES);
      if (beyond.some((span) => !before.includes(span))) target.prepend(newMarker(beyond));
      before = beyond;
      this.addText(innermost(target), this.note.toUnit(places[index]), this.note.toUnit(places[index + 1]));
    }
  }

  addText(parent, startUnit, endUnit) {
    let unit = startUnit;
    for (const { text, label } of visiblePieces(this.note.text.slice(startUnit, endUnit))) {
      const leaf = label ? newBox(label) : document.createTextNode(text);
      this.units.set(leaf, unit);
      parent.append(leaf);
      unit += text.length;
    }
  }

  /** The selection in the note, trimmed to whole words; null where there is none. @returns {{start, end}|null} */
  selection() {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return null;
    const range = selection.getRangeAt(0);
    if (!range.intersectsNode(this.container)) return null;
    const start = this.unitAt(range.startContainer, range.startOffset);
    const end = this.unitAt(range.endContainer, range.endOffset);
    return start < end ? this.note.trimToWords(this.note.toPlace(start), this.note.toPlace(end)) : null;
  }

  /* Browsers drop a selection when one clicks on a card; here it stays, shown as a highlight where they can. */
  remember() {
    const range = this.selection();
    const anchor = getSelection().anchorNode;
    if (range) this.selected = range;
    else if (anchor && this.container.contains(anchor)) this.selected = null;
    if (!CSS.highlights) return;
    if (range) CSS.highlights.set("selected-words", new Highlight(getSelection().getRangeAt(0).cloneRange()));
    else if (!this.selected) CSS.highlights.delete("selected-words");
  }

  forgetSelection() {
    if (this.selected) getSelection().removeAllRanges();
    this.selected = null;
    CSS.highlights?.delete("selected-words");
  }

  /* The UTF-16 unit of a boundary of a DOM range: that of the first leaf at or behind it. */
  unitAt(node, offset) {
    if (this.units.has(node)) return this.units.get(node) + (node.nodeType === Node.TEXT_NODE ? offset : 0);
    const before = this.container.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_PRECEDING;
    if (before && !node.contains(this.container)) return 0;
    const walker = document.createTreeWalker(this.container);
    const boundary = document.createRange();
    boundary.setStart(node, offset);
    const block = this.blocks.find(({ element }) => boundary.comparePoint(element, element.childNodes.length) >= 0);
    if (!block) return this.note.text.length;
    walker.currentNode = block.element;
    for (let leaf = walker.nextNode(); leaf; leaf = walker.nextNode()) {
      if (this.units.has(leaf) && boundary.comparePoint(leaf, 0) >= 0) return this.units.get(leaf);
    }
    return this.note.text.length;
  }

  /** Select UTF-16 units of the note; `shownUnit` scrolls into view. */
  selectUnits(startUnit, endUnit, shownUnit) {
    const [from, to] = [this.leafAt(startUnit), this.leafAt(endUnit - 1)];
    getSelection().setBaseAndExtent(from, startUnit - this.units.get(from), to, endUnit - this.units.get(to));
    this.leafAt(shownUnit).parentElement.closest(".piece, .line").scrollIntoView({ block: "nearest" });
  }

  leafAt(unit) {
    const place = this.note.toPlace(unit);
    const { element } = this.blocks.findLast((block) => block.start <= place);
    const walker = document.createTreeWalker(element);
    let leaf = null;
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (!this.units.has(node)) continue;
      if (this.units.get(node) > unit) break;
      leaf = node;
    }
    return leaf;
  }
}

/* The spans in order, each with the first lane that is free where it starts; LANES where none is. */
function withLanes(spans) {
  const ends = new Array(LANES).fill(0);
  const inOrder = [...spans].sort((one, other) => one.start - other.start || other.end - one.end);
  return inOrder.map((span) => {
    const free = ends.findIndex((end) => end <= span.start);
    const lane = free < 0 ? LANES : free;
    if (lane < LANES) ends[lane] = span.end;
    return { ...span, lane };
  });
}

/* A mark with one layer in another for each quotation; on paper the last piece of one names its code. */
function newPiece(spans, end) {
  const piece = newElement("mark", "piece");
  piece.dataset.spans = spans.map((span) => span.id).join(" ");
  piece.title = [...new Set(spans.map((span) => visibleText(span.code)))].join("\n");
  piece.dataset.ending = spans
    .filter((span) => span.end === end)
    .map((span) => span.id)
    .join(" ");
  let parent = piece;
  // the lowest underline outermost: the background of an inner layer hides none
  const outerFirst = [...spans].sort((one, other) => other.lane - one.lane);
  for (const span of outerFirst) {
    const layer = newElement("span", "layer"); // paint() gives it the other classes
    layer.dataset.span = span.id;
    if (span.lane < LANES) layer.style.setProperty("--lane", span.lane);
    else layer.dataset.beyond = "";
    parent = parent.appendChild(layer);
  }
  return piece;
}

function innermost(element) {
  return element.matches(".piece") ? [...element.querySelectorAll(".layer")].at(-1) : element;
}

/* Says how many quotations begin here, or go on in this line, without an underline of their own. A click on the words
   leads to each of them. */
function newMarker(spans) {
  const marker = newElement("span", "more-quotations");
  const codes = [...new Set(spans.map((span) => visibleText(span.code)))].filter(Boolean).join(", ");
  marker.dataset.count = `+${spans.length}`; // shown by the style sheet: it is no text of the note
  marker.setAttribute("role", "img");
  marker.setAttribute("aria-label", `${spans.length} more ${spans.length === 1 ? "quotation" : "quotations"} here: ${codes}`);
  return marker;
}

function newBox(label) {
  const box = newElement("span", "invisible-character");
  box.dataset.label = label;
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", `invisible character ${label}`);
  return box;
}
