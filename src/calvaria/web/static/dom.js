// Elements without markup from text: what a server or a file says is only ever text.

export function h(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (["value", "checked", "disabled", "hidden", "htmlFor"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A sentence of the server's begins small, and names a file as it lies there.
export function sentence(text, name) {
  const said = name ? text.replace(/^(\d{5}|input)(\.[a-z]+)+(?=:)/, name) : text;
  return /^[a-z]+\b(?!\.)/.test(said) ? said[0].toUpperCase() + said.slice(1) : said;
}

export function announce(text) {
  const live = document.getElementById("live");
  if (live.textContent !== text) live.textContent = text;
}

export async function ask(method, address, body) {
  const given = { method, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    given.body = JSON.stringify(body);
    given.headers = { "Content-Type": "application/json" };
  }
  let answer;
  try {
    answer = await fetch(address, given);
  } catch {
    throw new Error("the server does not answer; is calvaria serve still running?");
  }
  const kind = answer.headers.get("content-type") || "";
  const found = kind.startsWith("application/json") ? await answer.json() : null;
  if (!answer.ok) throw new Error((found && found.error) || `the server answers ${answer.status}`);
  return found;
}

// One control of a parameter: {name, kind, default, low, high, unit, help, choices, whole}.
export function control(about, value, changed) {
  const id = `c-${about.name}`;
  const label = labelOf(about.name);
  const help = h("span", { class: "help", id: `${id}-help` }, about.help);
  const described = { id, name: about.name, "aria-describedby": `${id}-help` };
  if (about.kind === "flag") {
    const box = h("input", { ...described, type: "checkbox", checked: value, onchange: () => changed(about.name, box.checked) });
    return h("div", { class: "control" }, h("label", { class: "flag", for: id }, box, label), h("span"), help);
  }
  if (about.kind === "choice") {
    const list = h("select", { ...described, onchange: () => changed(about.name, list.value) },
      about.choices.map((one) => h("option", { value: one, selected: one === value }, one)));
    return h("div", { class: "control" }, h("label", { for: id }, label), list, help);
  }
  if (about.kind === "text") {
    const text = h("input", { ...described, type: "text", value, maxlength: 24, onchange: () => changed(about.name, text.value) });
    return h("div", { class: "control" }, h("label", { for: id }, label), text, help);
  }
  const step = about.whole ? 1 : about.high - about.low > 20 ? 1 : about.high - about.low > 2 ? 0.1 : 0.05;
  const shown = h("output", { for: id });
  const say = (now) => { shown.textContent = `${now}${about.unit ? ` ${about.unit}` : ""}`; };
  const range = h("input", {
    ...described, type: "range", min: about.low, max: about.high, step, value,
    oninput: () => say(range.value),
    onchange: () => changed(about.name, Number(range.value)),
  });
  const speak = () => range.setAttribute("aria-valuetext", shown.textContent);
  range.addEventListener("input", speak);
  say(value);
  speak();
  return h("div", { class: "control" }, h("label", { for: id }, label), shown, range, help);
}

const LABELS = { thickness: "Kind of thickness", min_hole_ml: "Smallest hole", kind: "What it is", deidentify: "DICOM results without the patient", mould: "Mould, too" };

export function labelOf(name) {
  if (LABELS[name]) return LABELS[name];
  const words = name.replace(/_(mm|deg|ml|hu)$/, "").replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
