// What the page knows, and everything that changes it. The draft is the text that was opened plus what the form changed;
// the server makes the new text of it, so that a change that is taken back leaves no trace.

import { get, newestOnly, post } from "./api.js";

const FIELDS = ["id", "text", "weight", "tier", "severity", "status"];
const CHECK_AFTER_MS = 220;

export const state = {
  phase: "opening", // opening, ready or failed
  fault: null, // {sentence, kind}: the whole page, or the last action
  file: null, // path, text, stamp, baseline, against, run
  base: "", // the text that the form was filled from
  filled: null, // what it was filled with: {rows, version, settings}; null when `base` does not load
  rows: null,
  version: "",
  settings: {},
  checked: null, // the newest answer about a draft
  sound: null, // the newest one about a draft that loads
  whatIf: null,
  plan: null,
  busy: {}, // actions under way
  saved: false,
  changedOnDisk: false,
};

let show = () => {};
let nextKey = 1;
let checkTimer = 0;

export function onChange(callback) {
  show = callback;
}

function update(patch) {
  Object.assign(state, patch);
  show();
}

// ---- the draft ------------------------------------------------------------------------------------------------------

const plain = (row) => Object.fromEntries(["origin", ...FIELDS].map((name) => [name, row[name]]));
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export const changedFields = (row) =>
  row.origin === null ? FIELDS : FIELDS.filter((name) => row[name] !== state.filled.rows[row.origin][name]);

/** The rows that will be saved, in the order in which they stand in the text. */
export const kept = () => (state.rows ?? []).filter((row) => !row.removed && !unwritten(row));

/** A new principle is part of the draft as soon as it has a text. */
export const unwritten = (row) => row.origin === null && !row.text.trim();

export function formChanges() {
  if (!state.filled || !state.rows) return 0;
  const rows = state.rows.filter((row) => !unwritten(row) && (row.removed || changedFields(row).length)).length;
  const settings = Object.keys(state.settings).filter((name) => !same(state.settings[name], state.filled.settings[name]));
  return rows + settings.length + (state.version !== state.filled.version ? 1 : 0);
}

export const unsaved = () => state.phase === "ready" && (state.base !== state.file.text || formChanges() > 0);

function draft() {
  const { baseline } = state.file;
  if (!formChanges()) return { baseline, base: state.base };
  const settings = Object.fromEntries(Object.entries(state.settings).filter(([name, value]) => !same(value, state.filled.settings[name])));
  return { baseline, base: state.base, version: state.version, settings, principles: kept().map(plain) };
}

/** The text as far as it is known: what was typed, or what the server made of the form. */
export const text = () => (formChanges() ? (state.checked?.text ?? state.base) : state.base);

// ---- asking ---------------------------------------------------------------------------------------------------------

const check = newestOnly(async (sent) => {
  try {
    const checked = await post("check", sent);
    if (!same(sent, draft())) return;
    update({ checked, sound: checked.fault ? state.sound : checked });
    if (!checked.fault && !state.filled) fill(checked);
  } catch (fault) {
    update({ fault });
  }
});

const askWhatIf = newestOnly(async (sent) => {
  if (!state.file.run) return;
  try {
    const whatIf = await post("what-if", sent);
    if (whatIf.state === "unsound") update({ whatIf: state.whatIf && { ...state.whatIf, stale: true } });
    else update({ whatIf });
    if (whatIf.state === "reading") setTimeout(() => askWhatIf(draft()), 600);
  } catch (fault) {
    update({ fault });
  }
});

function changed(patch = {}) {
  update({ saved: false, plan: state.plan && { ...state.plan, stale: true }, ...patch });
  clearTimeout(checkTimer);
  checkTimer = setTimeout(() => check(draft()), CHECK_AFTER_MS);
  askWhatIf(draft());
}

/** Fill the form from an answer; principles that are still there keep their place on the screen. */
function fill(checked) {
  const keys = new Map((state.rows ?? []).filter((row) => !row.removed).map((row) => [row.id, row.key]));
  const rows = checked.principles.map((row) => ({ ...row, key: keys.get(row.id) ?? nextKey++ }));
  const { version, settings } = checked;
  update({ filled: { rows: checked.principles, version, settings }, rows, version, settings: { ...settings } });
}

// ---- actions --------------------------------------------------------------------------------------------------------

export async function open() {
  try {
    const file = await get("file");
    update({ file, phase: "ready", base: file.text, filled: null, rows: null, checked: null, plan: null, fault: null, changedOnDisk: false });
    await check(draft());
    await askWhatIf(draft());
  } catch (fault) {
    update(state.phase === "ready" ? { fault } : { phase: "failed", fault });
  }
}

export function setField(key, name, value) {
  changed({ rows: state.rows.map((row) => (row.key === key ? { ...row, [name]: value } : row)) });
}

export const setVersion = (version) => changed({ version });
export const setSetting = (name, value) => changed({ settings: { ...state.settings, [name]: value } });

export function addPrinciple() {
  const taken = new Set(state.rows.map((row) => row.id));
  let id = "new-principle";
  for (let number = 2; taken.has(id); number += 1) id = `new-principle-${number}`;
  const key = nextKey++;
  const row = { key, origin: null, id, text: "", weight: 1, tier: null, severity: "soft", status: "active", scope: [], checks: 0, tests: 0, examples: 0 };
  changed({ rows: [...state.rows, row] });
  return key;
}

export function remove(key) {
  const row = state.rows.find((each) => each.key === key);
  if (row.origin === null) changed({ rows: state.rows.filter((each) => each.key !== key) });
  else setField(key, "removed", true);
}

export const putBack = (key) => setField(key, "removed", false);

export function takeBack(key) {
  changed({ rows: state.rows.map((row) => (row.key === key ? { ...row, ...state.filled.rows[row.origin], removed: false } : row)) });
}

export function takeBackAll() {
  update({ rows: null, filled: null });
  changed({ base: state.file.text, rows: null, filled: null, fault: null });
}

/** The text itself was typed: the form is filled anew as soon as it loads. */
export const setText = (base) => changed({ base, filled: null, rows: state.rows });

export async function save() {
  if (!unsaved() || state.busy.save) return;
  update({ busy: { ...state.busy, save: true } });
  const sent = draft();
  try {
    const { text: written, stamp, checked } = await post("save", { draft: sent, stamp: state.file.stamp });
    const typedMeanwhile = !same(sent, draft());
    const baseline = checked.compared ? state.file.baseline : written; // a text that did not load is nothing to compare with
    update({ file: { ...state.file, text: written, stamp, baseline }, fault: null, saved: !typedMeanwhile, changedOnDisk: false });
    if (!typedMeanwhile) {
      Object.assign(state, { base: written, filled: null, checked, sound: checked });
      fill(checked);
    }
  } catch (fault) {
    update({ fault, changedOnDisk: fault.kind === "changed" });
  } finally {
    update({ busy: { ...state.busy, save: false } });
  }
}

export async function plan() {
  update({ busy: { ...state.busy, plan: true } });
  try {
    update({ plan: { ...(await post("plan", draft())), stale: false } });
    askWhatIf(draft());
  } catch (fault) {
    update({ plan: { state: "fault", fault: fault.message } });
  } finally {
    update({ busy: { ...state.busy, plan: false } });
  }
}

/** Whether somebody else wrote the file; asked when the window is looked at again. */
export async function lookAtDisk() {
  if (state.phase !== "ready" || state.busy.save) return;
  try {
    const { stamp } = await get("stamp");
    if (stamp === state.file.stamp) return;
    if (unsaved()) update({ changedOnDisk: true });
    else await open();
  } catch (fault) {
    update({ fault });
  }
}

export const dismiss = () => update({ fault: null, changedOnDisk: false });
