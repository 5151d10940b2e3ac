// The board: processes on a ring, messages on their way, links that can be cut with a stroke.

import { Room } from "./labels.js";
import { nodeName } from "./words.js";

// Each kind of message has a colour; more kinds than colours, and they are squares instead of circles.
const HUES = ["#2f7de1", "#d9622b", "#2a9d6f", "#a75bd4", "#c9a100", "#d6457f", "#4fb3c9", "#7d8a99"];
const RADIUS_MAX = 26;
const RADIUS_MIN = 13;
const DOT_RADIUS = 5;
// With more messages than this on their way, what they say is not written beside them.
const SPOKEN_MAX = 8;
// What is written beside a process, the most of it first: lines of role, term and decision, how many letters of them,
// and cells of its log.
const LEVELS = [
  { lines: [0, 1, 2], letters: 26, cells: 9 },
  { lines: [0, 1, 2], letters: 26, cells: 5 },
  { lines: [0, 1, 2], letters: 26, cells: 3 },
  { lines: [0, 1, 2], letters: 18, cells: 3 },
  { lines: [0, 1, 2], letters: 12, cells: 3 },
  { lines: [0, 2], letters: 26, cells: 3 },
  { lines: [0, 2], letters: 26, cells: 2 },
  { lines: [0, 2], letters: 26, cells: 1 },
  { lines: [0], letters: 26, cells: 0 },
];
const LINE_HEIGHT = 15;
const CELLS_HEIGHT = 22;
// Letters of what a message says: as many as there is room for.
const LENGTHS = [30, 16];
const DRAG_MIN = 8;
// Narrower than this, nothing is written to the left or the right of the ring.
const WIDE = 560;
// More processes than this need a higher board where it is narrow.
const MANY = 6;
// Between a process and what is written beside it.
const GAP = 6;
// Room for role, term and log above and below the ring: where it is wide, where it is narrow, and where nothing is
// written below.
const BESIDE = [76, 64, 20];

const FONTS = { first: "600 12.5px system-ui, sans-serif", other: "12px system-ui, sans-serif", cell: "11px ui-monospace, monospace" };

const shortened = (text, max) => (text.length > max ? `${text.slice(0, max - 1)}…` : text);

// In two lines of so many letters if one is too short for it.
function wrapped(text, max) {
  const at = text.lastIndexOf(" ", max);
  if (text.length <= max || at <= 0) return [shortened(text, max)];
  return [text.slice(0, at), shortened(text.slice(at + 1), max)];
}

// Whether what is written beside a process stands above or below it.
const isUpright = (angle) => Math.abs(Math.cos(angle)) <= 0.35;

const leads = (role) => /\b(leader|primary|leads|leading|active)\b/i.test(role);

// How links that are cut are drawn, for the legend.
const CUTS = [
  ["both", "link cut"],
  ["one", "cut one way: what the red end says is lost"],
];

function cutItem([ways, text]) {
  const item = document.createElement("li");
  const sample = document.createElement("i");
  sample.className = `cut ${ways}`;
  item.append(sample, text);
  return item;
}

export class Stage {
  constructor({ board, canvas, nodes, legend }, handlers) {
    Object.assign(this, { board, canvas, nodesBox: nodes, legend, handlers });
    this.context = canvas.getContext("2d");
    this.buttons = [];
    this.places = [];
    this.radius = RADIUS_MAX;
    this.room = null;
    this.kinds = new Map();
    this.stroke = null;
    this.selected = null;
    this.readColors();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColors());
    new ResizeObserver(() => this.resize()).observe(board);
    this.listen();
    this.resize();
  }

  readColors() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colors = Object.fromEntries(["ink", "dim", "link", "bad", "good", "line", "card", "accent"].map((name) => [name, color(name)]));
    this.dirty = true;
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.board;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.width = width;
    this.height = height;
    this.arrange();
  }

  // A new run: as many processes, these kinds of messages.
  show(recording, count) {
    this.kinds.clear();
    for (const message of recording.messages) {
      const nth = this.kinds.size;
      if (!this.kinds.has(message.kind)) this.kinds.set(message.kind, { color: HUES[nth % HUES.length], square: nth >= HUES.length });
    }
    this.legend.replaceChildren(
      ...[...this.kinds].map(([kind, { color, square }]) => {
        const item = document.createElement("li");
        const dot = document.createElement("i");
        dot.style.background = color;
        dot.classList.toggle("square", square);
        item.append(dot, kind);
        return item;
      }),
      ...(recording.events.some((event) => event.cut?.length) ? CUTS.map(cutItem) : []),
    );
    if (recording.messages.some((message) => message.lie)) {
      const item = document.createElement("li");
      item.textContent = "\u2715 a lie";
      this.legend.append(item);
    }
    if (this.buttons.length !== count) {
      this.buttons = Array.from({ length: count }, (_, node) => this.button(node));
      this.nodesBox.replaceChildren(...this.buttons);
      this.arrange();
    }
    this.dirty = true;
  }

  button(node) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = nodeName(node);
    button.dataset.node = node;
    button.addEventListener("click", () => {
      if (!this.dragged) this.handlers.select(node);
    });
    button.addEventListener("pointerdown", (event) => this.begin(event, node));
    return button;
  }

  arrange() {
    const count = this.buttons.length;
    const wide = this.width > WIDE;
    this.board.classList.toggle("many", count > MANY);
    const angles = this.buttons.map((_, node) => (2 * Math.PI * node) / count - Math.PI / 2);
    const beside = RADIUS_MAX + BESIDE[wide ? 0 : 1];
    // A ring of three or five does not reach as far down as up: it is as high as there is room all the same.
    const down = count > 1 ? Math.max(...angles.map(Math.sin)) : 1;
    // Where it is wide and nobody is at the very bottom, nothing is written below the ring.
    const nothing = wide && count > 1 && angles.every((angle) => Math.sin(angle) < 0 || !isUpright(angle));
    const below = nothing ? RADIUS_MAX + BESIDE[2] : beside;
    const radiusY = Math.max(this.height - beside - below, 0) / (1 + down);
    const radiusX = wide ? this.width * 0.28 : this.width * (count > MANY ? 0.5 : 0.33) - (count > MANY ? RADIUS_MAX + GAP : 0);
    this.centre = { x: this.width / 2, y: beside + radiusY };
    const at = (angle) => ({ x: this.centre.x + radiusX * Math.cos(angle), y: this.centre.y + (count > 1 ? radiusY * Math.sin(angle) : 0), angle });
    this.places = angles.map(at);
    const chords = this.places.map((place, node) => {
      const next = this.places[(node + 1) % count];
      return Math.hypot(next.x - place.x, next.y - place.y);
    });
    this.radius = count > 1 ? Math.min(Math.max(Math.min(...chords) * 0.36, RADIUS_MIN), RADIUS_MAX) : RADIUS_MAX;
    this.nodesBox.style.setProperty("--size", `${2 * this.radius}px`);
    this.buttons.forEach((button, node) => {
      button.style.left = `${this.places[node].x}px`;
      button.style.top = `${this.places[node].y}px`;
    });
    this.dirty = true;
  }

  select(node) {
    this.selected = node;
    this.buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === node)));
  }

  // What the processes are: as buttons, for whoever does not see the canvas.
  dress(state) {
    state.nodes.forEach((frame, node) => {
      const button = this.buttons[node];
      if (!button || button.frame === frame) return;
      button.frame = frame;
      const name = frame.name ?? nodeName(node);
      if (button.textContent !== name) button.textContent = name;
      const { role, term } = frame.view;
      button.className = [frame.status.replace(" ", "-"), frame.traitor ? "traitor" : "", ["up", "paused"].includes(frame.status) && leads(role) ? "lead" : ""].join(" ");
      const parts = [frame.fullName ?? name, frame.status, frame.traitor ? "traitor" : "", role, term];
      button.setAttribute("aria-label", parts.filter(Boolean).join(", "));
    });
  }

  draw(state, us, recording) {
    this.dress(state);
    const context = this.context;
    context.clearRect(0, 0, this.width, this.height);
    this.room = new Room(this.width, this.height, this.places.map(({ x, y }) => ({ x, y, radius: this.radius })));
    this.drawLinks(state);
    const spoken = this.drawMessages(state, us, recording);
    this.drawBeside(state);
    this.speak(spoken);
    this.drawStroke();
    this.dirty = false;
  }

  drawLinks(state) {
    const context = this.context;
    for (let from = 0; from < this.places.length; from += 1) {
      for (let to = from + 1; to < this.places.length; to += 1) {
        const there = state.cut.has(`${from}>${to}`);
        const back = state.cut.has(`${to}>${from}`);
        const [a, b] = [this.places[from], this.places[to]];
        if (there && back) this.drawCut(a, b, 1);
        else if (there) this.drawCut(a, b, 0.5);
        else if (back) this.drawCut(b, a, 0.5);
        else this.line(a, b, this.colors.link, 0.55);
      }
    }
  }

  line(a, b, color, alpha, dash = []) {
    const context = this.context;
    context.beginPath();
    context.moveTo(a.x, a.y);
    context.lineTo(b.x, b.y);
    context.setLineDash(dash);
    context.strokeStyle = color;
    context.globalAlpha = alpha;
    context.lineWidth = 1;
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  // What `from` says goes so far as a bar in the middle. If the link is cut one way, that half is red, and an arrow says
  // which way it still goes.
  drawCut(from, to, part) {
    const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
    this.line(from, part === 1 ? to : middle, this.colors.bad, 0.8, [3, 7]);
    if (part < 1) {
      this.line(to, middle, this.colors.dim, 0.9);
      this.arrow(to, middle);
    }
    this.bar(from, to, middle);
  }

  bar(from, to, { x, y }) {
    const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    const [dx, dy] = [(-(to.y - from.y) / length) * 9, ((to.x - from.x) / length) * 9];
    const context = this.context;
    context.beginPath();
    context.moveTo(x - dx, y - dy);
    context.lineTo(x + dx, y + dy);
    context.strokeStyle = this.colors.bad;
    context.lineWidth = 3;
    context.stroke();
  }

  // The head of an arrow, half of the way.
  arrow(from, to) {
    const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
    const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    const [dx, dy] = [(to.x - from.x) / length, (to.y - from.y) / length];
    const context = this.context;
    context.beginPath();
    context.moveTo(x + dx * 7, y + dy * 7);
    context.lineTo(x - dx * 5 - dy * 6, y - dy * 5 + dx * 6);
    context.lineTo(x - dx * 5 + dy * 6, y - dy * 5 - dx * 6);
    context.closePath();
    context.fillStyle = this.colors.dim;
    context.fill();
  }

  drawMessages(state, us, recording) {
    const context = this.context;
    const few = state.flying.size <= SPOKEN_MAX;
    const spoken = [];
    for (const id of state.flying) {
      const message = recording.messages[id];
      if (message.from === message.to) continue;
      const [a, b] = [this.places[message.from], this.places[message.to]];
      if (!a || !b) continue;
      const endUs = message.end ? message.end.at_us : Math.max(recording.endUs, us) + 1;
      const part = Math.min(Math.max((us - message.sent_us) / Math.max(endUs - message.sent_us, 1), 0), 1);
      const length = Math.hypot(b.x - a.x, b.y - a.y) || 1;
      // Beside the link, on the right of its way: what goes there and what comes back do not meet.
      const [dx, dy] = [(-(b.y - a.y) / length) * 7, ((b.x - a.x) / length) * 7];
      const [x, y] = [a.x + (b.x - a.x) * part + dx, a.y + (b.y - a.y) * part + dy];
      const lost = message.end?.lost;
      context.globalAlpha = lost ? 1 - 0.75 * part : 1;
      const { color, square } = this.kinds.get(message.kind);
      context.beginPath();
      if (square) context.rect(x - DOT_RADIUS, y - DOT_RADIUS, 2 * DOT_RADIUS, 2 * DOT_RADIUS);
      else context.arc(x, y, DOT_RADIUS, 0, 2 * Math.PI);
      context.fillStyle = color;
      if (lost) {
        context.strokeStyle = this.colors.bad;
        context.lineWidth = 2;
        context.stroke();
      } else context.fill();
      if (message.lie) this.strike(x, y);
      // Near its ends several say the same in one place.
      if (few) spoken.push({ x, y, text: part > 0.12 && part < 0.9 ? message.text : "" });
    }
    context.globalAlpha = 1;
    return spoken;
  }

  // Struck through: a traitor says it in the place of something else.
  strike(x, y) {
    const context = this.context;
    const reach = DOT_RADIUS + 4;
    context.beginPath();
    context.moveTo(x - reach, y - reach);
    context.lineTo(x + reach, y + reach);
    context.moveTo(x - reach, y + reach);
    context.lineTo(x + reach, y - reach);
    context.strokeStyle = this.colors.bad;
    context.lineWidth = 2;
    context.stroke();
  }

  // What messages say, beside them: towards the middle if there is room, elsewhere if not, or not at all.
  speak(spoken) {
    const context = this.context;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillStyle = this.colors.ink;
    for (const { x, y } of spoken) this.room.circles.push({ x, y, radius: DOT_RADIUS });
    for (const { x, y, text } of spoken) {
      for (const shown of new Set(LENGTHS.map((max) => shortened(text, max)))) {
        const width = context.measureText(shown).width;
        const [right, left] = [x + 9, x - 9 - width];
        const sides = x > this.width / 2 ? [left, right] : [right, left];
        const boxes = sides.flatMap((from) => [y - 9, y + 9].map((middle) => ({ left: from, top: middle - 7, right: from + width, bottom: middle + 7 })));
        const box = text && this.room.take(boxes);
        if (!box) continue;
        context.fillText(shown, box.left, box.top + 7);
        break;
      }
    }
  }

  // Role, term and log, outside of the ring: as much of it as there is room for beside everybody. If there is not even
  // for the least, as much as there is beside each.
  drawBeside(state) {
    const all = this.places.map((place, node) => ({ place, frame: state.nodes[node] })).filter(({ frame }) => frame);
    const before = this.room.taken.length;
    for (const level of LEVELS) {
      const blocks = all.map(({ frame }) => this.block(frame, level));
      const boxes = [];
      for (const [nth, block] of blocks.entries()) {
        const box = this.room.take(this.spots(all[nth].place, block).slice(0, 1));
        if (!box) break;
        boxes.push(box);
      }
      if (boxes.length === all.length) return blocks.forEach((block, nth) => this.write(block, boxes[nth]));
      this.room.taken.length = before;
    }
    for (const { place, frame } of all) {
      for (const level of LEVELS) {
        const block = this.block(frame, level);
        const box = this.room.take(this.spots(place, block));
        if (!box) continue;
        this.write(block, box);
        break;
      }
    }
  }

  // What is written as one, and its size.
  block(frame, level) {
    const context = this.context;
    const { role, term, decided, log } = frame.view;
    const first = (frame.status === "up" ? role : frame.status) || term;
    const known = [first, first === term ? "" : term, decided ? `decided ${decided}` : ""];
    const parts = level.lines.map((line) => known[line]).filter(Boolean).map((line) => wrapped(line, level.letters));
    const lines = parts.flat();
    const bold = parts[0]?.length ?? 0;
    const widths = lines.map((line, nth) => {
      context.font = nth < bold ? FONTS.first : FONTS.other;
      return context.measureText(line).width;
    });
    const cells = level.cells ? log.slice(-level.cells) : [];
    context.font = FONTS.cell;
    const cellWidths = cells.map((cell) => Math.max(context.measureText(cell.text).width + 8, 16));
    const more = cells.length > 0 && log.length > cells.length;
    const cellsWidth = cellWidths.reduce((sum, width) => sum + width, 0) + (more ? 12 : 0);
    const height = lines.length * LINE_HEIGHT + (cells.length ? CELLS_HEIGHT : 0);
    return { lines, bold, cells, cellWidths, cellsWidth, more, width: Math.max(cellsWidth, ...widths), height };
  }

  // Where it may stand, the best place first.
  spots({ x, y, angle }, { width, height }) {
    const beside = this.radius + GAP;
    const above = this.room.centred(x, y - beside - height, width, height);
    const below = this.room.centred(x, y + beside, width, height);
    const cos = Math.cos(angle);
    if (this.width <= WIDE || isUpright(angle)) return Math.sin(angle) < 0 ? [above, below] : [below, above];
    const left = cos > 0 ? x + beside + 4 : x - beside - 4 - width;
    const box = { left, top: y - height / 2, right: left + width, bottom: y + height / 2, side: Math.sign(cos) };
    return [box, above, below];
  }

  write(block, box) {
    const context = this.context;
    const middle = (box.left + box.right) / 2;
    const from = (width) => (box.side > 0 ? box.left : box.side < 0 ? box.right - width : middle - width / 2);
    context.textBaseline = "middle";
    context.textAlign = "left";
    block.lines.forEach((line, nth) => {
      context.font = nth < block.bold ? FONTS.first : FONTS.other;
      context.fillStyle = nth < block.bold ? this.colors.ink : this.colors.dim;
      context.fillText(line, from(context.measureText(line).width), box.top + (nth + 0.5) * LINE_HEIGHT);
    });
    if (block.cells.length) this.drawCells(block, from(block.cellsWidth), box.bottom - 10);
  }

  drawCells({ cells, cellWidths, more }, left, y) {
    const context = this.context;
    context.font = FONTS.cell;
    if (more) {
      context.fillStyle = this.colors.dim;
      context.fillText("…", left, y);
      left += 12;
    }
    cells.forEach((cell, nth) => {
      const width = cellWidths[nth];
      // No link shines through.
      context.fillStyle = this.colors.card;
      context.fillRect(left, y - 9, width - 2, 18);
      if (cell.state === "committed") {
        context.fillStyle = this.colors.good;
        context.globalAlpha = 0.3;
        context.fillRect(left, y - 9, width - 2, 18);
        context.globalAlpha = 1;
      }
      context.strokeStyle = cell.state === "committed" ? this.colors.good : cell.state === "durable" ? this.colors.dim : this.colors.line;
      context.setLineDash(cell.state === "tentative" ? [2, 2] : []);
      context.lineWidth = 1;
      context.strokeRect(left, y - 9, width - 2, 18);
      context.setLineDash([]);
      context.fillStyle = this.colors.ink;
      context.fillText(cell.text, left + 3, y + 0.5);
      left += width;
    });
  }

  drawStroke() {
    if (!this.stroke || !this.dragged) return;
    const { x0, y0, x1, y1 } = this.stroke;
    const context = this.context;
    context.beginPath();
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
    context.strokeStyle = this.colors.accent;
    context.lineWidth = 2;
    context.setLineDash([6, 4]);
    context.stroke();
    context.setLineDash([]);
  }

  listen() {
    this.canvas.addEventListener("pointerdown", (event) => this.begin(event, null));
    addEventListener("pointermove", (event) => this.move(event));
    addEventListener("pointerup", (event) => this.end(event));
    addEventListener("pointercancel", () => {
      this.stroke = null;
      this.dirty = true;
    });
  }

  point(event) {
    const box = this.board.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  begin(event, node) {
    if (event.button > 0) return;
    const { x, y } = this.point(event);
    this.stroke = { node, x0: x, y0: y, x1: x, y1: y };
    this.dragged = false;
  }

  move(event) {
    if (!this.stroke) return;
    const { x, y } = this.point(event);
    Object.assign(this.stroke, { x1: x, y1: y });
    this.dragged ||= Math.hypot(x - this.stroke.x0, y - this.stroke.y0) > DRAG_MIN;
    this.dirty = true;
  }

  end(event) {
    const stroke = this.stroke;
    this.stroke = null;
    this.dirty = true;
    if (!stroke || !this.dragged) return;
    // The click that may follow was a stroke.
    setTimeout(() => {
      this.dragged = false;
    });
    if (stroke.node === null) {
      const crossed = this.crossed(stroke);
      if (crossed.length) this.handlers.cut(crossed);
      return;
    }
    const to = this.nodeAt(this.point(event));
    if (to !== null && to !== stroke.node) this.handlers.link(stroke.node, to, event.shiftKey);
  }

  nodeAt({ x, y }) {
    const found = this.places.findIndex((place) => Math.hypot(place.x - x, place.y - y) <= this.radius + 6);
    return found < 0 ? null : found;
  }

  // The links that a stroke goes across.
  crossed({ x0, y0, x1, y1 }) {
    const turn = (ax, ay, bx, by, cx, cy) => Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax));
    const pairs = [];
    for (let from = 0; from < this.places.length; from += 1) {
      for (let to = from + 1; to < this.places.length; to += 1) {
        const [a, b] = [this.places[from], this.places[to]];
        const across = turn(x0, y0, x1, y1, a.x, a.y) !== turn(x0, y0, x1, y1, b.x, b.y);
        const within = turn(a.x, a.y, b.x, b.y, x0, y0) !== turn(a.x, a.y, b.x, b.y, x1, y1);
        if (across && within) pairs.push([from, to]);
      }
    }
    return pairs;
  }
}
