// A trace of a whole cluster, as the simulator writes it (`quorate-sim trace`; the form is described at the head of
// `crates/sim/src/trace.rs`), read with distrust and made into a recording: its k-th event is the trace's.

import { KEYFRAME_EVENTS, Recording } from "./recording.js";

export const FORMAT = 2;
// The longest file that is read; the server has the same bound.
export const TRACE_BYTES_MAX = 64 << 20;
const MEMBERS_MAX = 32;
// Of a name on the board.
const NAME_LETTERS = 4;
// Of a log, the entries that are shown.
const CELLS = 12;

const WHAT = "A trace is what `quorate-sim trace SEED > FILE` writes: all that happened in a run of a whole cluster, as JSON.";

const refuse = (name, why) => {
  throw new Error(`${name} cannot be shown: ${why}. ${WHAT}`);
};

export function checkSize(name, bytes) {
  if (bytes > TRACE_BYTES_MAX) refuse(name, `it has ${Math.ceil(bytes / (1 << 20))} MiB, and a trace may have ${TRACE_BYTES_MAX >> 20}`);
}

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isMember = (value) => typeof value === "string" && /^n[0-9a-f]{1,16}$/.test(value);
const isText = (value) => typeof value === "string";
const isHash = (value) => typeof value === "string" && /^[0-9a-f]{16}$/.test(value);
const isPair = (value) => Array.isArray(value) && value.length === 2 && value.every(isMember);

const STATUSES = ["up", "paused", "down", "lost", "removed"];

// What each kind of event has to have.
const FIELDS = {
  told: { words: isText },
  stands: { member: isMember, role: isText, term: isCount, vote: (vote) => vote === null || isMember(vote), commit: isCount, durable: isCount, last: isCount },
  status: { member: isMember, status: (status) => STATUSES.includes(status) },
  links: { cut: (cut) => Array.isArray(cut) && cut.every(isPair) },
  message: { frame: isCount, from: isMember, to: isMember, term: isCount, says: isText, lost_us: (us) => us === undefined || isCount(us) },
  arrives: { frame: isCount, heard: (heard) => typeof heard === "boolean" },
};

// The trace in a file's text, if it is one.
export function parse(name, text) {
  let trace;
  try {
    trace = JSON.parse(text);
  } catch {
    refuse(name, "it is not JSON");
  }
  if (trace === null || typeof trace !== "object" || Array.isArray(trace) || !("format" in trace)) refuse(name, "it is JSON, but no trace");
  if (trace.format !== FORMAT) refuse(name, `it is of format ${JSON.stringify(trace.format)}, and this page reads format ${FORMAT}`);
  const { hash, broken, events, plan } = trace;
  const isBreach = broken === null || (isText(broken?.rule) && isText(broken.what) && isCount(broken.at_us));
  if (!isHash(hash) || !isBreach || !Array.isArray(events) || typeof plan?.climate !== "object") refuse(name, "it is not whole");
  let lastUs = 0;
  events.forEach((event, place) => {
    const fields = Object.hasOwn(FIELDS, event?.kind) ? FIELDS[event.kind] : null;
    const wrong = fields && Object.keys(fields).find((field) => !fields[field](event[field]));
    if (!fields) refuse(name, `its event ${place + 1} is of no kind that is known`);
    if (wrong) refuse(name, `its event ${place + 1} has no ${wrong} that makes sense`);
    if (!isCount(event.at_us) || event.at_us < lastUs) refuse(name, `the times of its events do not rise at event ${place + 1}`);
    lastUs = event.at_us;
  });
  return trace;
}

// What a message says, without the names that Rust gives to numbers.
const plain = (says) =>
  says
    .replace(/LogPosition \{ index: LogIndex\((\d+)\), term: Term\((\d+)\) \}/g, "$1@$2")
    .replace(/\b[A-Z]\w*\((\w+)\)/g, "$1")
    .replace(/\b[A-Z]\w*\((\w+)\)/g, "$1");

const kindOf = (says) => /^\w*/.exec(says)[0] || "other";

// Whether a line of the story is about a client or one who watches.
const isClient = (words) => /^[cw][0-9a-f]+ /.test(words);

// Whether a line of the story is about what was done to the cluster.
const isFault = (words) => /^(FAULT|AMBUSH|everything is healed|hours pass)/.test(words);

const CELL_STATE = (index, { commit, durable }) => (index <= commit ? "committed" : index <= durable ? "durable" : "tentative");

// A member as the board shows it.
function frameOf(name, status, stand) {
  const gone = !["up", "paused"].includes(status);
  const field = (name, value) => ({ name, value: String(value ?? "nobody") });
  const view = {
    role: stand && !gone ? stand.role : "",
    term: stand ? `term ${stand.term}${stand.vote ? `, vote ${stand.vote.slice(0, NAME_LETTERS)}` : ""}` : "",
    decided: null,
    // Made when it is looked at: few of them are.
    get log() {
      if (!stand) return [];
      const first = Math.max(stand.last - CELLS, 0) + 1;
      return Array.from({ length: stand.last - first + 1 }, (_, nth) => ({ at: first + nth, text: String(first + nth), state: CELL_STATE(first + nth, stand) }));
    },
    fields: stand ? [field("voted for", stand.vote), field("committed", stand.commit), field("on disk", stand.durable), field("last entry", stand.last)] : [],
  };
  return { name: name.slice(0, NAME_LETTERS), fullName: name, status, traitor: false, view };
}

// The members, in the order in which they are first heard of.
function membersOf(events) {
  const places = new Map();
  const add = (name) => name !== undefined && !places.has(name) && places.set(name, places.size);
  for (const event of events) {
    [event.member, event.from, event.to].forEach(add);
    for (const pair of event.cut ?? []) pair.forEach(add);
  }
  return places;
}

class Converter {
  constructor(trace) {
    this.events = trace.events;
    this.places = membersOf(trace.events);
    this.messages = [];
    this.made = trace.events.map(({ at_us }) => ({ at_us, sort: "event", text: "" }));
    this.lines = [];
    this.linesOfMembers = [];
    this.members = [...this.places.keys()].map((name) => ({ name, status: "absent", stand: null }));
    // Of each frame, the events at which it arrives.
    this.arrivals = new Map();
    trace.events.forEach((event, place) => {
      if (event.kind !== "arrives") return;
      const known = this.arrivals.get(event.frame);
      if (known) known.push(place);
      else this.arrivals.set(event.frame, [place]);
    });
  }

  // The first event at this time or later.
  placeAt(us) {
    let [low, high] = [0, this.events.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.events[middle].at_us < us) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  send(place, event, end, endPlace) {
    const id = this.messages.length;
    this.messages.push({
      kind: kindOf(event.says), from: this.places.get(event.from), to: this.places.get(event.to), sent_us: event.at_us,
      text: plain(event.says).replace(/^\w*/, (kind) => `${kind}, term ${event.term}`), end,
    });
    (this.made[place].sent ??= []).push(id);
    // It is seen for a moment, even if it ends in the same one.
    const over = Math.max(endPlace, place + 1);
    if (over < this.made.length) (this.made[over].heard ??= []).push(id);
  }

  message(place, event) {
    if (event.lost_us !== undefined) {
      this.send(place, event, { at_us: event.lost_us, lost: true }, this.placeAt(event.lost_us));
      return;
    }
    const arrivals = (this.arrivals.get(event.frame) ?? []).filter((arrival) => arrival > place);
    for (const arrival of arrivals) this.send(place, event, { at_us: this.events[arrival].at_us, lost: !this.events[arrival].heard }, arrival);
    if (!arrivals.length) this.send(place, event, undefined, Infinity);
  }

  member(place, name) {
    const node = this.places.get(name);
    const { status, stand } = this.members[node];
    Object.assign(this.made[place], { node, now: frameOf(name, status, stand) });
  }

  event(event, place) {
    const made = this.made[place];
    if (event.kind === "told") {
      this.lines.push(place);
      if (!isClient(event.words)) this.linesOfMembers.push(place);
      Object.assign(made, { text: event.words, sort: isFault(event.words) ? "act" : "event" });
    } else if (event.kind === "stands") {
      this.members[this.places.get(event.member)].stand = event;
      this.member(place, event.member);
    } else if (event.kind === "status") {
      this.members[this.places.get(event.member)].status = event.status;
      this.member(place, event.member);
    } else if (event.kind === "links") {
      made.cut = event.cut.map((pair) => pair.map((name) => this.places.get(name)));
    } else if (event.kind === "message") this.message(place, event);
  }

  // How everything is before every so many events.
  keyframes() {
    const nodes = [...this.places.keys()].map((name) => frameOf(name, "absent", null));
    const [flying, frames] = [new Set(), []];
    let cut = [];
    for (let place = 0; place <= this.made.length; place += 1) {
      if (place % KEYFRAME_EVENTS === 0) frames.push({ nodes: nodes.slice(), cut, in_flight: [...flying] });
      const event = this.made[place];
      for (const id of event?.sent ?? []) flying.add(id);
      for (const id of event?.heard ?? []) flying.delete(id);
      if (event?.now) nodes[event.node] = event.now;
      if (event?.cut) cut = event.cut;
    }
    return frames;
  }
}

// The recording of a trace that was read. Beside what every recording has, it has the story and what it is of.
export function record(name, trace) {
  const converter = new Converter(trace);
  const count = converter.places.size;
  if (count === 0 || count > MEMBERS_MAX) refuse(name, `it has ${count} members, and there may be 1 to ${MEMBERS_MAX}`);
  trace.events.forEach((event, place) => converter.event(event, place));
  const { made: events, messages, lines, linesOfMembers } = converter;
  const { broken } = trace;
  // The rule broke with the line that says so, which is the last.
  const at = broken && lines.length && trace.events[lines.at(-1)].words.startsWith("BROKEN") ? lines.at(-1) : events.length;
  const outcome = {
    trace: { nodes: count, events, messages, keyframes: converter.keyframes() },
    digest: trace.hash, ended: "quiet", broken, all_broken: broken ? [{ event: at, broken }] : [],
  };
  return Object.assign(new Recording(outcome), { lines, linesOfMembers, about: { name, hash: trace.hash, plan: trace.plan, mutant: trace.mutant ?? null } });
}
