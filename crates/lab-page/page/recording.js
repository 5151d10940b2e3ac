// A run that was made: any moment of it, by keyframes and what changed since.

export const KEYFRAME_EVENTS = 500;
// Further ahead than this, the way from a keyframe is shorter.
const STEPS_MAX = KEYFRAME_EVENTS;

export class Recording {
  constructor(outcome) {
    this.outcome = outcome;
    this.events = outcome.trace.events;
    this.messages = outcome.trace.messages;
    this.keyframes = outcome.trace.keyframes;
    this.endUs = this.events.length ? this.events[this.events.length - 1].at_us : 0;
    this.state = null;
    // The events of which something came.
    this.told = [];
    this.events.forEach((event, place) => {
      if (!event.idle) this.told.push(place);
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

  // Whether this rule has broken within the first k events, and how. What is found at the end of a run comes with
  // its last event.
  brokenAt(rule, k) {
    const within = (broken) => broken.event < k || (k === this.length && broken.event === k);
    return this.outcome.all_broken.find((broken) => broken.broken.rule === rule && within(broken));
  }
}
