// Traces of whole clusters on the page: opened from a file, dropped on the page, or as `quorate lab --trace` serves one.
// They are recordings: nothing can be done to them but to look.

import { byId, make } from "./panels.js";
import { checkSize, parse, record } from "./trace.js";

// Letters of a line of the story; the rest is in its title.
const LETTERS = 180;
// A whole cluster lives for a minute and more.
const SPEED = "10";

// What can be done to a recording.
export const LOOK = "A recording: step, scrub, play. Click a member to choose it.";

const KEYS = [" ", "ArrowLeft", "ArrowRight", "Home", "End", "?", "o"];

export const seconds = (us) => `${(us / 1e6).toFixed(3)} s`;

// The place of a member on the board, by its number.
const placeOf = (recording, digit) => recording.outcome.trace.keyframes[0].nodes.findIndex((frame) => frame.name === `n${digit}`);

export class Traces {
  // `does` is what the page does: go to a moment, play, say why something cannot be done, and so on.
  constructor(app, does) {
    Object.assign(this, { app, does, shown: null });
    byId("open-trace").addEventListener("click", () => this.choose());
    byId("trace-file").addEventListener("change", () => {
      const [file] = byId("trace-file").files;
      // The same file can be chosen again.
      if (file) this.open(file).finally(() => (byId("trace-file").value = ""));
    });
    byId("trace-close").addEventListener("click", () => does.leave().catch(does.fail));
    byId("trace-broke").addEventListener("click", () => {
      does.setPlaying(false);
      does.seek(this.shown.outcome.all_broken[0].event + 1);
    });
    byId("story-members").addEventListener("change", () => does.seek(app.k));
    this.takeDrops();
  }

  choose() {
    byId("trace-file").click();
  }

  takeDrops() {
    const withFile = (event) => event.dataTransfer?.types.includes("Files");
    const over = (yes) => {
      document.body.dataset.drop = yes ? "yes" : "no";
    };
    addEventListener("dragover", (event) => {
      if (!withFile(event)) return;
      event.preventDefault();
      over(true);
    });
    addEventListener("dragleave", (event) => event.relatedTarget === null && over(false));
    addEventListener("drop", (event) => {
      over(false);
      if (!withFile(event)) return;
      event.preventDefault();
      this.open(event.dataTransfer.files[0]);
    });
  }

  // A file of the visitor's. It does not leave the browser.
  async open(file) {
    try {
      checkSize(file.name, file.size);
      const trace = parse(file.name, await file.text());
      const wanted = new URLSearchParams(location.hash.slice(1));
      const k = wanted.get("trace") === trace.hash ? Number(wanted.get("k")) : 0;
      this.show(record(file.name, trace), k, true);
    } catch (error) {
      this.does.fail(error);
    }
  }

  // What an address with a trace in it has: the one that is shown, or the one that the lab was opened with.
  async recall(parts) {
    const hash = parts.get("trace");
    if (hash === null) return false;
    const k = Number(parts.get("k") ?? 0);
    if (this.shown && this.shown.about.hash === hash) {
      this.show(this.shown, k, false);
      return true;
    }
    const response = await fetch("/trace");
    const name = response.headers.get("x-trace-name") ?? "";
    const trace = response.status === 200 ? parse(name, await response.text()) : null;
    if (!trace || (hash && trace.hash !== hash)) {
      throw new Error(`This address is of the trace ${hash}, which is in a file: open that file here, or start quorate lab --trace FILE.`);
    }
    this.show(record(name, trace), k, hash ? false : "replace");
    return true;
  }

  address(k) {
    return `#trace=${this.shown.about.hash}&k=${k}`;
  }

  show(recording, k, push) {
    const { app, does } = this;
    const another = this.shown !== recording;
    this.shown = recording;
    document.body.dataset.shows = "trace";
    // A run that is being made comes too late.
    app.making += 1;
    if (another) {
      byId("speed").value = SPEED;
      this.tell(recording);
      this.rules(recording);
    }
    byId("fault").hidden = true;
    byId("time").max = recording.length;
    Object.assign(app, { recording, run: null, about: null });
    app.guide.leave();
    app.stage.show(recording, recording.outcome.trace.nodes);
    does.select(null);
    does.hint(LOOK, false);
    does.drawMarks();
    does.setPlaying(false);
    does.seek(Math.trunc(k) || 0);
    if (push) does.remember(push === "replace");
    if (push === true) byId("play").focus({ preventScroll: true });
  }

  // Something else is shown.
  left() {
    if (!this.shown) return;
    this.shown = null;
    this.does.hint(this.does.usual, false);
    delete document.body.dataset.shows;
  }

  // What the recording is of.
  tell({ about: { name, plan, mutant, hash }, outcome, endUs }) {
    const { broken, trace } = outcome;
    const end = broken ? `Broken: ${broken.rule}, after ${seconds(broken.at_us)}.` : "Clean: no rule broke.";
    byId("trace-title").textContent = `A recording: ${name}`;
    byId("trace-text").textContent = `Seed ${plan.seed} of the simulator, ${trace.nodes} members, the store's own code, ${seconds(endUs)}, ${trace.events.length} events.${mutant ? ` The code was broken on purpose: ${mutant}.` : ""}`;
    byId("trace-end").textContent = end;
    byId("trace-end").className = broken ? "bad" : "good";
    byId("trace-broke").hidden = !broken;
    byId("digest").textContent = `hash ${hash}, of quorate-sim`;
  }

  rules({ outcome: { broken } }) {
    const heading = make("li", { className: "kind", textContent: broken ? "the rule that ended the run; all others held up to then" : "all of the simulator's" });
    const item = make("li", { className: "held" }, make("div", {}, broken ? broken.rule : "clean: no rule broke", make("small")));
    if (broken) Object.assign(item.dataset, { rule: broken.rule, kind: "promise" });
    byId("rules").replaceChildren(heading, item);
  }

  // The lines of the story, as `Story` shows them.
  lines(recording) {
    const members = byId("story-members").checked;
    const lines = members ? recording.linesOfMembers : recording.lines;
    const before = (k) => {
      const nth = lines.findIndex((place) => place >= k);
      return nth < 0 ? lines.length : nth;
    };
    const tell = ({ text, sort }) => {
      // Values are filled up with dots.
      const short = text.replace(/\.{4,}/g, "…");
      const words = short.length > LETTERS ? `${short.slice(0, LETTERS)}…` : short;
      return { text: words, title: text, act: sort === "act", bad: text.startsWith("BROKEN") };
    };
    return { name: members ? "members" : "lines", count: lines.length, place: (nth) => lines[nth], before, last: (k) => lines[before(k) - 1] ?? -1, time: seconds, breaks: [], tell };
  }

  // What a key does while a recording is shown: whether it is taken care of here.
  key(key) {
    if (!this.shown || KEYS.includes(key)) return false;
    if (/^[0-9]$/.test(key)) {
      const node = placeOf(this.shown, key);
      if (node >= 0) this.does.choose(node);
      return true;
    }
    if (/^[a-z]$/.test(key)) this.refuse();
    return true;
  }

  refuse() {
    this.does.hint("This is a recording: what happened has happened. Close it for a run of your own.");
  }
}
