// What was dropped, as cases: each image, mesh or zip is one; all other files together are one of DICOM.
import { ask } from "./dom.js";

const SUFFIXES = [".nii.gz", ".nii", ".nrrd", ".mha", ".stl", ".ply", ".obj", ".zip"];
const OTHER = /\.(txt|pdf|jpe?g|png|xml|html?|exe|ini|inf|docx?|csv|json)$/i;
const AT_ONCE = 4;

function suffixOf(name) {
  const low = name.toLowerCase();
  return SUFFIXES.find((one) => low.endsWith(one)) || ".dcm";
}

export function casesOf(files) {
  const cases = [];
  const dicom = [];
  for (const file of files) {
    const suffix = suffixOf(file.name);
    if (file.name.startsWith(".") || OTHER.test(file.name)) continue;
    if (suffix === ".dcm") dicom.push(file);
    else cases.push({ name: file.name, files: [file], suffix });
  }
  if (dicom.length) cases.push({ name: `${dicom.length} DICOM file${dicom.length > 1 ? "s" : ""}`, files: dicom, suffix: ".dcm" });
  return cases;
}

export async function filesDropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    found.push(await new Promise((done, failed) => entry.file(done, failed)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    for (const one of some) await walk(one, found);
  }
}

function requireSmall(one, mostMb) {
  const size = one.files.reduce((sum, file) => sum + file.size, 0);
  if (size > mostMb * 1e6) throw new Error(`${(size / 1e6).toFixed(0)} MB, at most ${mostMb} MB are taken; crop the scan, or start the page with --max-upload-mb`);
}

async function send(one, address, tell) {
  let next = 0;
  let done = 0;
  const lane = async () => {
    while (next < one.files.length) {
      const file = one.files[next++];
      const answer = await fetch(address, { method: "PUT", body: file });
      if (!answer.ok) throw new Error((await answer.json().catch(() => null))?.error || `the server answers ${answer.status}`);
      done += 1;
      tell(done, one.files.length);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, one.files.length) }, lane));
}

// A scan of the patient's own bone, in place of any that a case has.
export async function bringOwn(id, own, one, mostMb, tell) {
  requireSmall(one, mostMb);
  const address = `/api/cases/${id}`;
  await ask("DELETE", `${address}/own`);
  try {
    await send(one, `${address}/files?suffix=${encodeURIComponent(one.suffix)}&own=${own}`, tell);
  } catch (error) {
    await ask("DELETE", `${address}/own`).catch(() => null);
    throw error;
  }
}

// Only the suffix of a name travels. Returns the case.
export async function bring(one, settings, mostMb, tell) {
  requireSmall(one, mostMb);
  const made = await ask("POST", "/api/cases", {});
  const address = `/api/cases/${made.id}`;
  try {
    await send(one, `${address}/files?suffix=${encodeURIComponent(one.suffix)}`, tell);
    return await ask("POST", `${address}/complete`, settings);
  } catch (error) {
    await ask("DELETE", address).catch(() => null);
    throw error;
  }
}
