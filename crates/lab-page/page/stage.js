// The board: processes on a ring, messages on their way, links that can be cut with a stroke.

import { nodeName } from "./words.js";

const HUES = ["#2f7de1", "#d9622b", "#2a9d6f", "#a75bd4", "#c9a100", "#d6457f", "#4fb3c9", "#7d8a99"];
const NODE_RADIUS = 26;
const DOT_RADIUS = 5;
// With more messages than this on their way, what they say is not written beside them.
const SPOKEN_MAX = 8;
const CELLS_MAX = 9;
const DRAG_MIN = 8;
// Room for role, term and log above and below the ring.
const BESIDE = 60;

const leads = (role) => /\b(leader|primary|leads|leading|active)\b/i.test(role);

export class Stage {
  constructor({ board, canvas, nodes, legend }, handlers) {
    Object.assign(this, { board, canvas, nodesBox: nodes, legend, handlers });
    this.context = canvas.getContext("2d");
    this.buttons = [];
    this.places = [];
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
      if (!this.kinds.has(message.kind)) this.kinds.set(message.kind, HUES[this.kinds.size % HUES.length]);
    }
    this.legend.replaceChildren(
      ...[...this.kinds].map(([kind, color]) => {
        const item = document.createElement("li");
        const dot = document.createElement("i");
        dot.style.background = color;
        item.append(dot, kind);
        return item;
      }),
    );
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
    const wide = this.width > 560;
    const radiusX = this.width * (wide ? 0.3 : 0.33);
    const radiusY = this.height / 2 - NODE_RADIUS - BESIDE;
    this.places = this.buttons.map((_, node) => {
      const angle = (2 * Math.PI * node) / count - Math.PI / 2;
      return { x: this.width / 2 + radiusX * Math.cos(angle), y: this.height / 2 + radiusY * Math.sin(angle), angle };
    });
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
      const { role, term } = frame.view;
      button.className = [frame.status, frame.traitor ? "traitor" : "", frame.status !== "down" && leads(role) ? "lead" : ""].join(" ");
      const parts = [nodeName(node), frame.status, frame.traitor ? "traitor" : "", role, term];
      button.setAttribute("aria-label", parts.filter(Boolean).join(", "));
    });
  }

  draw(state, us, recording) {
    this.dress(state);
    const context = this.context;
    context.clearRect(0, 0, this.width, this.height);
    this.drawLinks(state);
    this.drawMessages(state, us, recording);
    this.places.forEach((place, node) => this.drawBeside(place, state.nodes[node]));
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
        context.beginPath();
        context.moveTo(a.x, a.y);
        context.lineTo(b.x, b.y);
        context.setLineDash(there || back ? [3, 7] : []);
        context.strokeStyle = there || back ? this.colors.bad : this.colors.link;
        context.globalAlpha = there || back ? 0.8 : 0.55;
        context.lineWidth = 1;
        context.stroke();
        context.setLineDash([]);
        context.globalAlpha = 1;
        if (there) this.cross(a, b, there && back ? 0.5 : 0.62);
        else if (back) this.cross(b, a, 0.62);
      }
    }
  }

  // A bar across the link, nearer to the end that hears nothing.
  cross(from, to, part) {
    const [x, y] = [from.x + (to.x - from.x) * part, from.y + (to.y - from.y) * part];
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

  drawMessages(state, us, recording) {
    const context = this.context;
    const spoken = state.flying.size <= SPOKEN_MAX;
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
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
      context.beginPath();
      context.arc(x, y, DOT_RADIUS, 0, 2 * Math.PI);
      context.fillStyle = this.kinds.get(message.kind);
      if (lost) {
        context.strokeStyle = this.colors.bad;
        context.lineWidth = 2;
        context.stroke();
      } else context.fill();
      // Near its ends several say the same in one place.
      if (spoken && part > 0.12 && part < 0.9) {
        context.fillStyle = this.colors.ink;
        context.textAlign = x > this.width / 2 ? "right" : "left";
        const text = message.text.length > 30 ? `${message.text.slice(0, 29)}…` : message.text;
        context.fillText(text, x + (x > this.width / 2 ? -9 : 9), y - 9);
      }
    }
    context.globalAlpha = 1;
  }

  // Role, term and log, outside of the ring.
  drawBeside(place, frame) {
    if (!frame) return;
    const context = this.context;
    const { role, term, decided, log } = frame.view;
    const crowded = this.width < 500 && this.places.length > 6;
    const lines = [frame.status === "up" ? role : frame.status, crowded ? "" : term, decided ? `decided ${decided}` : ""].filter(Boolean);
    const cos = Math.cos(place.angle);
    const sin = Math.sin(place.angle);
    const side = Math.abs(cos) > 0.35 && this.width > 560 ? Math.sign(cos) : 0;
    context.textAlign = side > 0 ? "left" : side < 0 ? "right" : "center";
    const x = place.x + side * (NODE_RADIUS + 10);
    const cells = log.slice(-CELLS_MAX);
    const height = lines.length * 15 + (cells.length ? 22 : 0);
    let y = side ? place.y - height / 2 + 7 : sin < 0 ? place.y - NODE_RADIUS - height + 2 : place.y + NODE_RADIUS + 13;
    context.textBaseline = "middle";
    lines.forEach((line, nth) => {
      context.font = nth === 0 ? "600 12.5px system-ui, sans-serif" : "12px system-ui, sans-serif";
      context.fillStyle = nth === 0 ? this.colors.ink : this.colors.dim;
      const shown = line.length > 26 ? `${line.slice(0, 25)}…` : line;
      const half = side ? 0 : context.measureText(shown).width / 2 + 4;
      context.fillText(shown, Math.min(Math.max(x, half), this.width - half), y);
      y += 15;
    });
    if (cells.length) this.drawCells(cells, log.length > cells.length, x, y + 4, side);
  }

  drawCells(cells, more, x, y, side) {
    const context = this.context;
    context.font = "11px ui-monospace, monospace";
    const widths = cells.map((cell) => Math.max(context.measureText(cell.text).width + 8, 16));
    const total = widths.reduce((sum, width) => sum + width, 0) + (more ? 12 : 0);
    let left = side > 0 ? x : side < 0 ? x - total : x - total / 2;
    left = Math.min(Math.max(left, 4), Math.max(this.width - total - 4, 4));
    context.textAlign = "left";
    if (more) {
      context.fillStyle = this.colors.dim;
      context.fillText("…", left, y);
      left += 12;
    }
    cells.forEach((cell, nth) => {
      const width = widths[nth];
      context.fillStyle = cell.state === "committed" ? this.colors.good : this.colors.card;
      context.globalAlpha = cell.state === "committed" ? 0.3 : 1;
      context.fillRect(left, y - 9, width - 2, 18);
      context.globalAlpha = 1;
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
    const found = this.places.findIndex((place) => Math.hypot(place.x - x, place.y - y) <= NODE_RADIUS + 6);
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
