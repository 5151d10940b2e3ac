// The lab's page: a run, a moment of it, and what a visitor does to it.
//
// A run is its description (protocol, setup, script); the server makes it and gives back a recording of every
// event. Whatever is done to it is one more act in its script, and the run is made anew: what was before is the
// same, since nothing but the description has a say.

import { ask, get, pack, unpack } from "./api.js";
import { compareForm } from "./compare.js";
import * as panels from "./panels.js";
import { byId } from "./panels.js";
import { Recording } from "./recording.js";
import { Stage } from "./stage.js";
import { Story, linesOf } from "./story.js";
import { drawMarks } from "./timeline.js";
import { Tour } from "./tour.js";
import { LOOK, Traces, seconds } from "./traces.js";
import { clock, nodeName } from "./words.js";

// A run goes on for so long before it is asked to go on, in simulated microseconds.
const STRETCH_US = 3_000_000;
const EVENTS_MAX = 100_000;
const STRETCHES_US_MAX = 120_000_000;
// Nothing is on its way: the time to the next event takes so many milliseconds at most.
const QUIET_MS = 350;
// A message that takes longer than this from now on is not waited for.
const FAR_US = 40_000;
const SEEDS_MAX = 10_000;
const PANELS_MS = 120;
// How far the address may be behind a run that plays, and a moment that is dragged.
const SAVE_PLAYING_MS = 1000;
const SAVE_SCRUBBED_MS = 300;
const HINT = "Drag across links to cut them, or from one process to another. Click a process to choose it.";

const app = {
  protocols: [], about: null, run: null, setup: null, recording: null, stage: null,
  k: 0, us: 0, playing: false, making: 0, selected: null, value: 1, lesson: null, ticked: [], tour: [], step: -1, shownK: -1, shownAt: 0, searching: 0,
  saving: 0, savedAt: 0, packed: null, frameMs: 0,
};

const say = (text) => {
  byId("live").textContent = text;
};

// What could not be done, until something else is; the rules have a place of their own.
function fail(error) {
  byId("fault").hidden = false;
  byId("fault").textContent = error.message;
}

const calm = () => ({ delay_us_min: 1000, delay_us_max: 2000, slow_per_mille: 0, drop_per_mille: 0, duplicate_per_mille: 0, in_order: false, map: "room" });

const copy = (value) => JSON.parse(JSON.stringify(value));

// ---- runs ----

// Makes a run and shows it. Its beginning is as before if it continues another.
async function load(run, { k = 0, us = null, play = false, push = true, quiet = false } = {}) {
  const mine = ++app.making;
  const outcome = await ask("run", run);
  if (mine !== app.making) return false;
  byId("fault").hidden = true;
  show(run, outcome.setup, recordingOf(run, outcome));
  app.k = Math.min(Math.max(Math.trunc(k) || 0, 0), app.recording.length);
  app.us = us ?? app.recording.timeOf(app.k);
  setPlaying(play);
  if (push) await remember(push === "replace");
  else saved(true);
  if (!quiet) refresh();
  return true;
}

const aboutOf = (name) => app.protocols.find((known) => known.name === name);
const recordingOf = (run, outcome) => new Recording(outcome, aboutOf(run.protocol).rules);

function show(run, setup, recording) {
  const about = aboutOf(run.protocol);
  const another = about !== app.about;
  Object.assign(app, { about, run, setup, recording, shownK: -1 });
  saved(false);
  app.traces.left();
  app.stage.show(recording, recording.outcome.trace.nodes);
  byId("digest").textContent = `digest ${recording.outcome.digest}`;
  byId("time").max = recording.length;
  byId("n").value = setup.n;
  byId("n").min = about.nodes.min;
  byId("n").max = about.nodes.max;
  byId("protocol").value = about.name;
  byId("seed").value = setup.seed;
  if (another) {
    app.selected = null;
    app.ticked = [];
    panels.rules(byId("rules"), about);
    panels.lessons(byId("lessons"), about, openLesson);
    panels.essay(byId("essay"), about);
    byId("flp-box").hidden = !about.attackable;
    tools();
  }
  panels.keepingFocus(byId("variants"), () => panels.variants(byId("variants"), about, setup.variants, toggleVariant));
  panels.keepingFocus(byId("knobs"), () =>
    panels.knobs(byId("knobs"), about, setup, run.script.weather, (change) => {
      const draft = copy({ ...run, setup });
      change(draft.setup.knobs, draft.script.weather);
      app.guide.leave();
      load(draft, { k: 0, play: app.playing }).catch(fail);
    }),
  );
  byId("to-break").hidden = !recording.harm;
  selectNode(app.selected);
  showMarks();
}

function showMarks() {
  drawMarks(byId("marks"), app.recording);
}

// ---- the address ----

// Whether the address has what is shown.
function saved(yes) {
  document.body.dataset.saved = yes ? "yes" : "no";
}

// The run, or on whom the adversary is set; the moment; and what is told beside it.
async function address() {
  if (app.traces.shown) return app.traces.address(app.k);
  const { run } = app;
  if (run && app.packed?.run !== run) app.packed = { run, text: await pack(run) };
  const parts = [run ? `run=${app.packed.text}` : `flp=${app.about.name}`, `k=${app.k}`];
  if (app.step >= 0) parts.push(`step=${app.step + 1}`);
  if (app.lesson !== null) parts.push(`lesson=${app.lesson}`);
  return `#${parts.join("&")}`;
}

async function remember(replace) {
  if (!app.recording) return;
  const mine = ++app.saving;
  clearTimeout(app.remembering);
  app.savedAt = performance.now();
  const hash = await address();
  // What is shown has changed meanwhile: the address of that is on its way.
  if (mine !== app.saving) return;
  if (location.hash !== hash) history[replace ? "replaceState" : "pushState"](null, "", hash);
  saved(true);
}

const unreadable = () => {
  throw new Error("This address has no run in it that can be read.");
};

async function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const attacked = parts.get("flp");
  if (await app.traces.recall(parts)) return true;
  if (!parts.get("run") && !attacked) return false;
  const k = Number(parts.get("k") ?? 0);
  if (attacked) {
    if (!app.protocols.some((about) => about.name === attacked && about.attackable)) unreadable();
    await load(fresh(attacked, { n: 0, seed: 1, variants: [], knobs: {}, watched: [] }), { push: false });
    await attack({ k, push: false });
  } else {
    const run = await unpack(parts.get("run")).catch(unreadable);
    if (!(await load(run, { k, push: false }))) return false;
  }
  const lesson = app.about.lessons.find(({ name }) => name === parts.get("lesson"));
  if (lesson) tellLesson(lesson);
  else if (!attacked) tellBroken();
  app.guide.tell(Number(parts.get("step") ?? 0) - 1);
  return true;
}

// An undisturbed run. What the first lesson's client asks for at the very beginning is asked for here, too:
// some protocols do nothing by themselves.
function fresh(name, setup) {
  const about = aboutOf(name);
  const first = about.runs[0]?.script.acts ?? [];
  const acts = first.filter((act) => act.what.client && (act.when.us ?? Infinity) <= 1000);
  const script = { weather: calm(), acts: setup.n === 0 ? acts : [], end: { events: EVENTS_MAX, at_us: STRETCH_US }, calm_from_us: null };
  return { protocol: name, setup, script };
}

// From where everybody has begun.
async function start(run, options = {}) {
  await load(run, options);
  if (app.recording && app.k === 0) seek(count());
  const [first] = app.about.operations;
  if (app.recording.length < 10 && first) hint(`Nothing happens here until somebody asks for something: press ${first.name}.`);
}

function hint(text, asked = true) {
  byId("hint").textContent = text;
  byId("hint").classList.toggle("asked", asked);
}

function setupNow() {
  const n = Number(byId("n").value) || 0;
  return { n, seed: Number(byId("seed").value) || 0, variants: app.setup.variants, knobs: app.setup.knobs, watched: [] };
}

const bare = () => ({ n: 0, seed: Number(byId("seed").value) || 0, variants: [], knobs: {}, watched: [] });

function lessonText(title, text) {
  app.lesson = null;
  byId("lesson").hidden = !text;
  byId("lesson").querySelector("h2").textContent = title;
  byId("lesson").querySelector("p").textContent = text.replaceAll("`", "");
}

// What a run that ends with a broken rule was sent for.
function tellBroken() {
  const { broken } = app.recording.outcome;
  const sought = broken && app.setup.watched.includes(broken.rule);
  lessonText(sought ? "Counterexample" : "", sought ? `${app.setup.n} processes, seed ${app.setup.seed}. ${broken.rule}: ${broken.what}` : "");
}

function tellLesson(lesson) {
  lessonText(lesson.name, lesson.says);
  app.lesson = lesson.name;
}

function openLesson(nth) {
  app.guide.leave();
  hint(HINT, false);
  tellLesson(app.about.lessons[nth]);
  const run = copy(app.about.runs[nth]);
  run.setup.variants = [...new Set([...run.setup.variants, ...app.ticked])];
  load(run, { play: true }).catch(fail);
  byId("board").scrollIntoView({ block: "nearest" });
}

function toggleVariant(name, on) {
  if (!app.run) return;
  app.guide.ticked(name);
  const run = copy(app.run);
  const others = app.about.name === "raft" ? [] : app.setup.variants.filter((other) => other !== name);
  // What a visitor has broken by hand stays broken in the lessons, too.
  app.ticked = on ? [...app.ticked.filter((other) => others.includes(other)), name] : app.ticked.filter((other) => other !== name);
  run.setup = { ...run.setup, variants: on ? [...others, name] : others };
  load(run, { k: 0, play: app.playing }).catch(fail);
}

// ---- what is done to a run ----

// One after the other: each is done to what the one before has led to.
let acting = Promise.resolve();
function act(whats) {
  acting = acting.catch(() => {}).then(() => actNow(whats));
  return acting;
}

// What was done up to now stays; what the script would do later is left out; and these are done now.
async function actNow(whats) {
  if (app.traces.shown) return app.traces.refuse();
  if (!app.run) {
    say("This is the adversary's schedule: press Start for a run of your own");
    return;
  }
  const lastUs = app.recording.timeOf(app.k);
  const nowUs = Math.floor(app.us);
  const when = nowUs > lastUs ? { us: nowUs } : { event: app.k };
  const run = copy(app.run);
  run.script.acts = done(run.script.acts, lastUs).concat(whats.map((what) => ({ when, what })));
  run.script.calm_from_us = null;
  run.script.end = { events: EVENTS_MAX, at_us: nowUs + STRETCH_US };
  const { k, us, playing } = app;
  app.guide.leave();
  await load(run, { k, us, play: playing });
  if (!playing) seek(Math.min(k + whats.length, app.recording.length));
}

const done = (acts, lastUs) => acts.filter(({ when }) => (when.us !== undefined ? when.us <= lastUs : when.event < app.k));

const isCut = (from, to) => app.recording.at(app.k).cut.has(`${from}>${to}`);

function cut(pairs) {
  const both = pairs.flatMap(([a, b]) => [[a, b], [b, a]]);
  const mend = both.every(([from, to]) => isCut(from, to));
  act(both.map(([from, to]) => (mend ? { mend: { from, to } } : { cut: { from, to } }))).catch(fail);
}

function link(from, to, oneWay) {
  const pairs = oneWay ? [[from, to]] : [[from, to], [to, from]];
  const mend = pairs.every(([a, b]) => isCut(a, b));
  act(pairs.map(([a, b]) => (mend ? { mend: { from: a, to: b } } : { cut: { from: a, to: b } }))).catch(fail);
}

const count = () => app.recording.outcome.trace.nodes;
const frameOf = (node) => app.recording.at(app.k).nodes[node];

function others(node) {
  return Array.from({ length: count() }, (_, other) => [node, other]).filter(([, other]) => other !== node);
}

// Whom a client asks if nobody is chosen: a leader, if one is seen.
function target() {
  if (app.selected !== null) return app.selected;
  const nodes = app.recording.at(app.k).nodes;
  const leader = nodes.findIndex((frame) => frame.status === "up" && /leader|primary|leading/i.test(frame.view.role));
  return leader < 0 ? 0 : leader;
}

function chosen(then) {
  if (app.selected === null) {
    say("Choose a process first");
    hint("Choose a process first: click it, or press its number.");
    return;
  }
  then(app.selected);
}

const notMadeForTraitors = () => app.about.bears.traitors === "none";

const deeds = {
  crash: () => chosen((node) => act([frameOf(node).status === "down" ? { restart: node } : { crash: node }]).catch(fail)),
  pause: () => chosen((node) => act([frameOf(node).status === "paused" ? { resume: node } : { pause: node }]).catch(fail)),
  cutOff: () => chosen((node) => cut(others(node))),
  traitor: () => chosen((node) => {
    const { lies } = frameOf(node);
    if (!lies && notMadeForTraitors()) hint(`${app.about.title}: not made for traitors, it takes every word for true. Protocols that bear f of them need 3f + 1 processes, or signatures. Watch what a lie does: the rules are asked of the loyal.`);
    act([{ traitor: { node, conduct: lies ? "loyal" : { lies: { per_mille: 600 } } } }]).catch(fail);
  }),
  expire: () => chosen((node) => act([{ expire: node }]).catch(fail)),
  blank: () => chosen((node) => act([{ restart_blank: node }]).catch(fail)),
  heal: () => act(["heal"]).catch(fail),
  write: () => request(app.about.operations[0]),
};

// Another value each time; where a process is meant, the one that is chosen or leads.
function argument(name) {
  if (name === "place") return target();
  return name === "attack" || name === "bit" ? app.value % 2 : app.value;
}

function request(operation, args) {
  if (!operation) return;
  const given = args ?? operation.args.map(argument);
  app.value += 1;
  act([{ client: { node: target(), op: operation.name, args: given } }]).catch(fail);
}

// The buttons below the board: what concerns all, and what is done to the process that is chosen.
function tools() {
  const button = (name, text, title, deed) => {
    const element = panels.make("button", { type: "button", name, textContent: text, title });
    element.addEventListener("click", deed);
    return element;
  };
  const group = (...children) => panels.make("div", { className: "group" }, ...children);
  const operations = app.about.operations.map((operation) =>
    button(`ask ${operation.name}`, operation.name, `${operation.says} ${operation.args.length ? `(${operation.args.join(", ")})` : ""}`, () => request(operation)),
  );
  const chosen = group(
    panels.make("span", { id: "acts-of" }),
    button("crash", "Crash / restart", "What it had not written is gone (c)", deeds.crash),
    button("pause", "Pause / go on", "It stands still and notices nothing (p)", deeds.pause),
    button("cut", "Cut off / mend", "All its links (x)", deeds.cutOff),
    button("expire", "Timer", "Its next timer runs out now (e)", deeds.expire),
    button("traitor", "Traitor / loyal", notMadeForTraitors() ? "It lies from now on; this protocol is not made for traitors (t)" : "It lies from now on (t)", deeds.traitor),
  );
  chosen.setAttribute("role", "group");
  chosen.setAttribute("aria-labelledby", "acts-of");
  for (const deed of chosen.querySelectorAll("button")) deed.setAttribute("aria-describedby", "acts-of");
  byId("acts").replaceChildren(group(...operations, button("heal", "Heal", "All links (h)", deeds.heal)), chosen);
}

// Who is chosen, on the board and beside the buttons that need somebody.
function selectNode(node) {
  app.selected = node;
  app.stage.select(node);
  const of = byId("acts-of");
  if (!of) return;
  of.textContent = node === null ? "Choose a process:" : `To ${nodeName(node)}:`;
  of.classList.toggle("nobody", node === null);
}

function fork() {
  if (!app.run) return;
  const run = copy(app.run);
  run.script.acts = done(run.script.acts, app.recording.timeOf(app.k));
  run.script.calm_from_us = null;
  run.script.end = { events: EVENTS_MAX, at_us: Math.floor(app.us) + STRETCH_US };
  const { k, us } = app;
  app.guide.leave();
  lessonText("", "");
  load(run, { k, us }).then(() => say(`Forked at event ${k}`)).catch(fail);
}

// ---- time ----

function setPlaying(playing) {
  app.playing = playing;
  if (playing) saved(false);
  byId("play").textContent = playing ? "Stop" : "Play";
}

function seek(k) {
  app.k = Math.min(Math.max(k, 0), app.recording.length);
  app.us = app.recording.timeOf(app.k);
  refresh();
  saved(false);
  clearTimeout(app.remembering);
  app.remembering = setTimeout(() => remember(true), SAVE_SCRUBBED_MS);
}

function step(by) {
  setPlaying(false);
  seek(app.k + by);
}

function toggle() {
  if (!app.playing && app.k >= app.recording.length && app.recording.outcome.ended !== "limit") seek(0);
  setPlaying(!app.playing);
  if (!app.playing) remember(true);
}

// All of it again.
function replay() {
  seek(0);
  setPlaying(true);
}

function advance(ms) {
  const { recording } = app;
  const perMs = 1000 / Number(byId("speed").value);
  const next = recording.events[app.k];
  let us = app.us + ms * perMs;
  if (next) {
    const near = [...recording.at(app.k).flying].some((id) => (recording.messages[id].end?.at_us ?? Infinity) - app.us < FAR_US);
    if (!near) us = Math.max(us, app.us + ((next.at_us - app.us) * ms) / QUIET_MS);
  } else if (app.us >= recording.endUs) {
    return end();
  }
  app.us = us;
  app.k = Math.max(app.k, recording.countAt(us));
  if (recording.endUs - us < STRETCH_US / 4) extend();
}

function end() {
  if (!extend() && !app.extending) {
    setPlaying(false);
    remember(true);
  }
}

// A run that nothing has ended goes on, if it is one that was made here; a lesson is over when it is over.
function extend() {
  const { recording, run } = app;
  const over = recording.outcome.ended !== "limit" || recording.length >= EVENTS_MAX || run?.script.end.events !== EVENTS_MAX;
  if (!run || app.extending || over || run.script.end.at_us > STRETCHES_US_MAX) return false;
  app.extending = true;
  const longer = copy(run);
  longer.script.end = { events: EVENTS_MAX, at_us: run.script.end.at_us + STRETCH_US };
  const mine = app.making;
  ask("run", longer)
    .then((outcome) => {
      if (mine !== app.making || app.run !== run) return;
      show(longer, outcome.setup, recordingOf(longer, outcome));
    })
    .catch(fail)
    .finally(() => {
      app.extending = false;
    });
  return true;
}

// ---- what is shown ----

function refresh() {
  app.stage.dirty = true;
  app.shownK = -1;
}

function drawPanels(now) {
  if (app.shownK === app.k || (app.playing && now - app.shownAt < PANELS_MS)) return;
  app.shownK = app.k;
  app.shownAt = now;
  const { recording, k } = app;
  byId("time").value = k;
  byId("time").setAttribute("aria-valuetext", `event ${k} of ${recording.length}, ${clock(app.us)}`);
  const { text, kind } = panels.verdict(panels.judge(byId("rules"), recording, k));
  byId("verdict").hidden = !text;
  if (text) {
    if (byId("verdict").textContent !== text) say(`A rule is broken. ${text}`);
    byId("verdict").textContent = text;
    byId("verdict").className = kind;
  }
  panels.selected(byId("selected"), app.selected, app.selected === null ? null : recording.at(k).nodes[app.selected]);
  if (app.traces.shown) return app.story.show(app.traces.lines(recording), recording, k);
  const left = recording.length - recording.told.length;
  byId("left-out").textContent = left === 0 ? "" : `(${left} of ${recording.length}: pings and the like)`;
  app.story.show(linesOf(recording, byId("idle").checked), recording, k);
}

function go(to) {
  setPlaying(false);
  seek(to);
}

let before = 0;
function frame(now) {
  requestAnimationFrame(frame);
  const began = performance.now();
  const ms = Math.min(now - before, 100);
  before = now;
  if (app.recording) {
    if (app.playing) {
      advance(ms);
      app.stage.dirty = true;
    }
    if (app.stage.dirty) {
      app.stage.draw(app.recording.at(app.k), app.us, app.recording);
      byId("clock").textContent = `${app.traces.shown ? seconds(app.us) : clock(app.us)} · event ${app.k}`;
    }
    drawPanels(now);
    if (app.playing && began - app.savedAt > SAVE_PLAYING_MS) remember(true);
  }
  app.frameMs = performance.now() - began;
}

function choose(node) {
  if (node >= count()) return;
  hint(app.traces.shown ? LOOK : HINT, false);
  selectNode(app.selected === node ? null : node);
  refresh();
}

// ---- search ----

// Events before the one that breaks the rule, from which a counterexample is shown.
const LEAD_IN = 40;

async function search() {
  setPlaying(false);
  const dialog = byId("progress");
  const { protocol } = app.run ?? { protocol: app.about.name };
  const setup = await searched(protocol);
  const mine = (app.searching += 1);
  const stopped = () => mine !== app.searching;
  dialog.querySelector("p").textContent = "The first seeds";
  dialog.showModal();
  let search = { setup: { ...setup, seed: 0 }, seeds: SEEDS_MAX };
  try {
    while (!search.over) {
      search = await ask("search", { protocol, search });
      if (stopped()) return;
      const { report, beyond } = search;
      if (report.found) return await found(report.found, stopped);
      const far = beyond ? `Seed ${beyond.seed} breaks ${beyond.mechanism}. What comes of it? ${beyond.seeds} seeds more` : `${report.seeds} seeds, and no rule broke yet`;
      dialog.querySelector("p").textContent = far;
      dialog.querySelector("progress").value = (beyond ?? report).seeds / SEEDS_MAX;
    }
    const { seeds } = search.report;
    const why = setup.variants.length ? "" : " Tick a mistake under “Break the protocol”, and search again.";
    lessonText("No counterexample", `No rule broke in ${seeds} seeds.${why}`);
  } finally {
    if (!stopped()) dialog.close();
  }
}

// As it is set up now; a mistake that shows only in another setup has that one.
async function searched(protocol) {
  const { variants, knobs, n } = app.setup;
  if (variants.length !== 1) return { ...bare(), n, knobs, variants };
  return ask("variant", { protocol, variant: variants[0] });
}

async function found(first, stopped) {
  const { rule, what } = first.broken;
  byId("progress").querySelector("p").textContent = `Seed ${first.run.setup.seed} breaks ${rule}; cutting it down`;
  const smallest = await ask("shrink", first);
  if (stopped()) return;
  byId("progress").close();
  const { beyond } = first;
  const alone = beyond?.mechanism === rule ? ` That is of the mechanism: no promise broke in ${beyond.seeds} seeds.` : "";
  const words = `${smallest.run.setup.n} processes. Found with seed ${first.run.setup.seed} after ${first.events} events; cut down to ${smallest.events} with seed ${smallest.run.setup.seed}. ${smallest.broken.rule}: ${smallest.broken.what ?? what}. You see the last of them.`;
  app.guide.leave();
  lessonText("Counterexample", words + alone);
  await load(smallest.run, { k: Math.max(smallest.events - LEAD_IN, 0), play: true });
  byId("board").scrollIntoView({ block: "nearest" });
}

function adversaryWords({ ending, certificate, verified }) {
  const stages = certificate.stages.length;
  if (ending.blocks_after_crash !== undefined) return `Without ${nodeName(ending.blocks_after_crash)} the others never decide: one crash, and this protocol blocks. It does not do what the theorem would keep it from.`;
  if (ending === "not_bivalent") return "The first configuration was not found to be bivalent.";
  if (ending.exhausted) return `The search was exhausted in stage ${ending.exhausted.stage}, after ${ending.exhausted.looked_at} configurations. That says nothing about the protocol.`;
  return `${stages} stages, ${verified.steps} steps: the processes took their turns, in each the oldest message to one of them was delivered, nobody crashed, and nothing is decided; both decisions are still possible. `
    + `An independent check has replayed the schedule and its witnesses (digest ${verified.digest}). It is a finite prefix of a run that never decides, never a proof that there is one.`;
}

async function attack({ k = 0, push = true } = {}) {
  const box = byId("flp");
  box.textContent = "The adversary looks for schedules…";
  const found = await ask("flp", { protocol: app.about.name, stages: 1000 });
  box.textContent = adversaryWords(found);
  setPlaying(false);
  const outcome = { trace: found.trace, digest: "of an adversary's schedule", all_broken: [], broken: null, ended: "quiet" };
  const recording = new Recording(outcome, app.about.rules);
  Object.assign(app, { recording, run: null, k: Math.min(Math.max(Math.trunc(k) || 0, 0), recording.length) });
  app.us = recording.timeOf(app.k);
  app.stage.show(app.recording, found.trace.nodes);
  byId("time").max = app.recording.length;
  byId("n").value = found.trace.nodes;
  byId("digest").textContent = found.verified ? `digest ${found.verified.digest}, of the adversary's schedule` : "";
  lessonText("The adversary", adversaryWords(found));
  byId("to-break").hidden = true;
  showMarks();
  refresh();
  // An address that is opened shows its moment, as that of a run does.
  setPlaying(push);
  if (push) await remember(false);
  else saved(true);
}

// ---- wiring ----

const KEYS = {
  " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-Infinity), End: () => step(Infinity),
  c: deeds.crash, p: deeds.pause, x: deeds.cutOff, t: deeds.traitor, e: deeds.expire, w: deeds.write, h: deeds.heal, f: fork,
  o: () => app.traces.choose(),
  b: () => (byId("variants").querySelector("input") ?? byId("search")).focus(),
  "?": () => byId("keys").showModal(),
};

function key(event) {
  const inField = event.target.closest("input, select, textarea, dialog, summary");
  const onButton = event.target.closest("button") && (event.key === " " || event.key === "Enter");
  if (inField || onButton || event.ctrlKey || event.metaKey || event.altKey) return;
  if (app.traces.key(event.key)) return event.preventDefault();
  if (event.shiftKey && event.key.startsWith("Arrow")) step(event.key === "ArrowLeft" ? -50 : 50);
  else if (/^[0-9]$/.test(event.key)) choose(Number(event.key));
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
}

function wire() {
  const on = (id, type, then) => byId(id).addEventListener(type, then);
  on("play", "click", toggle);
  on("idle", "change", refresh);
  on("back", "click", () => step(-1));
  on("forward", "click", () => step(1));
  on("fork", "click", fork);
  on("replay", "click", replay);
  on("to-break", "click", () => go(app.recording.harm.k));
  on("time", "input", () => {
    setPlaying(false);
    seek(Number(byId("time").value));
  });
  // Another run, by hand: nothing is told beside it.
  const another = (make) => {
    app.guide.leave();
    hint(HINT, false);
    lessonText("", "");
    Promise.resolve(make()).catch(fail);
  };
  on("protocol", "change", () => another(() => start(fresh(byId("protocol").value, bare()), { play: true })));
  on("start", "click", () => another(() => start(fresh(app.about.name, setupNow()), { play: true })));
  on("n", "change", () => byId("n").reportValidity() && another(() => start(fresh(app.about.name, setupNow()), { play: app.playing })));
  on("random", "click", () => another(async () => load(await ask("generate", { protocol: app.about.name, setup: setupNow() }), { play: true })));
  on("search", "click", () => search().catch(fail));
  // By hand: the address is the run's.
  for (const skip of document.querySelectorAll(".skip")) {
    skip.addEventListener("click", (event) => {
      event.preventDefault();
      document.querySelector(skip.hash).focus();
    });
  }
  on("help", "click", () => byId("keys").showModal());
  on("link", "click", async () => {
    await remember(true);
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    say("The link is in the address bar, and on the clipboard if the browser allows it");
  });
  byId("progress").querySelector("button").addEventListener("click", () => byId("progress").close("stopped"));
  // However it is closed while it goes on: by the button, by escape.
  byId("progress").addEventListener("cancel", () => {
    app.searching += 1;
  });
  byId("progress").addEventListener("close", () => {
    if (byId("progress").returnValue === "stopped") app.searching += 1;
    byId("progress").returnValue = "";
  });
  on("compare-box", "toggle", () => compareForm(app));
  on("flp-box", "toggle", () => byId("flp-box").open && another(attack));
  on("tax-box", "toggle", () => {
    const image = Object.assign(document.createElement("img"), { src: "/api/tax.svg", alt: "How long a write takes, by the place of the leader: simulated, and the round trip to the nearest quorum" });
    byId("tax").replaceChildren(image);
  });
  addEventListener("keydown", key);
  addEventListener("popstate", () => recall().catch(fail));
  const again = () => {
    if (!app.recording) return;
    showMarks();
    panels.cutBetween(byId("variants"));
    refresh();
  };
  addEventListener("resize", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
}

async function begin() {
  [app.protocols, app.tour] = await Promise.all([get("protocols"), get("tour")]);
  byId("protocol").replaceChildren(...app.protocols.map((about) => new Option(about.title, about.name)));
  const parts = { board: byId("board"), canvas: byId("canvas"), nodes: byId("nodes"), legend: byId("legend") };
  app.stage = new Stage(parts, { select: choose, cut, link });
  app.traces = new Traces(app, { usual: HINT, seek, setPlaying, drawMarks: showMarks, remember, select: selectNode, choose, hint, fail, leave: () => start(fresh("raft", bare())) });
  app.guide = new Tour(app, { say, lessonText, load, attack, fail, plain: (name) => fresh(name, bare()) });
  app.story = new Story(go);
  wire();
  let unread = null;
  const recalled = await recall().catch((error) => {
    unread = error;
    return false;
  });
  if (!recalled) {
    byId("protocol").value = "raft";
    await start(fresh("raft", bare()), { push: unread ? false : "replace" });
    if (unread) fail(unread);
  }
  document.body.dataset.ready = "yes";
  requestAnimationFrame(frame);
}

// For tests, and for whoever looks.
window.lab = Object.assign(app, { load, seek, visit: (nth) => app.guide.visit(nth) });
window.addEventListener("unhandledrejection", (event) => fail(event.reason));
begin().catch(fail);
