// Text: times, and the essays' Markdown, as far as they use it.

export const nodeName = (node) => `n${node}`;

export function clock(us) {
  return `${(us / 1000).toFixed(2)} ms`;
}

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

function inline(text) {
  const codes = [];
  let html = escape(text).replace(/`([^`]+)`/g, (_, code) => `\u0000${codes.push(code) - 1}\u0000`);
  html = html
    .replace(/\[([^\]]+)\]\((https?:[^)\s]+)\)/g, '<a href="$2" rel="noreferrer">$1</a>')
    .replace(/\[([^\]]+)\](\([^)]*\))?/g, "$1")
    .replace(/\*\*([^*]+)\*\*/g, "<strong>$1</strong>")
    .replace(/\*([^*]+)\*/g, "<em>$1</em>");
  return html.replace(/\u0000(\d+)\u0000/g, (_, nth) => `<code>${codes[Number(nth)]}</code>`);
}

const row = (line, cell) =>
  `<tr>${line.trim().replace(/^\||\|$/g, "").split("|").map((text) => `<${cell}>${inline(text.trim())}</${cell}>`).join("")}</tr>`;

function block(lines) {
  const first = lines[0];
  const heading = /^(#+) (.*)$/.exec(first);
  if (heading) {
    const level = Math.min(heading[1].length + 2, 6);
    const rest = lines.length > 1 ? block(lines.slice(1)) : "";
    return `<h${level}>${inline(heading[2])}</h${level}>${rest}`;
  }
  if (first.startsWith("|")) {
    const body = lines.slice(2).map((line) => row(line, "td")).join("");
    return `<table><thead>${row(first, "th")}</thead><tbody>${body}</tbody></table>`;
  }
  if (/^( {4}|\t)/.test(first)) return `<pre>${escape(lines.map((line) => line.replace(/^( {4}|\t)/, "")).join("\n"))}</pre>`;
  const bullet = /^(-|\d+\.) /;
  if (bullet.test(first)) {
    const items = [];
    for (const line of lines) {
      if (bullet.test(line)) items.push(line.replace(bullet, ""));
      else items[items.length - 1] += ` ${line.trim()}`;
    }
    const list = first.startsWith("-") ? "ul" : "ol";
    return `<${list}>${items.map((item) => `<li>${inline(item)}</li>`).join("")}</${list}>`;
  }
  return `<p>${inline(lines.map((line) => line.trim()).join(" "))}</p>`;
}

export function markdown(text) {
  const html = [];
  let lines = [];
  let fenced = null;
  const close = () => {
    if (lines.length) html.push(block(lines));
    lines = [];
  };
  for (const line of text.split("\n")) {
    if (line.startsWith("```")) {
      if (fenced) html.push(`<pre>${escape(fenced.join("\n"))}</pre>`);
      else close();
      fenced = fenced ? null : [];
    } else if (fenced) fenced.push(line);
    else if (line.trim() === "") close();
    else lines.push(line);
  }
  close();
  return html.join("\n");
}
