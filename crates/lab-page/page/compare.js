// One script on several protocols side by side.

import { ask } from "./api.js";
import { byId, make, table } from "./panels.js";
import { clock } from "./words.js";

// Somebody has to ask for something.
function withWrites(script) {
  if (script.acts.some((act) => act.what.client?.op === "write")) return script;
  const writes = Array.from({ length: 10 }, (_, nth) => ({ when: { us: 1_000_000 + 100_000 * nth }, what: { client: { node: 0, op: "write", args: [nth + 1] } } }));
  return { ...script, acts: [...script.acts, ...writes] };
}

const HEAD = ["protocol", "n", "messages", "writes to disk", "asked", "answered", "lost", "latency, median and longest", "messages to an answer", "broke"];

const cells = (row) => [
  row.protocol, row.n, row.messages, row.writes, row.asked, row.answered, row.lost ?? "",
  row.latency_us ? row.latency_us.map((us) => clock(us)).join(", ") : "", row.rounds ?? "", row.broken ? row.broken.rule : "",
];

export function compareForm(app) {
  const form = make("form");
  const able = app.protocols.filter((about) => about.operations.some((operation) => operation.name === "write"));
  for (const about of able) form.append(make("label", {}, make("input", { type: "checkbox", name: about.name, checked: true }), about.name), " ");
  const out = make("div");
  form.append(make("button", { className: "primary", textContent: "Run this script on all of them" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!app.run) return;
    const protocols = able.map((about) => about.name).filter((name) => form.elements[name].checked);
    ask("compare", { protocols, script: withWrites(app.run.script) })
      .then((rows) => table(out, HEAD, rows.map(cells)))
      .catch((error) => {
        out.textContent = error.message;
      });
  });
  byId("compare").replaceChildren(form, out);
}
