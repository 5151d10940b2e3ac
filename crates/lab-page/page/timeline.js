// The line of time: where something was done to the run, and where a rule broke.

// Half of the handle of the line, in CSS pixels: its ends are where the handle stands at the first and the last moment.
const HANDLE = 8;

// What is marked, at the moment at which it is seen: acts low, broken rules from top to bottom.
export function marks(recording) {
  const acts = recording.events.flatMap((event, place) => (event.sort === "act" ? [{ k: place + 1, color: "--warn", from: 0.72 }] : []));
  const breaks = recording.breaks.map(({ k, kind, rule }) => ({ k, rule, color: kind === "promise" ? "--bad" : "--warn", from: 0 }));
  // Where both broke at once, the promise is seen.
  return [...acts, ...breaks.sort((a, b) => (a.color === "--bad") - (b.color === "--bad"))];
}

export function drawMarks(canvas, recording) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = devicePixelRatio || 1;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  for (const { k, color, from } of marks(recording)) {
    const x = HANDLE + (k / Math.max(recording.length, 1)) * (width - 2 * HANDLE);
    context.fillStyle = style.getPropertyValue(color);
    context.fillRect(x - 1, height * from, 2, height * (1 - from));
  }
}
