// The implant: sliders, and its checks beside them. A moved slider asks at once; only the last wish is done.
import { ask, control, h, sentence } from "./dom.js";

const FIRST = ["thickness", "thickness_mm", "clearance_mm", "bevel_deg", "flange_width_mm", "perforations", "suture_holes", "plate_seats", "mould"];

export function verdictOf(one) {
  const kind = { pass: "good", warn: "warn", fail: "bad" }[one.verdict];
  return h("span", { class: kind }, { pass: "✓ pass", warn: "! warning", fail: "✗ fail" }[one.verdict]);
}

export function checkTable(checks, caption) {
  if (!checks.length) return h("p", { class: "quiet" }, "No checks.");
  const order = { fail: 0, warn: 1, pass: 2 };
  const sorted = [...checks].sort((a, b) => order[a.verdict] - order[b.verdict]);
  const bad = sorted.filter((one) => one.verdict !== "pass");
  const good = sorted.filter((one) => one.verdict === "pass" && one.limit);
  const measures = sorted.filter((one) => one.verdict === "pass" && !one.limit);
  const folded = (some, text, more) => (some.length ? h("details", {}, h("summary", {}, text), tableOf(some, `${caption}, ${more}`)) : "");
  return h("div", {}, tableOf(bad.length ? bad : good, caption),
    bad.length ? folded(good, `${good.length} other checks passed`, "passed") : "",
    folded(measures, `${measures.length} measures without a limit`, "measures"));
}

function tableOf(sorted, caption) {
  const named = sorted.some((one) => one.part && one.part !== "implant");
  return h("div", { class: "scroll" }, h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("thead", {}, h("tr", {}, ["Result", "Check", "Measured", "Limit", ...(named ? ["Part"] : [])].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, sorted.map((one) => h("tr", { title: one.source },
      h("td", {}, verdictOf(one)), h("td", {}, one.name), h("td", { class: "number" }, one.value), h("td", {}, one.limit),
      named ? h("td", {}, one.part) : null)))));
}

function countsOf(checks) {
  const count = (verdict) => checks.filter((one) => one.verdict === verdict).length;
  const [fails, warnings] = [count("fail"), count("warn")];
  const all = checks.filter((one) => one.limit || one.verdict !== "pass").length;
  if (!fails && !warnings) return `All ${all} checks passed.`;
  return `Of ${all} checks ${fails} failed, ${warnings} with a warning.`;
}

export class DesignPanel {
  constructor(id, groups, asked, changed, name) {
    this.id = id;
    this.name = name; // of the file, as this tab knows it
    this.changed = changed;
    this.values = {};
    for (const group of groups) for (const one of group.controls) this.values[one.name] = asked?.[one.name] ?? one.default;
    const all = groups.flatMap((group) => group.controls);
    const set = (name, value) => { this.values[name] = value; this.wish(); };
    const first = FIRST.map((name) => control(all.find((one) => one.name === name), this.values[name], set));
    const rest = groups.map((group) => {
      const controls = group.controls.filter((one) => !FIRST.includes(one.name));
      return controls.length ? [h("h3", {}, group.title), controls.map((one) => control(one, this.values[one.name], set))] : [];
    });
    this.status = h("p", { role: "status", class: "quiet" });
    this.result = h("div");
    this.button = h("button", { type: "button", class: "primary", onclick: () => this.wish() }, "Design the implant");
    this.root = h("section", { "aria-label": "Implant" },
      h("h2", {}, "Implant"),
      h("div", { class: "design" },
        h("div", { class: "fields" }, this.button, first, h("details", {}, h("summary", {}, "All settings"), h("div", { class: "fields" }, rest))),
        h("div", {}, this.status, this.result)));
  }

  async wish() {
    try {
      await ask("POST", `/api/cases/${this.id}/design`, this.values);
      this.status.textContent = "Designing …";
      this.changed();
    } catch (error) {
      this.status.textContent = sentence(error.message, this.name);
      this.status.className = "bad";
    }
  }

  show(design) {
    const said = {
      none: "Not designed yet. Move a slider, or press the button.",
      designing: "Designing …",
      measuring: `The shape is there after ${design.shape_s} s; measuring it …`,
      writing: "Writing the files and pictures of the implant …",
      done: `Designed and checked in ${design.seconds} s. ${design.files.length ? "Its files are there." : "Its files are written when you save them."}`,
      failed: sentence(design.text, this.name),
    }[design.state];
    this.status.className = design.state === "failed" ? "bad" : "quiet";
    if (this.status.textContent !== said) this.status.textContent = said;
    this.button.hidden = design.state !== "none" && design.state !== "failed";
    const key = `${design.seconds}-${design.number}-${design.state === "designing"}`;
    if (!design.summary || key === this.key) return;
    this.key = key;
    const old = design.state === "designing";
    const lines = design.summary;
    this.result.replaceChildren(
      h("ul", { class: "plain" }, lines.lines.map((line) => h("li", {}, line))),
      ...lines.warnings.map((text) => h("p", { class: "message warn" }, sentence(text))),
      h("p", { class: lines.checks.some((one) => one.verdict === "fail") ? "bad" : "" }, countsOf(lines.checks)),
      checkTable(lines.checks, "Checks of the implant"));
    this.result.style.opacity = old ? 0.5 : 1;
  }
}
