// The tour: short runs in their order, and what is told beside each.

import { byId } from "./panels.js";

const TITLE = "Tour: from the generals on";

export class Tour {
  // `does` is what the page does: show a run, set the adversary on a protocol, say something.
  constructor(app, does) {
    Object.assign(this, { app, does });
    byId("tour-next").addEventListener("click", () => this.visit(app.step + 1).catch(does.fail));
    byId("tour-back").addEventListener("click", () => this.visit(app.step - 1).catch(does.fail));
    this.tell(-1);
  }

  // What a step shows is a run, the adversary, or the plot of what distance costs.
  async visit(nth) {
    const { does } = this;
    const step = this.app.tour[nth];
    if (!step) return;
    this.tell(nth);
    does.say(`${step.title}. ${step.text}`);
    does.lessonText("", "");
    byId("flp-box").open = false;
    if (step.shows === "run") await does.load(step.run, { play: true });
    else await does.load(does.plain(step.protocol), { push: step.shows !== "flp" });
    if (step.shows === "flp") await does.attack();
    // Where it is narrow the tour stands above the board.
    const above = getComputedStyle(byId("tour")).order === "-1";
    byId(step.shows === "tax" ? "tax-box" : "tour").scrollIntoView({ block: above ? "start" : "nearest" });
  }

  // The text of a step, or what is said before the first.
  tell(nth) {
    const { app } = this;
    const step = app.tour[nth];
    app.step = step ? nth : -1;
    byId("tour").querySelector("h2").textContent = step ? `${nth + 1}. ${step.title}` : TITLE;
    byId("tour-text").textContent = step ? step.text : `${app.tour.length} short runs: what agreement is, what it costs, and when to do without.`;
    byId("tour-at").textContent = step ? `${nth + 1} of ${app.tour.length}` : "";
    byId("tour-next").textContent = step ? "Next" : "Begin";
    byId("tax-box").open = step?.shows === "tax";
    const [back, next] = [byId("tour-back"), byId("tour-next")];
    const focused = document.activeElement;
    back.disabled = app.step <= 0;
    next.disabled = app.step + 1 === app.tour.length;
    // Whoever stands on a button that leads nowhere any more goes on with the other.
    if (focused === back && back.disabled) next.focus();
    if (focused === next && next.disabled) back.focus();
  }

  // The run is another than the step's: what is told beside it, and in the address, goes.
  leave() {
    if (this.app.step >= 0) this.tell(-1);
  }

  // A mistake is ticked or taken back. Some steps ask for that.
  ticked(mistake) {
    if (!this.app.tour[this.app.step]?.text.includes(mistake)) this.leave();
  }
}
