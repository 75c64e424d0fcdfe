// Requests to the server that opened this page. The token comes from the address's fragment, which is never sent along.

const KEPT = "ratify-token";

function token() {
  const given = location.hash.slice(1);
  if (given) sessionStorage.setItem(KEPT, given);
  return given || sessionStorage.getItem(KEPT) || "";
}

export class Fault extends Error {
  constructor(sentence, kind) {
    super(sentence);
    this.kind = kind;
  }
}

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, { ...options, headers: { "x-ratify-token": token(), "content-type": "application/json" } });
  } catch {
    throw new Fault("The command behind this page has stopped. Your changes are still in this page: copy its YAML before you close it.", "gone");
  }
  const said = await answer.json().catch(() => ({ fault: `The server answered with an error (${answer.status}).` }));
  if (!answer.ok) throw new Fault(said.fault, said.kind);
  return said;
}

export const get = (path) => ask(path, {});
export const post = (path, body) => ask(path, { method: "POST", body: JSON.stringify(body) });

/** Calls `work` with the newest argument: one call at a time, and never for one that has been replaced meanwhile. */
export function newestOnly(work) {
  let running = false;
  let waiting = null;
  return async function next(argument) {
    if (running) {
      waiting = [argument];
      return;
    }
    running = true;
    try {
      await work(argument);
    } finally {
      running = false;
      if (waiting) {
        const [newest] = waiting;
        waiting = null;
        next(newest);
      }
    }
  };
}
