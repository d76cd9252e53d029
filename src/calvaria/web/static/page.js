// The page: what was brought, the cases of this session, and the one that is looked at.
import { announce, ask, control, h, sentence } from "./dom.js";
import { checkTable, DesignPanel } from "./design.js";
import { OwnPanel } from "./own.js";
import { plainSlices } from "./slices.js";
import { bring, casesOf, filesDropped } from "./upload.js";
import { canDraw, Viewer } from "./viewer.js";

const BUSY_MS = 500;
const DESIGN_MS = 150;
const IDLE_MS = 4000;
const DESIGNING = ["designing", "measuring", "writing"];
const names = new Map(); // case -> the name of its file, which only this tab knows
const before = { kind: "auto", min_hole_ml: 5, refine: false, deidentify: false };
const byId = (id) => document.getElementById(id);

let about = null;
let selected = null;
let panel = null;
let timer = null;
let spoken = "";

const BEFORE = [
  { name: "kind", kind: "choice", default: "auto", choices: ["auto", "mask", "ct"], help: "What a file holds; auto tells by its values." },
  { name: "min_hole_ml", kind: "number", default: 5, low: 0.5, high: 50, unit: "ml", help: "Holes of less missing bone are left open and listed." },
  { name: "refine", kind: "flag", default: false, help: "Refine the missing bone by symmetry and the bone around it." },
  { name: "deidentify", kind: "flag", default: false, help: "Write DICOM results without patient and study." },
];

function say(text, bad = false) {
  const place = byId("upload");
  place.textContent = text;
  place.className = bad ? "bad" : "quiet";
}

async function brought(files) {
  const cases = casesOf(files);
  if (!cases.length) return say("No scan among these files.", true);
  let last = null;
  for (const one of cases) {
    try {
      say(`Bringing ${one.name} …`);
      const made = await bring(one, before, about.max_upload_mb, (done, whole) => whole > 1 && say(`Bringing ${one.name}: ${done} of ${whole} files …`));
      names.set(made.id, one.name);
      last ??= made.id;
      say("");
    } catch (error) {
      say(`${one.name}: ${error.message}`, true);
      announce(`${one.name}: ${error.message}`);
    }
    await refresh();
  }
  if (last) select(last);
}

function prepareDrop() {
  const drop = byId("drop");
  drop.addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["files", "folder"]) {
    byId(id).addEventListener("change", async (event) => {
      const files = [...event.target.files];
      event.target.value = "";
      await brought(files);
    });
  }
  const over = (event) => { event.preventDefault(); drop.classList.add("over"); };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    await brought(await filesDropped(event.dataTransfer));
  });
  byId("before").append(...BEFORE.map((one) => control(one, one.default, (name, value) => { before[name] = value; })));
}

function titleOf(one) {
  return names.get(one.id) ? `Case ${one.number}: ${names.get(one.id)}` : `Case ${one.number}`;
}

function stateOf(one) {
  const left = one.left ? `, ${one.left} left` : "";
  return {
    uploading: "coming in",
    waiting: one.place ? `waiting, ${one.place} before it` : "waiting for its turn",
    running: `${one.stage} (${Math.round(one.fraction * 100)} %${left})`,
    choosing: "which series?",
    done: one.failed_checks ? "done, a check failed" : "done",
    failed: "failed",
    cancelled: "cancelled",
  }[one.state];
}

async function refresh() {
  clearTimeout(timer);
  let next = BUSY_MS;
  try {
    const cases = await ask("GET", "/api/cases");
    let shown = null;
    if (selected && cases.some((one) => one.id === selected)) {
      shown = await ask("GET", `/api/cases/${selected}`);
      list(cases.map((one) => (one.id === shown.id ? shown : one)));
      show(shown);
    } else {
      list(cases);
      if (selected) close();
    }
    const busy = cases.some((one) => ["waiting", "running", "uploading"].includes(one.state));
    next = shown && DESIGNING.includes(shown.design.state) ? DESIGN_MS : busy ? BUSY_MS : IDLE_MS;
  } catch (error) {
    say(error.message, true);
  }
  timer = setTimeout(refresh, next);
}

function list(cases) {
  byId("none").hidden = cases.length > 0;
  const place = byId("cases");
  const known = new Map([...place.children].map((item) => [item.dataset.id, item]));
  cases.forEach((one, number) => {
    let item = known.get(one.id);
    known.delete(one.id);
    if (!item) {
      const button = h("button", { type: "button", onclick: () => select(one.id, true) }, h("span", { class: "name" }), h("span", { class: "state" }));
      item = h("li", {}, button);
      item.dataset.id = one.id;
    }
    if (place.children[number] !== item) place.insertBefore(item, place.children[number] || null);
    const button = item.firstChild;
    button.setAttribute("aria-current", one.id === selected ? "true" : "false");
    const time = new Date(one.created * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    button.querySelector(".name").textContent = titleOf(one);
    button.querySelector(".state").textContent = [time, one.format, stateOf(one)].filter(Boolean).join(" · ");
  });
  for (const item of known.values()) item.remove();
}

function select(id, focus = false) {
  if (selected !== id) close();
  selected = id;
  refresh().then(() => { if (focus) byId("case").focus(); });
}

function close() {
  panel?.end();
  panel = null;
  selected = null;
  byId("shown").replaceChildren();
  byId("shown").hidden = true;
  byId("welcome").hidden = false;
}

function show(one) {
  if (!panel || panel.id !== one.id) {
    panel?.end();
    panel = new CasePanel(one);
    byId("welcome").hidden = true;
    byId("shown").hidden = false;
    byId("shown").replaceChildren(panel.root);
  }
  panel.show(one);
  const said = one.state === "running" ? `Case ${one.number}: ${one.stage}` : `Case ${one.number}: ${stateOf(one)}${one.text ? `. ${one.text}` : ""}`;
  if (said !== spoken) announce(said);
  spoken = said;
}

class CasePanel {
  constructor(one) {
    this.id = one.id;
    this.place = null;
    this.points = { seeds: [], keep_open: [], corners: [], outline: [] };
    this.heading = h("h2");
    this.cancel = h("button", { type: "button", onclick: () => this.send("cancel", {}) }, "Cancel");
    this.remove = h("button", { type: "button", onclick: () => this.erase() }, "Delete this case");
    this.progress = h("progress", { max: 1, "aria-label": "Progress of this case" });
    this.stage = h("p", { class: "quiet" });
    this.message = h("div");
    this.choice = h("div");
    this.summary = h("div");
    this.looking = h("div", { class: "looking" });
    this.pointing = h("div");
    this.own = new OwnPanel(one.id, about.max_upload_mb, (own) => this.send("run", { ...this.asked, refine: false, own }));
    this.designing = h("div");
    this.files = h("div");
    this.root = h("article", {},
      h("div", { class: "title" }, this.heading, this.cancel, this.remove),
      this.progress, this.stage, this.message, this.choice, this.summary, this.looking, this.pointing, this.own.root, this.designing, this.files);
  }

  end() {
    this.viewer?.end();
  }

  async send(what, body) {
    try {
      await ask("POST", `/api/cases/${this.id}/${what}`, body);
    } catch (error) {
      this.complain(error.message);
    }
    await refresh();
  }

  complain(text) {
    this.message.replaceChildren(h("p", { class: "message", role: "alert" }, sentence(text)));
  }

  async erase() {
    if (!window.confirm("Delete this case with all its files?")) return;
    await ask("DELETE", `/api/cases/${this.id}`).catch(() => null);
    announce("The case was deleted.");
    close();
    await refresh();
    byId("files").focus();
  }

  show(one) {
    const designing = DESIGNING.includes(one.design.state);
    const busy = ["waiting", "running"].includes(one.state);
    this.heading.textContent = titleOf(one);
    this.cancel.hidden = !(busy || designing);
    this.progress.hidden = !busy;
    this.progress.value = one.fraction;
    this.stage.hidden = one.state === "done";
    this.stage.textContent = ["failed", "cancelled"].includes(one.state) ? "" : stateOf(one);
    this.showMessage(one);
    this.showChoice(one);
    this.showSummary(one);
    this.showViews(one);
    this.showPointing(one);
    this.asked = one.asked;
    this.own.root.hidden = !one.view || !["done", "failed", "cancelled"].includes(one.state);
    this.own.show(one);
    this.showDesign(one);
  }

  once(name, key, make) {
    this.keys ??= {};
    const text = JSON.stringify(key);
    if (this.keys[name] === text) return;
    this.keys[name] = text;
    make();
  }

  showMessage(one) {
    this.once("message", [one.state, one.text], () => {
      if (!["failed", "cancelled"].includes(one.state)) return this.message.replaceChildren();
      this.message.replaceChildren(
        h("p", { class: "message", role: "alert" }, sentence(one.text, names.get(one.id))),
        h("div", { class: "row" }, h("button", { type: "button", onclick: () => this.send("run", one.asked) }, "Run it again")));
    });
  }

  showChoice(one) {
    this.once("choice", [one.state, one.series, one.notes], () => {
      this.choice.replaceChildren();
      if (one.notes.length) this.choice.append(...one.notes.map((text) => h("p", { class: "message warn" }, sentence(text))));
      if (one.state !== "choosing") return;
      const options = one.series.map((series, number) => h("label", { class: "flag" },
        h("input", { type: "radio", name: "series", value: number, checked: series.chosen, disabled: !series.usable }),
        series.usable ? `${series.label}${series.chosen ? " (suggested)" : ""}` : `${series.label}: ${series.problem}`));
      const form = h("form", {
        onsubmit: (event) => {
          event.preventDefault();
          const chosen = one.series[Number(new FormData(form).get("series"))];
          if (chosen) this.send("run", { ...one.asked, series: chosen.series, study: chosen.study });
        },
      }, h("fieldset", {}, h("legend", {}, "Which series shows the skull?"), options), h("div", { class: "row" }, h("button", { class: "primary" }, "Use this series")));
      this.choice.append(form);
    });
  }

  showSummary(one) {
    this.once("summary", one.summary, () => {
      this.summary.replaceChildren();
      const found = one.summary;
      if (!found) return;
      const area = found.holes.reduce((sum, hole) => sum + hole.area_cm2, 0);
      const figure = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
      const parts = [h("h2", {}, "Missing bone")];
      if (!found.empty) {
        parts.push(h("dl", { class: "figures" },
          figure("Volume", `${found.volume_ml.toFixed(1)} ml`), figure("Area", `${area.toFixed(1)} cm²`),
          found.holes.length > 1 ? figure("Holes", found.holes.length) : null,
          figure("Outer surface, 90 % within", found.outer_within_mm === null ? "not known" : `${found.outer_within_mm.toFixed(1)} mm`),
          figure("Took", `${found.seconds.toFixed(1)} s`)));
        parts.push(h("p", {}, `Expected accuracy: ${found.expected.join(", ") || "unknown"}.`), h("p", { class: "quiet" }, `${sentence(found.expected_reason)}.`));
      }
      if (found.own_bone) parts.push(h("p", {}, `${sentence(found.own_bone)}.`));
      parts.push(...found.warnings.map((text) => h("p", { class: "message warn" }, sentence(text))));
      const bad = found.checks.filter((check) => check.verdict !== "pass").length;
      parts.push(h("details", { open: bad > 0 }, h("summary", {}, bad ? `${bad} of ${found.checks.length} checks did not pass` : `All ${found.checks.length} checks passed`),
        checkTable(found.checks, "Checks of the missing bone")));
      if (found.files.includes("preview.png")) {
        parts.push(h("details", {}, h("summary", {}, "Picture"),
          h("img", { class: "picture", src: `/api/cases/${one.id}/file/preview.png?v=${found.seconds}`, alt: "The skull with the missing bone, drawn from several sides" })));
      }
      this.summary.append(...parts);
    });
  }

  showViews(one) {
    if (!one.view) return;
    const version = one.summary ? one.summary.seconds : 0;
    if (canDraw() && !this.plain) {
      if (!this.viewer) {
        this.viewer = new Viewer(this.id, (place) => this.moved(place));
        this.layers();
        this.viewer.queue = this.viewer.start().catch((error) => { this.plain = true; this.problem = error; });
      }
      this.looking.lastChild.hidden = !one.view.result; // there is nothing in 3-D before
      const implant = one.design.shown || 0;
      if (implant && !this.implantSeen) this.want("patch", false); // it hides the implant
      this.implantSeen = implant > 0;
      this.once("viewer", [one.view, implant, version], () => this.viewer.show(one.view, implant, version));
    } else {
      this.once("slices", [one.view, version], () => {
        const back = h("button", { type: "button", onclick: () => { this.plain = false; this.keys.viewer = this.keys.slices = ""; refresh(); } }, "Show 3-D");
        const said = canDraw() && !this.problem ? back : h("p", { class: "quiet" }, "This browser draws no 3-D: here are slices, and pictures above and below.");
        this.looking.replaceChildren(h("div", { class: "row" }, said),
          plainSlices(this.id, one.view, (place) => this.moved(place)));
      });
    }
  }

  layers() {
    this.boxes = {};
    const box = (name, label, checked) => {
      this.boxes[name] = h("input", { type: "checkbox", checked, onchange: (event) => this.viewer?.want(name, event.target.checked) });
      return h("label", { class: "flag" }, this.boxes[name], label);
    };
    const plainly = h("button", { type: "button", onclick: () => { this.plain = true; this.viewer.end(); this.viewer = null; this.implantSeen = false; refresh(); } }, "Plain slices");
    this.looking.replaceChildren(this.viewer.root, h("div", { class: "row", role: "group", "aria-label": "What is shown in 3-D" },
      box("skull", "Skull", true), box("through", "see through it", false), box("patch", "Missing bone", true), box("implant", "Implant", true), plainly));
  }

  want(what, wanted) {
    this.boxes[what].checked = wanted;
    this.viewer.want(what, wanted);
  }

  moved(place) {
    this.place = place.map((mm) => Math.round(mm * 10) / 10);
    if (this.where) this.where.forEach((input, axis) => { input.value = this.place[axis]; });
  }

  showPointing(one) {
    if (!one.view || one.state === "running" || one.state === "waiting") return this.pointing.replaceChildren(), (this.keys ??= {}, this.keys.pointing = "");
    this.once("pointing", [one.state, this.points], () => {
      const say = ([x, y, z]) => `${x}, ${y}, ${z}`;
      const inputs = ["x", "y", "z"].map((axis, number) => h("input", {
        type: "number", step: 0.1, "aria-label": `${axis} of the place, LPS mm`, value: this.place ? this.place[number] : 0,
        onchange: (event) => { this.place ??= [0, 0, 0]; this.place[number] = Number(event.target.value); },
      }));
      this.where = inputs;
      const add = (kind) => () => { if (this.place) { this.points[kind] = [...this.points[kind], [...this.place]].slice(kind === "corners" ? -2 : -50); refresh(); } };
      const drop = (kind, number) => () => { this.points[kind] = this.points[kind].filter((_, other) => other !== number); refresh(); };
      const item = (kind, text) => (point, number) => h("li", {}, `${text} ${say(point)}`, h("button", { type: "button", onclick: drop(kind, number), "aria-label": `Take away: ${text} ${say(point)}` }, "take away"));
      const { seeds, keep_open: open, corners, outline } = this.points;
      const ready = seeds.length || open.length || corners.length === 2 || outline.length >= 3;
      this.pointing.replaceChildren(h("details", { open: Boolean(seeds.length || open.length || corners.length || outline.length) || one.state === "failed" || one.summary?.empty },
        h("summary", {}, "Wrong hole, or none found? Point at it"),
        h("p", { class: "quiet" }, "Click in the slices, or type a place (LPS mm: to the left, to the back, up). Point at the hole, or outline it by places around its rim, in any order, from several slices."),
        h("div", { class: "row" }, inputs.map((input, axis) => h("label", {}, `${"xyz"[axis]} `, input))),
        h("div", { class: "row" },
          h("button", { type: "button", onclick: add("seeds") }, "Fill the hole here"),
          h("button", { type: "button", onclick: add("outline") }, "Place on the hole's outline"),
          h("button", { type: "button", onclick: add("corners") }, "Corner of a box around it"),
          h("button", { type: "button", onclick: add("keep_open") }, "Leave open here")),
        h("ul", { class: "plain points" }, seeds.map(item("seeds", "fill")), outline.map(item("outline", "outline")), corners.map(item("corners", "corner")), open.map(item("keep_open", "leave open"))),
        h("button", { type: "button", class: "primary", disabled: !ready, onclick: () => this.again(one) }, "Run again with these")));
    });
  }

  again(one) {
    const { seeds, keep_open: open, corners, outline } = this.points;
    const box = corners.length === 2 ? [...corners[0], ...corners[1]] : null;
    this.send("run", { ...one.asked, seeds, keep_open: open, box, outline });
  }

  showDesign(one) {
    if (one.state !== "done") {
      this.designing.replaceChildren();
      this.files.replaceChildren();
      this.design = null;
      this.keys.files = "";
      return;
    }
    if (one.summary.empty) this.designing.replaceChildren();
    else if (!this.design) {
      this.design = new DesignPanel(this.id, about.implant, one.design.implant, refresh, names.get(one.id));
      this.designing.replaceChildren(this.design.root);
    }
    if (!one.summary.empty) this.design.show(one.design);
    const ready = !["designing", "measuring"].includes(one.design.state);
    const writing = one.design.state === "writing";
    const write = () => this.send("write", {});
    if (one.design.state === "done" && !one.design.files.length && !canDraw()) this.once("drawn", one.design.made, write);
    this.once("files", [ready, writing, one.design.made, one.design.files, one.summary], () => {
      const all = [...new Set([...one.summary.files, ...one.design.files])].sort();
      const lacks = one.design.made && !one.design.files.length;
      const picture = one.design.files.includes("design.png")
        ? h("details", {}, h("summary", {}, "Picture of the implant"), h("img", { class: "picture", alt: "The implant and its checks, drawn", src: `/api/cases/${one.id}/file/design.png?v=${one.design.number}` })) : null;
      this.files.replaceChildren(picture ?? "", h("h2", {}, "Files"),
        h("div", { class: "row" }, ready && !writing
          ? h("a", { class: "button primary", href: `/api/cases/${one.id}/results.zip`, download: "", onclick: () => setTimeout(refresh, DESIGN_MS) }, "Save all as one zip")
          : h("span", { class: "quiet" }, writing ? "The files are being written …" : "The files can be saved when the implant is checked."),
          ready && !writing && lacks ? h("button", { type: "button", onclick: write }, "Draw the implant") : null),
        h("details", {}, h("summary", {}, `${all.length} files`),
          h("ul", { class: "plain" }, all.map((name) => h("li", {}, h("a", { href: `/api/cases/${one.id}/file/${name}`, download: name.split("/").at(-1) }, name))))));
    });
  }
}

async function main() {
  prepareDrop();
  try {
    about = await ask("GET", "/api/about");
  } catch (error) {
    return say(error.message, true);
  }
  await refresh();
}

main();
