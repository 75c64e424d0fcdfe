// The principles as a form: one card each, with what lint says of it below its text.

import { html, useLayoutEffect, useRef } from "./vendor/preact-htm.js";
import { addPrinciple, changedFields, kept, putBack, remove, setField, setSetting, state, takeBack, unwritten } from "./state.js";

const SEVERITIES = [["hard", "hard: vetoes"], ["soft", "soft: is weighed"], ["info", "info: measured only"]];
const STATUSES = [["active", "active"], ["draft", "draft: not judged"], ["retired", "retired"]];

export function Principles({ goTo }) {
  if (!state.filled) {
    return html`<div class="empty"><p>The text does not load as it is, so there is no form to show.</p>
      <button onClick=${() => goTo("source")}>Mend it in the YAML</button></div>`;
  }
  const places = new Map(kept().map((row, index) => [row.key, index]));
  const general = remarks(null);
  return html`
    ${general.length > 0 && html`<div class="card general"><h2>About the whole</h2><${Findings} found=${general} /></div>`}
    <${Settings} />
    <ol class="principles">
      ${state.rows.map((row) => html`<${Principle} key=${row.key} row=${row} place=${places.get(row.key)} />`)}
    </ol>
    <button class="add" onClick=${() => focusOn(addPrinciple())}>Add a principle</button>`;
}

function focusOn(key) {
  requestAnimationFrame(() => {
    const card = document.getElementById(`principle-${key}`);
    card?.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    card?.querySelector("textarea")?.focus({ preventScroll: true });
  });
}

const remarks = (place) => (state.checked?.findings ?? []).filter((each) => each.principle === place);

function Principle({ row, place }) {
  if (row.removed) {
    return html`<li class="card removed"><p><code>${row.id}</code> will be removed.</p>
      <button class="small" onClick=${() => putBack(row.key)}>Put back</button></li>`;
  }
  const fields = changedFields(row);
  const fault = state.checked?.fault?.principle === place ? state.checked.fault : null;
  const marks = [row.origin === null ? (unwritten(row) ? "new: needs a text" : "new") : fields.length > 0 && "changed", row.origin !== null && fields.includes("id") && `was ${state.filled.rows[row.origin].id}`];
  const set = (name) => (event) => setField(row.key, name, event.target.value);
  const name = `text-${row.key}`;
  return html`
    <li class=${`card principle ${fields.length ? "changed" : ""} ${row.status}`} id=${`principle-${row.key}`}>
      <div class="head">
        <input class="id" value=${row.id} onInput=${set("id")} aria-label="Name of the principle" spellcheck="false" autocapitalize="off" />
        ${marks.filter(Boolean).map((mark) => html`<span class="mark">${mark}</span>`)}
        <span class="grow"></span>
        ${row.origin !== null && fields.length > 0 && html`<button class="small quiet" onClick=${() => takeBack(row.key)}>Take back</button>`}
        <button class="small quiet" onClick=${() => remove(row.key)} aria-label=${`Remove ${row.id}`}>Remove</button>
      </div>
      <label class="hidden" for=${name}>Text of ${row.id}</label>
      <${Growing} id=${name} value=${row.text} onInput=${set("text")} described=${`remarks-${row.key}`} wrong=${Boolean(fault)} />
      <div class="fields">
        <label>Tier <${Select} value=${row.tier ?? ""} options=${[["", "none"], ...(state.checked?.tiers ?? tiersKnown()).map((tier) => [tier, tier])]}
          onChange=${(value) => setField(row.key, "tier", value || null)} /></label>
        <label>Severity <${Select} value=${row.severity} options=${SEVERITIES} onChange=${(value) => setField(row.key, "severity", value)} /></label>
        <label>Status <${Select} value=${row.status} options=${STATUSES} onChange=${(value) => setField(row.key, "status", value)} /></label>
        <label>Weight <${NumberField} value=${row.weight} min="0" step="0.1" onChange=${(value) => setField(row.key, "weight", value)} /></label>
      </div>
      <${Besides} row=${row} />
      <div id=${`remarks-${row.key}`}>
        ${fault && html`<p class="fault">${fault.line && html`Line ${fault.line}: `}${fault.sentence}</p>`}
        <${Findings} found=${remarks(place)} />
      </div>
    </li>`;
}

const tiersKnown = () => [...new Set(state.filled.rows.map((row) => row.tier).filter(Boolean))];

function Besides({ row }) {
  const count = (number, word) => (number ? `${number} ${word}${number > 1 ? "s" : ""}` : "");
  const parts = [count(row.checks, "check"), count(row.tests, "test"), count(row.examples, "example"), row.scope.length ? `only for ${row.scope.join(", ")}` : ""];
  const said = parts.filter(Boolean).join(" · ");
  return said && html`<p class="besides">${said}</p>`;
}

export function Findings({ found }) {
  return found.length > 0 && html`
    <ul class="findings">
      ${found.map((each) => html`<li><code>${each.code}</code> <span>${quoted(each.why)}; <b>${quoted(each.remedy)}</b>.</span> <small>line ${each.line}</small></li>`)}
    </ul>`;
}

/** A sentence whose `quoted` parts are code. */
const quoted = (sentence) => sentence.split("`").map((part, index) => (index % 2 ? html`<code>${part}</code>` : part));

/** A text field as high as its text. */
function Growing({ id, value, onInput, described, wrong }) {
  const field = useRef();
  const fit = () => {
    const { current } = field;
    current.style.height = "auto";
    if (current.scrollHeight) current.style.height = `${current.scrollHeight + 2}px`;
  };
  useLayoutEffect(fit, [value]);
  useLayoutEffect(() => {
    addEventListener("resize", fit);
    return () => removeEventListener("resize", fit);
  }, []);
  return html`<textarea ref=${field} id=${id} rows="1" value=${value} onInput=${onInput} aria-describedby=${described} aria-invalid=${wrong}
    placeholder="The reply …"></textarea>`;
}

export function Select({ value, options, onChange, label }) {
  const known = options.some(([name]) => name === value) ? options : [...options, [value, value]];
  return html`<select value=${value} aria-label=${label} onChange=${(event) => onChange(event.target.value)}>
    ${known.map(([name, title]) => html`<option value=${name} selected=${name === value}>${title}</option>`)}
  </select>`;
}

/** A number; what is no number is passed on as it is, so that the schema can say so. */
export function NumberField({ value, onChange, label, ...more }) {
  const typed = (event) => {
    const number = event.target.valueAsNumber;
    onChange(Number.isNaN(number) ? event.target.value : number);
  };
  return html`<input type="number" value=${value} onInput=${typed} aria-label=${label} ...${more} />`;
}

function Settings() {
  const { settings } = state;
  const number = (name, title, help, max) => html`
    <label title=${help}>${title} <${NumberField} value=${settings[name]} min="0" max=${max} step="0.01" onChange=${(value) => setSetting(name, value)} /></label>`;
  const clamp = settings["aggregate.clamp"];
  return html`
    <details class="card settings">
      <summary>How verdicts add up</summary>
      <div class="fields">
        <label>Method <${Select} value=${settings["aggregate.method"]} options=${["logit_mean", "logit_sum", "probability_mean"].map((name) => [name, name.replace("_", " ")])}
          onChange=${(value) => setSetting("aggregate.method", value)} /></label>
        <label>Hard principles <${Select} value=${settings["aggregate.hard"]} options=${[["veto", "veto"], ["weigh", "are weighed"]]}
          onChange=${(value) => setSetting("aggregate.hard", value)} /></label>
        ${number("aggregate.veto_margin", "Veto from", "Log-odds between the replies from which on a hard principle vetoes")}
        ${number("aggregate.min_margin", "Tie below", "A margin in log-odds that is smaller than this is a tie")}
        ${number("judge_defaults.tie_band", "Tie band", "A probability nearer to one half than this is a tie", "0.49")}
        <label title="Least and greatest probability that one verdict may claim">Clamp <${Select} value=${JSON.stringify(clamp)}
          options=${[[0.01, 0.99], [0.02, 0.98], [0.05, 0.95], [0.1, 0.9], [0.2, 0.8]].map((pair) => [JSON.stringify(pair), pair.join(" to ")]).concat([["null", "none"]])}
          onChange=${(value) => setSetting("aggregate.clamp", JSON.parse(value))} /></label>
      </div>
    </details>`;
}
