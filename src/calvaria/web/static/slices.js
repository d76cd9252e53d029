// Slices as pictures of the server: for browsers without WebGL, and by choice. Voxels to mm by the case's own affine.
import { h } from "./dom.js";

const AXES = [0, 1, 2];

export function toWorld(affine, index) {
  return [0, 1, 2].map((row) => affine[row][0] * index[0] + affine[row][1] * index[1] + affine[row][2] * index[2] + affine[row][3]);
}

export function plainSlices(id, view, moved) {
  const at = view.shape.map((n) => Math.floor(n / 2));
  const lengths = [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => view.affine[row][axis])));
  const parts = AXES.map((axis) => {
    const [across, down] = AXES.filter((other) => other !== axis);
    const picture = h("img", { alt: "" });
    const mark = h("span", { class: "mark" });
    const frame = h("div", { class: "frame" }, picture, mark);
    frame.style.aspectRatio = `${view.shape[across] * lengths[across]} / ${view.shape[down] * lengths[down]}`;
    picture.style.height = "100%";
    frame.addEventListener("click", (event) => {
      const box = frame.getBoundingClientRect();
      at[across] = Math.min(view.shape[across] - 1, Math.floor(((event.clientX - box.left) / box.width) * view.shape[across]));
      at[down] = Math.min(view.shape[down] - 1, Math.floor(((event.clientY - box.top) / box.height) * view.shape[down]));
      show();
    });
    const name = `Slice along voxel axis ${axis + 1}`;
    const range = h("input", {
      type: "range", min: 0, max: view.shape[axis] - 1, step: 1, value: at[axis], "aria-label": name,
      oninput: () => { at[axis] = Number(range.value); show(); },
    });
    const figure = h("figure", {}, frame, range);
    return { axis, across, down, picture, mark, range, figure, name };
  });
  const version = view.result ? 1 : 0;

  function show() {
    for (const part of parts) {
      part.range.value = at[part.axis];
      const address = `/api/cases/${id}/slice/${part.axis}/${at[part.axis]}.png?v=${version}`;
      if (part.picture.getAttribute("src") !== address) part.picture.src = address;
      part.picture.alt = `${part.name}, number ${at[part.axis] + 1} of ${view.shape[part.axis]}`;
      part.mark.style.left = `${((at[part.across] + 0.5) / view.shape[part.across]) * 100}%`;
      part.mark.style.top = `${((at[part.down] + 0.5) / view.shape[part.down]) * 100}%`;
    }
    moved(toWorld(view.affine, at));
  }
  show();
  return h("div", { class: "slices" }, parts.map((part) => part.figure));
}
