// The file as text. Typing here fills the form anew as soon as the text loads; below it, the difference in lines.

import { html, useLayoutEffect, useRef } from "./vendor/preact-htm.js";
import { setText, state, text } from "./state.js";

export function Source() {
  const shown = text();
  const numbers = useRef();
  const field = useRef();
  const follow = () => { numbers.current.scrollTop = field.current.scrollTop; };
  useLayoutEffect(follow);
  const fault = state.checked?.fault?.line;
  const marked = new Set((state.checked?.findings ?? []).map((each) => each.line));
  const lines = shown.split("\n").length;
  return html`
    <p class="about">What is saved. Comments and layout stay as they are; everything can be edited here, also what the form does not show.</p>
    <div class="source">
      <ol class="numbers" ref=${numbers} aria-hidden="true">
        ${Array.from({ length: lines }, (_, index) => html`<li class=${fault === index + 1 ? "fault" : marked.has(index + 1) ? "finding" : ""}>${index + 1}</li>`)}
      </ol>
      <textarea ref=${field} value=${shown} onInput=${(event) => setText(event.target.value)} onScroll=${follow} wrap="off" spellcheck="false"
        autocapitalize="off" aria-label="The constitution as YAML" aria-invalid=${Boolean(fault)}></textarea>
    </div>
    <${Difference} lines=${state.checked?.lines ?? []} />`;
}

function Difference({ lines }) {
  const kind = { "+": "plus", "-": "minus", "@": "place" };
  return html`
    <h2>Difference ${state.file.against ? `to ${state.file.against}` : "since it was opened"}</h2>
    ${lines.length
      ? html`<pre class="difference" tabindex="0" aria-label="Changed lines">${lines.map((line) => html`<span class=${kind[line[0]] ?? ""}>${line || " "}\n</span>`)}</pre>`
      : html`<p class="about">None.</p>`}`;
}
