// The story beside the board: the events around a moment, what was said and sent in each, and each rule where it broke.

import { byId, keepingFocus, make } from "./panels.js";
import { clock, nodeName } from "./words.js";

// Lines before and after the moment that is shown.
const BEFORE = 40;
const AFTER = 12;
// Lines of a page that are on the next one, too.
const KEPT = 6;

const WHY_LOST = { cut: "the link is cut", down: "nobody is there", act: "taken away", chance: "by chance" };

// What was said to whom, or not: those of one text together. What a traitor says in the place of something else, or
// keeps back, is marked.
function addressees(recording, sent, keptBack) {
  const lines = [];
  const said = sent.map((id) => recording.messages[id]).map(({ to, text, lie }) => ({ to, text: lie ? `[a lie] ${text}` : text }));
  const unsaid = keptBack.map(([to, text]) => ({ to, text: `[a lie] nothing, instead of: ${text}` }));
  for (const { to, text } of [...said, ...unsaid]) {
    if (lines.at(-1)?.text === text) lines.at(-1).to += ` ${nodeName(to)}`;
    else lines.push({ to: nodeName(to), text });
  }
  return lines.map(({ to, text }) => `→ ${to}  ${text}`);
}

// What came of an event, as `quorate lab run` tells it: what was said, sent and lost.
function consequences(recording, event) {
  const lost = event.sort === "missed" ? [] : (event.lost ?? []).map((id) => recording.messages[id]);
  return [
    ...(event.said ?? []),
    ...addressees(recording, event.sent ?? [], event.kept_back ?? []),
    ...lost.map(({ to, text, end }) => `lost (${WHY_LOST[end?.lost] ?? WHY_LOST.chance}): ${text} to ${nodeName(to)}`),
  ];
}

// The lines of a run: its events, or those of which something came.
export function linesOf(recording, idle) {
  const tell = (event) => {
    const who = event.sort === "act" || event.node === undefined ? "" : `${nodeName(event.node)}  `;
    const writes = event.persisted ? "  [writes]" : "";
    return { text: `${who}${event.text}${writes}`, more: consequences(recording, event), act: event.sort === "act" };
  };
  return {
    name: idle ? "all" : "told",
    count: idle ? recording.length : recording.told.length,
    place: (nth) => (idle ? nth : recording.told[nth]),
    before: (k) => (idle ? k : recording.toldBefore(k)),
    // What happened last is a line, whatever it was.
    last: (k) => k - 1,
    time: (us) => clock(us),
    breaks: recording.breaks,
    tell,
  };
}

export class Story {
  // `seek` goes to a moment.
  constructor(seek) {
    Object.assign(this, { seek, lines: null, recording: null, k: -1, from: null, shownFrom: 0 });
    byId("story-earlier").addEventListener("click", () => this.turn(-1));
    byId("story-later").addEventListener("click", () => this.turn(1));
    byId("story-began").addEventListener("click", () => seek(this.recording.breaks[0].k));
  }

  // Shows the lines around a moment. A page that was turned to stays until the moment is another.
  show(lines, recording, k) {
    if (this.recording !== recording || this.k !== k || this.lines.name !== lines.name) this.from = null;
    Object.assign(this, { lines, recording, k });
    const [first] = lines.breaks;
    byId("story-began").hidden = !first;
    if (first) byId("story-began").textContent = `It began with ${first.rule}, event ${first.k}`;
    this.draw();
  }

  // A page on, or back.
  turn(by) {
    const page = BEFORE + AFTER;
    const most = Math.max(this.lines.count - page, 0);
    this.from = Math.min(Math.max(this.shownFrom + by * (page - KEPT), 0), most);
    this.draw();
    byId("story").scrollTop = by < 0 ? byId("story").scrollHeight : 0;
  }

  draw() {
    const { lines, k } = this;
    const at = lines.before(k);
    const from = this.from ?? Math.max(at - BEFORE, 0);
    const to = Math.min(lines.count, this.from === null ? at + AFTER : from + BEFORE + AFTER);
    const places = [];
    for (let nth = from; nth < to; nth += 1) places.push(lines.place(nth));
    const now = lines.last(k);
    if (this.from === null && now >= 0 && !places.includes(now)) places.splice(at - from, 0, now);
    const items = places.flatMap((place) => [this.item(place, now), ...lines.breaks.filter((broken) => broken.k - 1 === place).map((broken) => this.brokenItem(broken))]);
    const list = byId("story");
    keepingFocus(list, () => list.replaceChildren(...items), ".now button");
    if (this.from === null) this.scrollToNow(list);
    this.shownFrom = from;
    this.tellSpan(places, from > 0, to < lines.count);
  }

  // What happened last, and the rules that broke with it, are seen.
  scrollToNow(list) {
    const now = list.querySelector(".now");
    if (!now) {
      list.scrollTop = 0;
      return;
    }
    let last = now;
    while (last.nextElementSibling?.dataset.broken) last = last.nextElementSibling;
    const top = now.offsetTop - list.offsetTop;
    const bottom = last.offsetTop + last.offsetHeight - list.offsetTop;
    list.scrollTop = Math.min(top, Math.max(top - list.clientHeight * 0.6, bottom - list.clientHeight));
  }

  // Which events those are, and whether there are others.
  tellSpan(places, before, after) {
    byId("story-span").textContent = places.length ? `events ${places[0] + 1} to ${places.at(-1) + 1} of ${this.recording.length}` : "no events";
    const [earlier, later] = [byId("story-earlier"), byId("story-later")];
    const focused = document.activeElement;
    earlier.disabled = !before;
    later.disabled = !after;
    // Whoever stands on a button that leads nowhere any more goes on with the other.
    if (focused === earlier && !before) later.focus();
    if (focused === later && !after) earlier.focus();
  }

  item(place, now) {
    const event = this.recording.events[place];
    const { text, more = [], title = `event ${place + 1}`, act = false, bad = false } = this.lines.tell(event);
    const said = more.map((line) => make("span", { className: "said", textContent: line }));
    const button = make("button", { type: "button", name: String(place), title }, make("time", { textContent: this.lines.time(event.at_us) }), ` ${text}`, ...said);
    button.addEventListener("click", () => this.seek(place + 1));
    const className = [act && "act", bad && "bad", place === now && "now", place > now && "later"].filter(Boolean).join(" ");
    return make("li", { className }, button);
  }

  // A rule, after the event at which it first broke.
  brokenItem({ rule, kind, what, k, atEnd }) {
    const when = atEnd ? " at the end" : "";
    const text = `✗ ${kind} ${rule} broke${when}: ${what}`;
    const button = make("button", { type: "button", name: `broken ${rule}`, textContent: text });
    button.addEventListener("click", () => this.seek(k));
    const item = make("li", { className: `bad ${kind}${k > this.k ? " later" : ""}` }, button);
    item.dataset.broken = rule;
    return item;
  }
}
