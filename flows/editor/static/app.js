// The page: a bar on top, what is edited on the left, what it does on the right (below it, as a tab, on a phone).

import { html, render, useEffect, useState } from "./vendor/preact-htm.js";
import { Effect, effectHeadline } from "./effect.js";
import { Pairs } from "./pairs.js";
import { Principles } from "./principles.js";
import { Source } from "./source.js";
import { dismiss, lookAtDisk, onChange, open, plan, save, setVersion, state, takeBackAll, unsaved } from "./state.js";

const TABS = [
  ["principles", "Principles", Principles],
  ["pairs", "Affected pairs", Pairs],
  ["source", "YAML", Source],
  ["effect", "Effect", Effect],
];

function Page() {
  const [, setTick] = useState(0);
  const [tab, setTab] = useState("principles");
  useEffect(() => onChange(() => setTick((tick) => tick + 1)), []);
  useEffect(() => {
    document.title = `${unsaved() ? "* " : ""}${state.sound?.id ?? "Constitution"}`;
  });
  if (state.phase === "opening") return html`<p class="opening">Opening the constitution …</p>`;
  if (state.phase === "failed") return html`<p class="opening" role="alert">${state.fault.message}</p>`;
  const [, , View] = TABS.find(([name]) => name === tab);
  return html`
    <${Bar} goTo=${setTab} />
    <${Notices} />
    <div class=${`columns at-${tab}`}>
      <main>
        <${Tabs} tab=${tab} setTab=${setTab} />
        <div role="tabpanel" id=${`panel-${tab}`} aria-labelledby=${`tab-${tab}`}><${View} goTo=${setTab} /></div>
      </main>
      <aside class="side" aria-label="What the edit does"><${Effect} goTo=${setTab} /></aside>
    </div>`;
}

function Bar({ goTo }) {
  const { file, checked, busy } = state;
  const dirty = unsaved();
  return html`
    <header class="bar">
      <div class="title">
        <h1>${state.sound?.id ?? "Constitution"}</h1>
        <${Version} />
        <p class="path" title=${file.path}>${file.path}${file.against && html` <span>compared with ${file.against}</span>`}</p>
      </div>
      <div class="actions">
        <span class=${`saved ${dirty ? "dirty" : ""}`} role="status">${dirty ? "Not saved" : state.saved ? "Saved" : "No changes"}</span>
        ${dirty && html`<button class="quiet" onClick=${() => confirm("Take back every change that is not saved?") && takeBackAll()}>Take back</button>`}
        <button onClick=${() => showPlan(goTo)} disabled=${busy.plan || Boolean(checked?.fault)}>
          ${busy.plan ? "Planning …" : "Plan"}</button>
        <button class="main" onClick=${save} disabled=${!dirty || busy.save || Boolean(checked?.fault)} aria-keyshortcuts="Control+S">
          ${busy.save ? "Saving …" : "Save"}</button>
      </div>
    </header>`;
}

async function showPlan(goTo) {
  if (matchMedia("(max-width: 60rem)").matches) goTo("effect");
  await plan();
  document.querySelector(".side:not([hidden]) #plan, #panel-effect #plan")?.scrollIntoView({ block: "nearest" });
}

function Version() {
  const { sound, filled, version } = state;
  if (!sound || !filled) return null;
  const raise = sound.version_fault && version !== sound.least;
  return html`
    <div class="version">
      <label>version <input class="short" value=${version} onInput=${(event) => setVersion(event.target.value.trim())} /></label>
      ${sound.bump !== "none" &&
      html`<span class=${`bump ${raise ? "low" : ""}`}>${sound.bump} change since ${sound.was_version}</span>`}
      ${raise && html`<button class="small" onClick=${() => setVersion(sound.least)}>Raise to ${sound.least}</button>`}
    </div>`;
}

function Notices() {
  const { fault, checked, changedOnDisk } = state;
  const reload = () => confirm("Load the text from disk and lose the changes in this page?") && open();
  return html`
    ${changedOnDisk &&
    html`<div class="notice bad" role="alert"><p>${fault?.kind === "changed" ? fault.message : "The file has changed on disk since this page read it. Saving is refused until it is read again."}</p>
      <button onClick=${reload}>Load it from disk</button> <button class="quiet" onClick=${dismiss}>Keep editing</button></div>`}
    ${fault && fault.kind !== "changed" &&
    html`<div class="notice bad" role="alert"><p>${fault.message}</p><button class="quiet" onClick=${dismiss}>Close</button></div>`}
    ${checked?.fault &&
    html`<div class="notice bad" role="alert"><p>${checked.fault.line && html`<b>Line ${checked.fault.line}:</b> `}${checked.fault.sentence}</p></div>`}`;
}

function Tabs({ tab, setTab }) {
  const counts = { principles: state.rows?.filter((row) => !row.removed).length, pairs: state.whatIf?.changed };
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const names = TABS.map(([name]) => name).filter((name) => document.getElementById(`tab-${name}`).offsetParent);
    const next = names[(names.indexOf(tab) + step + names.length) % names.length];
    setTab(next);
    document.getElementById(`tab-${next}`).focus();
  };
  return html`
    <div class="tabs" role="tablist" aria-label="Views" onKeyDown=${move}>
      ${TABS.map(
        ([name, title]) => html`
          <button role="tab" id=${`tab-${name}`} class=${`tab-${name}`} aria-selected=${tab === name} aria-controls=${`panel-${name}`}
            tabindex=${tab === name ? 0 : -1} onClick=${() => setTab(name)}>${title}${counts[name] !== undefined && html` <span class="count">${counts[name].toLocaleString("en")}</span>`}</button>`,
      )}
    </div>
    <p class="hidden" role="status">${effectHeadline()}</p>`;
}

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") {
    event.preventDefault();
    save();
  }
});
addEventListener("beforeunload", (event) => unsaved() && event.preventDefault());
addEventListener("focus", lookAtDisk);

render(html`<${Page} />`, document.getElementById("app"));
open();
