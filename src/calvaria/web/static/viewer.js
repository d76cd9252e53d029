// Slices and 3-D by NiiVue, where the browser has WebGL 2. World: RAS mm there, LPS mm in all we say and send.
import { h } from "./dom.js";

const BONE = [226, 218, 200, 255];
const IMPLANT = [52, 128, 186, 255];
const DARK = [0.063, 0.071, 0.078, 1];

let library = null;
let drawing = null;

// Asked once: each question makes a context, and browsers let go of the oldest when there are many.
export function canDraw() {
  drawing ??= Boolean(document.createElement("canvas").getContext("webgl2"));
  return drawing;
}

function loaded() {
  library ??= new Promise((done, failed) => {
    const script = h("script", { src: "niivue.js", onload: () => done(window.niivue), onerror: () => failed(new Error("no viewer")) });
    document.head.append(script);
  });
  return library;
}

export class Viewer {
  constructor(id, moved) {
    this.id = id;
    this.moved = moved;
    this.flat = h("canvas", { tabindex: 0, role: "img", "aria-label": "Slices in three directions. Click to move the crosshair." });
    this.solid = h("canvas", { tabindex: 0, role: "img", "aria-label": "Skull, missing bone and implant in 3-D. Drag to turn; arrow keys turn, too." });
    this.empty = h("p", { class: "empty" }, "3-D comes with the missing bone.");
    this.root = h("div", { class: "views" },
      h("figure", {}, h("div", { class: "stage" }, this.flat), h("figcaption", {}, "Slices: click to point. Missing bone in red.")),
      h("figure", {}, h("div", { class: "stage" }, this.solid, this.empty), h("figcaption", {}, "3-D: drag to turn, scroll to zoom. Missing bone: blue is sure, red may be off by 2 mm.")));
    this.meshes = {};
    this.wanted = { skull: true, patch: true, implant: true };
    this.turn = [110, 15];
    this.queue = Promise.resolve();
  }

  file(name, version) {
    return `/api/cases/${this.id}/file/${name}?v=${version}`;
  }

  async start() {
    const { Niivue } = await loaded();
    const common = { backColor: DARK, dragAndDropEnabled: false, loadingText: "", isOrientCube: false };
    this.slices = new Niivue({ ...common, show3Dcrosshair: false, crosshairColor: [1, 0.82, 0.3, 0.9], crosshairWidth: 0.6 });
    this.slices.onLocationChange = (place) => this.moved([-place.mm[0], -place.mm[1], place.mm[2]]);
    await this.slices.attachToCanvas(this.flat);
    this.slices.opts.multiplanarShowRender = 0;
    this.slices.setSliceType(this.slices.sliceTypeMultiplanar);
    this.scene = new Niivue({ ...common, show3Dcrosshair: false });
    await this.scene.attachToCanvas(this.solid);
    this.scene.setSliceType(this.scene.sliceTypeRender);
    this.solid.addEventListener("keydown", (event) => this.keys(event));
  }

  keys(event) {
    const by = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10] }[event.key];
    if (!by) return;
    event.preventDefault();
    this.turn = [this.turn[0] + by[0], this.turn[1] + by[1]];
    this.scene.setRenderAzimuthElevation(...this.turn);
  }

  // What is there of a case: {result, patch} of its view, and the number of the implant's wish; 0 for none.
  show(view, implant, version) {
    this.queue = this.queue.then(() => this.load(view, implant, version)).catch((error) => { this.failed = error; });
    return this.queue;
  }

  async load(view, implant, version) {
    this.empty.hidden = Boolean(view.result);
    const stage = `${version}-${view.result ? 1 : 0}`;
    if (stage !== this.stage) {
      this.stage = stage;
      const volumes = [{ url: this.file("head.nii.gz", stage), name: "head.nii.gz", colormap: "gray" }];
      if (view.result && view.patch) {
        volumes.push({ url: this.file("patch.nii.gz", stage), name: "patch.nii.gz", colormap: "red", opacity: 0.6, cal_min: 1, cal_max: 255 });
      }
      await this.slices.loadVolumes(volumes);
      this.slices.setInterpolation(false);
      for (const name of Object.keys(this.meshes)) this.take(name);
      if (view.result) {
        await this.put("skull", "skull.mz3", stage, BONE);
        if (view.patch) await this.put("patch", "patch.mz3", stage, null);
        this.faceHole(view);
      }
    }
    if (implant && implant !== this.implant) {
      const old = this.meshes.implant;
      await this.put("implant", "implant.mz3", implant, IMPLANT);
      if (old) this.scene.removeMesh(old);
    }
    if (!implant) this.take("implant");
    this.implant = implant;
    this.apply();
  }

  // The camera before the largest hole, and the crosshair in it.
  faceHole(view) {
    const hole = view.holes_mm?.[0];
    if (hole) {
      const [x, y, z] = [-hole[0], -hole[1], hole[2]];
      const middle = this.scene.pivot3D;
      const [right, front, up] = [x - middle[0], y - middle[1], z - middle[2]];
      const degrees = 180 / Math.PI;
      this.turn = [90 + Math.atan2(front, -right) * degrees, Math.min(60, Math.max(-20, Math.atan2(up, Math.hypot(right, front)) * degrees))];
      this.slices.scene.crosshairPos = this.slices.mm2frac([x, y, z]);
      this.slices.drawScene();
      this.moved(hole);
    }
    this.scene.setRenderAzimuthElevation(...this.turn);
  }

  async put(what, name, version, colour) {
    const given = { url: this.file(name, version), name, opacity: 1 };
    if (colour) given.rgba255 = colour;
    this.meshes[what] = await this.scene.addMeshFromUrl(given);
  }

  take(what) {
    if (!this.meshes[what]) return;
    this.scene.removeMesh(this.meshes[what]);
    delete this.meshes[what];
  }

  want(what, wanted) {
    this.wanted[what] = wanted;
    this.apply();
  }

  apply() {
    for (const [what, mesh] of Object.entries(this.meshes)) {
      mesh.visible = this.wanted[what];
      if (what === "skull") mesh.opacity = this.wanted.through ? 0.35 : 1;
    }
    if (this.scene) this.scene.updateGLVolume();
  }

  end() {
    this.slices?.cleanup();
    this.scene?.cleanup();
    for (const canvas of [this.flat, this.solid]) canvas.getContext("webgl2")?.getExtension("WEBGL_lose_context")?.loseContext();
  }
}
