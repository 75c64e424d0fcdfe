// The pairs of replies whose label changes most, side by side: from which probability to which, and what moved it.

import { html } from "./vendor/preact-htm.js";
import { percent, signed } from "./figures.js";
import { state } from "./state.js";

const CHANGES = {
  flipped: "flips", tied: "becomes a tie", decided: "was a tie", new: "is new", lost: "is lost",
};

export function Pairs() {
  const { whatIf, file } = state;
  if (!file.run) return html`<${NoRun} />`;
  if (!whatIf || whatIf.state === "reading") return html`<p class="empty">Reading the run's verdicts …</p>`;
  if (whatIf.state === "fault") return html`<p class="empty">${whatIf.fault}</p>`;
  if (!whatIf.flips.length) {
    return html`<p class="empty">No label has another outcome. Move a weight, and the pairs that change stand here.</p>`;
  }
  return html`
    <p class="about">${whatIf.flips.length < whatIf.changed ? `The ${whatIf.flips.length} of ${whatIf.changed.toLocaleString("en")} changed pairs that move most.` : "Every pair whose label changes."}
      ${" "}The bar is the probability that reply A is better.</p>
    ${whatIf.flips.map((pair) => html`<${Pair} key=${`${pair.a_id} ${pair.b_id}`} pair=${pair} />`)}`;
}

export function NoRun() {
  return html`<div class="empty"><p>What an edit does to labels needs labels. Start the page with a run:</p>
    <pre>ratify constitution edit ${state.file.path} --run RUN</pre>
    <p>A run is made by <code>ratify run CONFIG</code>, or by <code>ratify generate</code> and <code>ratify label</code> alone.</p></div>`;
}

function Pair({ pair }) {
  const { before, after } = pair;
  const better = (side) => `${before.outcome === side ? "preferred before" : ""}${before.outcome === side && after.outcome === side ? " and " : ""}${after.outcome === side ? "preferred now" : ""}`;
  return html`
    <article class="card pair">
      <header><p class="prompt">${pair.prompt}</p><span class="mark">${CHANGES[pair.change] ?? pair.change}</span></header>
      <${Probability} before=${before} after=${after} />
      <div class="replies">
        ${["a", "b"].map((side) => html`
          <section class=${after.outcome === side ? "now" : before.outcome === side ? "then" : ""}>
            <h3>Reply ${side.toUpperCase()} <small>${better(side)}</small></h3>
            <p>${pair[side]}</p>
          </section>`)}
      </div>
      <p class="movers">Moved by ${pair.movers.map((each) => html`<span><code>${each.principle}</code> ${signed(each.shift)} ${each.shift > 0 ? "to A" : "to B"}</span>`)}
        ${after.vetoed && !before.vetoed && html`<span>a veto, which is new</span>`}${before.vetoed && !after.vetoed && html`<span>a veto that is gone</span>`}</p>
    </article>`;
}

function Probability({ before, after }) {
  const at = (outcome) => (outcome.probability === null ? null : `${100 * outcome.probability}%`);
  const said = (outcome) => (outcome.probability === null ? "no label" : percent(outcome.probability));
  return html`
    <div class="probability">
      <span class="then">${said(before)}</span>
      <div class="track" aria-hidden="true"><i class="half"></i>
        ${at(before) && html`<i class="dot then" style=${{ left: at(before) }}></i>`}
        ${at(after) && html`<i class="dot now" style=${{ left: at(after) }}></i>`}</div>
      <span class="now">${said(after)}</span>
      <span class="hidden">Probability that A is better: ${said(before)} before, ${said(after)} now.</span>
    </div>`;
}
