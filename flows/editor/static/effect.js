// What the edit does: weights as sliders with their what-if, what it means by fields, and the plan.

import { html } from "./vendor/preact-htm.js";
import { apart, count, minutes, percent, plural, short } from "./figures.js";
import { NoRun } from "./pairs.js";
import { NumberField } from "./principles.js";
import { plan, setField, state } from "./state.js";

const KINDS = [
  ["flipped", "flip"], ["tied", "become ties"], ["decided", "were ties"], ["new", "are new"], ["lost", "are lost"],
  ["weakened", "weaken"], ["strengthened", "strengthen"], ["same", "as before"],
];
const HIGHEST = 3;

export function Effect({ goTo }) {
  return html`
    <section class="card"><h2>What if</h2><${WhatIf} goTo=${goTo} /><${Weights} /><${Balance} /><${Tags} /></section>
    <section class="card"><h2>What the edit means</h2><${Meaning} /></section>
    <section class="card" id="plan"><h2>Plan</h2><${Plan} /></section>`;
}

export function effectHeadline() {
  const { whatIf } = state;
  if (whatIf?.state !== "ready") return "";
  return `${count(whatIf.changed)} of ${plural(whatIf.pairs, "label")} would have another outcome`;
}

function WhatIf({ goTo }) {
  const { whatIf, file } = state;
  if (!file.run) return html`<${NoRun} />`;
  if (!whatIf || whatIf.state === "reading") return html`<p class="about">Reading the verdicts of ${file.run.path} …</p>`;
  if (whatIf.state === "fault") return html`<p class="fault">${whatIf.fault}</p>`;
  return html`
    <p class=${`lead ${whatIf.stale ? "stale" : ""}`}><b>${count(whatIf.changed)}</b> of ${plural(whatIf.pairs, "label")} would change
      ${" "}<span>(${percent(whatIf.changed / (whatIf.pairs || 1), 1)})</span></p>
    <${Kinds} changes=${whatIf.changes} pairs=${whatIf.pairs} />
    ${whatIf.changed > 0 && html`<button class="small link" onClick=${() => goTo("pairs")}>See the pairs that move most</button>`}
    <${Gold} gold=${whatIf.gold} />
    ${whatIf.vetoed.before !== whatIf.vetoed.after && html`<p class="figure"><span>Decided by a veto</span><b>${count(whatIf.vetoed.before)} → ${count(whatIf.vetoed.after)}</b></p>`}
    <${Unknown} title="Counted with the verdicts of their old words, until the new ones are judged" names=${whatIf.stood_in} />
    <${Unknown} title="Left out, as nobody has judged them yet" names=${whatIf.left_out} />`;
}

const arrow = (before, after) => (before === after ? after : `${before} → ${after}`);

function Kinds({ changes, pairs }) {
  const shown = KINDS.filter(([kind]) => changes[kind]);
  return html`
    <div class="stack" aria-hidden="true">
      ${shown.map(([kind]) => html`<i class=${kind} style=${{ width: `${(100 * changes[kind]) / pairs}%` }}></i>`)}
    </div>
    <ul class="legend">${shown.map(([kind, title]) => html`<li><i class=${kind}></i>${count(changes[kind])} ${title}</li>`)}</ul>`;
}

function Gold({ gold }) {
  if (!gold) return null;
  const how = gold.gained || gold.lost ? `${plural(gold.gained, "label")} gained, ${gold.lost} lost; McNemar p ${gold.p < 0.01 ? "< 0.01" : `= ${gold.p.toFixed(2)}`}` : "no label gained or lost";
  return html`
    <p class="figure"><span>Agreement with gold</span><b>${arrow(percent(gold.before, 1), percent(gold.after, 1))}</b></p>
    <p class="about">on ${plural(gold.pairs, "pair")} that both decide; ${how}</p>`;
}

function Unknown({ title, names }) {
  return names.length > 0 && html`<p class="unknown">${title}: ${names.map((name, index) => html`${index > 0 && ", "}<code>${name}</code>`)}.</p>`;
}

function Weights() {
  if (!state.filled) return null;
  const rows = state.rows.filter((row) => !row.removed);
  const highest = Math.max(HIGHEST, ...state.filled.rows.map((row) => 2 * row.weight));
  return html`
    <h3>Weights</h3>
    <ul class="weights">${rows.map((row) => html`<${Weight} key=${row.key} row=${row} highest=${highest} />`)}</ul>`;
}

function Weight({ row, highest }) {
  const idle = row.status !== "active" ? row.status : row.severity === "info" ? "measured only" : "";
  const was = row.origin === null ? null : state.filled.rows[row.origin].weight;
  const set = (value) => setField(row.key, "weight", value);
  const value = Number(row.weight) || 0;
  return html`
    <li class=${was !== row.weight ? "changed" : ""}>
      <span class="name" title=${row.text}><code>${row.id}</code>${row.severity === "hard" && !idle && html` <small>hard</small>`}${idle && html` <small>${idle}</small>`}</span>
      <input type="range" min="0" max=${Math.max(highest, value)} step="0.1" value=${value} disabled=${Boolean(idle)} aria-label=${`Weight of ${row.id}`}
        onInput=${(event) => set(event.target.valueAsNumber)} />
      <${NumberField} value=${row.weight} min="0" step="0.1" label=${`Weight of ${row.id} as a number`} onChange=${set} />
    </li>`;
}

function Balance() {
  const balance = state.whatIf?.balance;
  if (!balance) return null;
  const longest = Math.max(...[...balance.tier, ...balance.tag].flatMap((row) => [row.before, row.after]), 0.01);
  const width = (share) => ({ width: `${(100 * share) / longest}%` });
  const groups = [["tier", "Where the labels come from, by tier"], ["tag", "By the tags that principles are for"]];
  return groups.filter(([by]) => balance[by].length).map(([by, title]) => html`
    <h3>${title}</h3>
    <table class="balance">
      <thead class="hidden"><tr><th>${by}</th><th>before</th><th>now</th></tr></thead>
      <tbody>${balance[by].map((row) => html`
        <tr><th scope="row">${row.name}</th>
          <td class="bars" aria-hidden="true"><i class="then" style=${width(row.before)}></i><i class="now" style=${width(row.after)}></i></td>
          <td>${arrow(percent(row.before), percent(row.after))}</td></tr>`)}</tbody>
    </table>
    <p class="legend"><span><i class="then"></i>before</span><span><i class="now"></i>now</span></p>`);
}

function Tags() {
  const { whatIf } = state;
  if (!whatIf?.changed) return null;
  const outcome = (row) => row.flipped + row.tied + row.decided + row.new + row.lost;
  const total = (row) => Object.values(row).reduce((sum, number) => sum + number, 0);
  const rows = Object.entries(whatIf.by_tag).map(([tag, row]) => [tag, outcome(row), total(row)]).filter(([, changed]) => changed);
  rows.sort((one, other) => other[1] - one[1]);
  return html`
    <details><summary>Changed labels by the prompts' tags</summary>
      <table><tbody>${rows.map(([tag, changed, pairs]) => html`<tr><th scope="row">${tag}</th><td>${count(changed)} of ${count(pairs)}</td></tr>`)}</tbody></table>
    </details>`;
}

function Meaning() {
  const { checked } = state;
  if (!checked || checked.fault) return html`<p class="about">Known as soon as the text loads.</p>`;
  if (!checked.changes.length) return html`<p class="about">No difference in meaning. Comments, quoting and order of keys are none.</p>`;
  return html`
    <ul class="changes">${checked.changes.map((each) => html`
      <li><b>${[each.principle, each.field].filter(Boolean).join(".")}</b> ${spelled(each)}<br /><small>${each.bump}: ${each.why}. Costs: ${each.cost}.</small></li>`)}</ul>
    <p class="about">Judged again: ${checked.rejudged.join(", ") || "nothing"}.${checked.rescoped.length > 0 && ` Judged where newly covered: ${checked.rescoped.join(", ")}.`}</p>`;
}

function spelled({ kind, old, new: now }) {
  if (kind === "added") return "is added";
  if (kind === "removed") return "is removed";
  if (kind === "renamed") return html`is the new name of <code>${old}</code>`;
  const texts = typeof old === "string" && typeof now === "string";
  const [was, is] = texts ? apart(old, now) : [short(old), short(now)];
  return html`<del>${was}</del> → <ins>${is}</ins>`;
}

function Plan() {
  const { plan: made, busy, checked } = state;
  const button = html`<button onClick=${plan} disabled=${busy.plan || Boolean(checked?.fault)}>${busy.plan ? "Planning …" : made ? "Plan again" : "Plan this edit"}</button>`;
  if (!made) return html`<p class="about">Counts the judge calls that the edit needs. Asks nobody and costs nothing.</p>${button}`;
  if (made.state === "fault") return html`<p class="fault">${made.fault}</p>${button}`;
  if (made.state === "no run") {
    return html`<p>To judge again: ${made.rejudged.concat(made.rescoped).join(", ") || "nothing"}.</p><p class="about">With <code>--run RUN</code>: calls, tokens and minutes.</p>${button}`;
  }
  return html`<div class=${made.stale ? "stale" : ""}>${made.stale && html`<p class="unknown">The text has changed since.</p>`}<${Costs} made=${made} /></div>${button}`;
}

function Costs({ made }) {
  if (!made.calls) {
    const { rate, changed, pairs } = made.flip_rate;
    return html`<p class="lead"><b>0</b> judge calls</p>
      <p class="about">Every verdict is stored. ${rate !== null && `${count(changed)} of ${count(pairs)} labels (${percent(rate, 1)}) change; this is exact.`}</p>`;
  }
  const known = made.observed !== null;
  return html`
    <p class="lead"><b>${count(made.calls)}</b> judge calls${known && html` <span>in about ${minutes(made.minutes)}</span>`}</p>
    ${made.money !== null && html`<p class="figure"><span>Money</span><b>${made.money.toLocaleString("en", { maximumFractionDigits: 2 })} ${made.currency}</b></p>`}
    <table class="costs">
      <thead><tr><th>principle</th><th>calls</th>${known && html`<th>tokens</th><th>time</th>`}</tr></thead>
      <tbody>${made.by_principle.map((row) => html`<tr><th scope="row">${row.principle}</th><td>${count(row.calls)}</td>
        ${known && html`<td>${count(row.tokens)}</td><td>${minutes(row.minutes)}</td>`}</tr>`)}</tbody>
    </table>
    <p class="about">${known ? `At ${count(Math.round(made.observed.calls_per_s))} calls/s (${made.observed.source.replace(/T(\d\d:\d\d).*/, " $1 UTC")}).` : "Time is unknown: no stage of this run has asked the judge yet."}
      ${" "}After saving, <code>ratify apply</code> asks for them and writes the labels.</p>`;
}
