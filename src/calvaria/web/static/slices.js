// Slices as pictures of the server: for browsers without WebGL, and by choice. Voxels to mm by the case's own affine.
import { h } from "./dom.js";

export function toWorld(affine, index) {
  return [0, 1, 2].map((row) => affine[row][0] * index[0] + affine[row][1] * index[1] + affine[row][2] * index[2] + affine[row][3]);
}

export function plainSlices(id, view, moved) {
  const at = view.shape.map((n) => Math.floor(n / 2));
  const lengths = [0, 1, 2].map((axis) => Math.hypot(...[0, 1, 2].map((row) => view.affine[row][axis])));
  const along = (axis, share, flip) => Math.min(view.shape[axis] - 1, Math.floor((flip ? 1 - share : share) * view.shape[axis]));
  const shareOf = (axis, flip) => { const share = (at[axis] + 0.5) / view.shape[axis]; return 100 * (flip ? 1 - share : share); };
  const parts = view.planes.map((plane, axis) => {
    const { across, down, flip_across: mirrored, flip_down: upended } = plane;
    const picture = h("img", { alt: "" });
    const mark = h("span", { class: "mark" });
    const frame = h("div", { class: "frame" }, picture, mark);
    frame.style.aspectRatio = `${view.shape[across] * lengths[across]} / ${view.shape[down] * lengths[down]}`;
    picture.style.height = "100%";
    frame.addEventListener("click", (event) => {
      const box = frame.getBoundingClientRect();
      at[across] = along(across, (event.clientX - box.left) / box.width, mirrored);
      at[down] = along(down, (event.clientY - box.top) / box.height, upended);
      show();
    });
    const name = `${plane.name} slice`;
    const range = h("input", {
      type: "range", min: 0, max: view.shape[axis] - 1, step: 1, value: at[axis], "aria-label": name,
      oninput: () => { at[axis] = Number(range.value); show(); },
    });
    const figure = h("figure", {}, frame, range, h("figcaption", {}, name));
    const place = () => { mark.style.left = `${shareOf(across, mirrored)}%`; mark.style.top = `${shareOf(down, upended)}%`; };
    return { axis, picture, range, figure, name, place };
  });
  const version = view.result ? 1 : 0;

  function show() {
    for (const part of parts) {
      part.range.value = at[part.axis];
      const address = `/api/cases/${id}/slice/${part.axis}/${at[part.axis]}.png?v=${version}`;
      if (part.picture.getAttribute("src") !== address) part.picture.src = address;
      part.picture.alt = `${part.name}, number ${at[part.axis] + 1} of ${view.shape[part.axis]}`;
      part.place();
    }
    moved(toWorld(view.affine, at));
  }
  show();
  return h("div", { class: "slices" }, parts.map((part) => part.figure));
}
