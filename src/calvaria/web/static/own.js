// The patient's own bone: a scan from before the operation, or one of the removed piece, brought beside a case.
import { announce, ask, h } from "./dom.js";
import { bringOwn, casesOf, filesDropped } from "./upload.js";

const SHOWS = { pre_op: "The head before the operation", flap: "The removed piece" };

export class OwnPanel {
  constructor(id, mostMb, again) {
    this.id = id;
    this.mostMb = mostMb;
    this.again = again; // runs the case with "pre_op", "flap" or null
    this.said = h("p", { class: "quiet", role: "status" });
    this.used = h("div");
    const option = (value, number) => h("label", { class: "flag" }, h("input", { type: "radio", name: "own", value, checked: number === 0 }), SHOWS[value]);
    const choose = (text, more) => {
      const input = h("input", { type: "file", ...more, onchange: async () => { const files = [...input.files]; input.value = ""; await this.brought(files); } });
      return h("label", { class: "button" }, input, text);
    };
    this.form = h("form", { class: "drop", "aria-label": "Bring a scan of the patient's own bone", onsubmit: (event) => event.preventDefault() },
      h("fieldset", {}, h("legend", {}, "It shows"), Object.keys(SHOWS).map(option)),
      h("div", { class: "row" }, choose("Choose its file", { multiple: true }), choose("Choose its folder", { webkitdirectory: true }), h("span", { class: "quiet" }, "or drop it here")),
      this.said);
    this.form.addEventListener("dragover", (event) => { event.preventDefault(); event.stopPropagation(); this.form.classList.add("over"); });
    this.form.addEventListener("dragleave", () => this.form.classList.remove("over"));
    this.form.addEventListener("drop", async (event) => {
      event.preventDefault();
      event.stopPropagation();
      this.form.classList.remove("over");
      await this.brought(await filesDropped(event.dataTransfer));
    });
    this.root = h("details", {}, h("summary", {}, "Is there a scan from before, or of the removed piece?"),
      h("p", { class: "quiet" }, "Where the patient's own bone fits, it is taken instead of what is expected of a head. A CT, a mask, a mesh or DICOM, in any pose; another person's is refused."),
      this.used, this.form);
  }

  say(text, bad = false) {
    this.said.textContent = text;
    this.said.className = bad ? "bad" : "quiet";
    if (bad) announce(text);
  }

  async brought(files) {
    const scans = casesOf(files);
    if (scans.length !== 1) return this.say(scans.length ? "These are several scans; bring one." : "No scan among these files.", true);
    const own = new FormData(this.form).get("own");
    try {
      this.say("Bringing it …");
      await bringOwn(this.id, own, scans[0], this.mostMb, (done, whole) => whole > 1 && this.say(`Bringing it: ${done} of ${whole} files …`));
      this.say("");
      await this.again(own);
    } catch (error) {
      this.say(error.message, true);
    }
  }

  async without() {
    try {
      await ask("DELETE", `/api/cases/${this.id}/own`);
      await this.again(null);
    } catch (error) {
      this.say(error.message, true);
    }
  }

  show(one) {
    const key = `${one.state}-${one.asked.own}`;
    if (key === this.key) return;
    this.key = key;
    const own = one.asked.own;
    this.used.replaceChildren(own ? h("div", { class: "row" },
      h("span", {}, `${SHOWS[own]} was given.`),
      h("button", { type: "button", onclick: () => this.without() }, "Run again without it")) : "");
    if (own) this.root.open = true;
  }
}
