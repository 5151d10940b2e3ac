// What stands beside the board: rules, the chosen process, the story, what can be broken.

import { markdown, nodeName } from "./words.js";

export const make = (tag, props = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), props);
  element.append(...children);
  return element;
};

// What a protocol says of itself, without the marks of code.
const plain = (text) => text.replaceAll("`", "");

export const byId = (id) => document.getElementById(id);

// What is rebuilt under somebody's hands: the focus stays on what has the same name, or goes to this instead.
export function keepingFocus(box, rebuild, instead) {
  const name = box.contains(document.activeElement) ? document.activeElement.name : null;
  rebuild();
  if (!name) return;
  const same = box.querySelector(`[name="${CSS.escape(name)}"]`) ?? (instead && box.querySelector(instead));
  same?.focus({ preventScroll: true });
}

// What is promised first, then how the protocol sees to it.
const KINDS = [
  ["promise", "promises"],
  ["mechanism", "the mechanism that keeps them"],
];

export function rules(list, about, watched) {
  const items = KINDS.map(([kind, words]) => {
    const rules = about.rules.filter((rule) => rule.kind === kind);
    const heading = make("li", { className: "kind", textContent: words });
    return rules.length ? [heading, ...rules.map(ruleItem)] : [];
  });
  list.replaceChildren(...items.flat());
}

function ruleItem(rule) {
  const says = make("details", {}, make("summary", { textContent: rule.name, title: plain(rule.says) }), make("p", { textContent: plain(rule.says) }));
  const item = make("li", {}, make("div", {}, says, make("small")));
  item.dataset.rule = rule.name;
  item.dataset.kind = rule.kind;
  return item;
}

// Names the state of each rule after k events; gives back the first promise that broke, and the first of the others.
export function judge(list, recording, k) {
  const firsts = { promise: null, mechanism: null };
  for (const item of list.querySelectorAll("[data-rule]")) {
    const broken = recording.brokenAt(item.dataset.rule, k);
    item.className = broken ? "broke" : "held";
    item.setAttribute("aria-label", `${item.dataset.rule}: ${broken ? "broken" : "holds"}`);
    const small = item.querySelector("small");
    const text = broken ? broken.what : "";
    if (small.textContent !== text) small.textContent = text;
    const { kind } = item.dataset;
    if (broken && (!firsts[kind] || broken.event < firsts[kind].event)) firsts[kind] = broken;
  }
  return { harm: firsts.promise, mistake: firsts.mechanism ?? recording.brokenAt("assertion", k) ?? null };
}

// What is wrong, in a line: the harm, and the rule that it began with.
export function verdict({ harm, mistake }) {
  const say = ({ rule, what }) => `${rule}: ${what}`;
  if (!harm) return { kind: "mechanism", text: mistake ? say(mistake) : "" };
  const began = mistake && mistake.event < harm.event ? ` It began with ${mistake.rule}.` : "";
  return { kind: "promise", text: `${say(harm)}.${began}` };
}

export function selected(box, node, frame) {
  box.hidden = node === null || !frame;
  if (box.hidden) return;
  const { role, term, decided, log, fields } = frame.view;
  const rows = [["state", frame.status + (frame.lies ? ", traitor" : frame.traitor ? ", was a traitor" : "")], ["role", role], ["", term], ["decided", decided], ...fields.map((field) => [field.name, field.value])];
  const list = make("dl");
  for (const [name, value] of rows) {
    if (value) list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  }
  const cells = make("div", { className: "cells" });
  cells.append(...log.slice(-40).map((cell) => make("span", { className: cell.state, textContent: cell.text, title: `${cell.at}: ${cell.state}` })));
  box.replaceChildren(make("h2", { textContent: frame.fullName ?? nodeName(node) }), list, cells);
}

export function variants(box, about, chosen, change) {
  const items = about.variants.map((variant) => {
    const input = make("input", { type: "checkbox", checked: chosen.includes(variant.name), name: variant.name });
    input.addEventListener("change", () => change(variant.name, input.checked));
    return make("label", {}, input, make("span", {}, variant.name, make("small", { textContent: plain(variant.says) })));
  });
  byId("break-title").textContent = `Break the protocol: ${items.length} ${items.length === 1 ? "mistake" : "mistakes"}`;
  box.replaceChildren(...(items.length ? items : [make("p", { textContent: "No mistake is known for this one." })]));
  cutBetween(box);
}

// A list that is too long for its box is cut off between two of its items.
export function cutBetween(box) {
  box.style.maxHeight = "";
  const { offsetTop: top, clientTop: border, clientHeight: high } = box;
  if (box.scrollHeight <= high) return;
  const ends = [...box.children].map((item) => item.offsetTop + item.offsetHeight - top + border);
  const last = ends.filter((end) => end <= high + border).at(-1);
  if (last) box.style.maxHeight = `${last}px`;
}

const WEATHER = [
  ["delay_us_min", "shortest way, us"], ["delay_us_max", "longest way, us"], ["slow_per_mille", "slow, of 1000"],
  ["drop_per_mille", "lost, of 1000"], ["duplicate_per_mille", "doubled, of 1000"],
];

export function knobs(box, about, setup, weather, changed) {
  const number = (name, says, value, min, max, set) => {
    const input = make("input", { type: "number", value, min, max, step: 1, required: true, name });
    input.addEventListener("change", () => {
      if (input.reportValidity()) changed((knobs, weather) => set(Number(input.value), knobs, weather));
    });
    return make("label", {}, make("span", {}, name, make("small", { textContent: plain(says) })), input);
  };
  const own = about.knobs.map((knob) =>
    number(knob.name, knob.says, setup.knobs[knob.name] ?? knob.default, knob.min, knob.max, (value, knobs) => {
      knobs[knob.name] = value;
    }),
  );
  const network = WEATHER.map(([name, says]) =>
    number(name, says, weather[name], 0, 1000000, (value, _, changed) => {
      changed[name] = value;
    }),
  );
  box.replaceChildren(...own, ...network);
}

export function lessons(list, about, open) {
  list.replaceChildren(
    ...about.lessons.map((lesson, nth) => {
      const button = make("button", { type: "button" }, lesson.name, make("small", { textContent: plain(lesson.says) }));
      button.addEventListener("click", () => open(nth));
      return make("li", {}, button);
    }),
  );
}

export function essay(article, about) {
  article.innerHTML = `<p><strong>${about.title}</strong></p>${markdown(about.essay)}`;
  article.append(make("p", {}, make("em", { textContent: about.paper })));
}

export function table(box, head, rows) {
  const line = (cells, tag) => make("tr", {}, ...cells.map((cell) => make(tag, { textContent: cell })));
  box.replaceChildren(make("table", {}, make("thead", {}, line(head, "th")), make("tbody", {}, ...rows.map((cells) => line(cells, "td")))));
}
