// A run that was made: any moment of it, by keyframes and what changed since.

export const KEYFRAME_EVENTS = 500;
// Further ahead than this, the way from a keyframe is shorter.
const STEPS_MAX = KEYFRAME_EVENTS;

export class Recording {
  // `rules` are the protocol's; where none are named, all are promises.
  constructor(outcome, rules = null) {
    this.outcome = outcome;
    this.events = outcome.trace.events;
    this.messages = outcome.trace.messages;
    this.keyframes = outcome.trace.keyframes;
    this.endUs = this.events.length ? this.events[this.events.length - 1].at_us : 0;
    this.state = null;
    this.breaks = outcome.all_broken.map((first) => this.breakOf(first, rules));
    // The events of which something came, or at which a rule broke.
    const broke = new Set(this.breaks.map(({ k }) => k - 1));
    this.told = [];
    this.events.forEach((event, place) => {
      if (!event.idle || broke.has(place)) this.told.push(place);
    });
    this.waitForStart();
  }

  // Where a rule first broke: `k` is the first moment at which that is seen. What is found when all is over comes with
  // the last event.
  breakOf({ event, broken: { rule, what } }, rules) {
    const kind = rules ? (rules.find(({ name }) => name === rule)?.kind ?? "mechanism") : "promise";
    return { rule, what, kind, event, k: Math.min(event + 1, this.length), atEnd: event >= this.length && rule !== "assertion" };
  }

  // The rule for which the run is looked at: the one that ended it, or the first promise that broke, or else the first.
  get harm() {
    const ended = this.breaks.find(({ rule }) => rule === this.outcome.broken?.rule);
    return ended ?? this.breaks.find(({ kind }) => kind === "promise") ?? this.breaks[0];
  }

  // Who begins later is not down: it has not started.
  waitForStart() {
    const nodes = this.keyframes[0]?.nodes ?? [];
    const starts = new Set(this.events.slice(0, nodes.length).filter(({ sort }) => sort === "began").map(({ node }) => node));
    nodes.forEach((frame, node) => {
      if (frame.status === "down" && starts.has(node)) nodes[node] = { ...frame, status: "not started" };
    });
  }

  // How many of the first k events those are.
  toldBefore(k) {
    let low = 0;
    let high = this.told.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.told[middle] < k) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  get length() {
    return this.events.length;
  }

  // When the k-th event was over.
  timeOf(k) {
    return k > 0 ? this.events[Math.min(k, this.length) - 1].at_us : 0;
  }

  // How many events there were up to a time.
  countAt(us) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.events[middle].at_us <= us) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // How everything is after k events. The same object each time.
  at(k) {
    const state = this.state;
    if (!state || k < state.k || k - state.k > STEPS_MAX) this.load(k);
    while (this.state.k < k) this.step(this.state, this.events[this.state.k]);
    return this.state;
  }

  load(k) {
    const nth = Math.min(Math.floor(k / KEYFRAME_EVENTS), this.keyframes.length - 1);
    const frame = this.keyframes[nth] ?? { nodes: [], cut: [], in_flight: [] };
    this.state = {
      k: nth * KEYFRAME_EVENTS,
      nodes: frame.nodes.slice(),
      cut: new Set(frame.cut.map(([from, to]) => `${from}>${to}`)),
      flying: new Set(frame.in_flight),
    };
  }

  step(state, event) {
    for (const id of event.sent ?? []) state.flying.add(id);
    for (const id of event.lost ?? []) state.flying.delete(id);
    for (const id of event.heard ?? []) state.flying.delete(id);
    if (event.message !== undefined) state.flying.delete(event.message);
    if (event.now) state.nodes[event.node] = event.now;
    if (event.cut) state.cut = new Set(event.cut.map(([from, to]) => `${from}>${to}`));
    state.k += 1;
  }

  // How this rule has broken within the first k events, if it has.
  brokenAt(rule, k) {
    return this.breaks.find((broken) => broken.rule === rule && broken.k <= k);
  }
}
