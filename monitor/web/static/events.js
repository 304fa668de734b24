// The daemon's server-sent events, read by fetch: EventSource could carry no token.
import { address, authorization, mayTryAgain, problemOf } from "./api.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15000;
// The daemon pings every 15 s: so long without a byte means that the connection is dead.
const SILENCE_MS = 40000;

const hearers = new Map();
const watchers = new Set();
let last_id = null;
let connected = null;

/** Call `hear(data)` for each event of that type until the signal. */
export function listen(type, hear, signal) {
  if (!hearers.has(type)) hearers.set(type, new Set());
  hearers.get(type).add(hear);
  signal?.addEventListener("abort", () => hearers.get(type).delete(hear), { once: true });
}

/** Call `changed(connected)` now and whenever events begin or cease to arrive; null while that is not known. */
export function watchConnection(changed, signal) {
  watchers.add(changed);
  changed(connected);
  signal?.addEventListener("abort", () => watchers.delete(changed), { once: true });
}

function setConnected(value) {
  if (connected === value) return;
  connected = value;
  for (const changed of [...watchers]) changed(value);
}

function dispatch({ id, type, data }) {
  if (id !== null) last_id = id;
  if (!data.length) return;
  const parsed = JSON.parse(data.join("\n"));
  for (const hear of [...(hearers.get(type) ?? [])]) hear(parsed);
}

/** Feed text in pieces; calls `told` with each whole event (WHATWG HTML, server-sent events). */
export function parser(told) {
  let rest = "";
  let event = { id: null, type: "message", data: [] };
  return (text) => {
    const lines = (rest + text).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        told(event);
        event = { id: null, type: "message", data: [] };
        continue;
      }
      const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(line);
      if (field === "data") event.data.push(value);
      else if (field === "event") event.type = value;
      else if (field === "id") event.id = value;
    }
  };
}

async function readOnce() {
  const stop = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE_MS);
  };
  try {
    alive();
    const headers = { Accept: "text/event-stream", ...authorization() };
    if (last_id !== null) headers["Last-Event-ID"] = last_id;
    const answer = await fetch(address("/events"), { headers, signal: stop.signal, cache: "no-store" });
    if (!answer.ok) throw await problemOf(answer);
    setConnected(true);
    const feed = parser(dispatch);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      feed(value);
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}

/** Stay connected for as long as the page is open. */
export async function stayConnected() {
  let wait_ms = FIRST_WAIT_MS;
  for (;;) {
    const begun = Date.now();
    try {
      await readOnce();
    } catch (error) {
      if (await mayTryAgain(error)) continue;
    }
    setConnected(false);
    wait_ms = Date.now() - begun > LONGEST_WAIT_MS ? FIRST_WAIT_MS : Math.min(wait_ms * 2, LONGEST_WAIT_MS);
    await new Promise((resolve) => setTimeout(resolve, wait_ms * (0.5 + Math.random() / 2)));
  }
}
