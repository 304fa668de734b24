// Every stream as it is now, kept fresh by events; pages subscribe to the names that changed.
import { ask, now_s } from "./api.js";
import { listen, watchConnection } from "./events.js";
import { settled } from "./parts/element.js";
import { isOpen } from "./parts/words.js";

/** Streams by name. */
export const streams = new Map();
/** Levels by name, newer than those in `streams`. */
export const levels = new Map();
const POLL_MS = 10000;
// Streams that others removed are in no event.
const CHECK_MS = 60000;
const hearers = new Set();
let first = null;

/** Call `hear(names)` with the changed streams' names, or null when the list itself changed, until the signal. */
export function onStreams(hear, signal) {
  hearers.add(hear);
  signal.addEventListener("abort", () => hearers.delete(hear), { once: true });
}

/** Resolves once the streams have been read for the first time. */
export const known = () => (first ??= refresh());

/** Read all streams again. */
export async function refresh() {
  try {
    const found = (await ask("/streams")).streams;
    streams.clear();
    for (const stream of found) put(stream);
  } catch (error) {
    first = null;
    throw error;
  }
  tell(null);
}

/** Take over one stream as the API gave it. */
export function take(stream) {
  const is_new = !streams.has(stream.name);
  put(stream);
  tell(is_new ? null : [stream.name]);
}

export function forget(name) {
  streams.delete(name);
  levels.delete(name);
  tell(null);
}

/** Which second of the reference plays now, of an entry of `playing`. */
export function position_s(entry, delay_s = 0) {
  return entry.reference_start_s + (now_s() - (delay_s ?? 0) - entry.start_s) * (entry.tempo_ratio || 1);
}

function put(stream) {
  streams.set(stream.name, stream);
  levels.set(stream.name, stream.level_dbfs);
}

function tell(names) {
  for (const hear of [...hearers]) hear(names);
}

// A match says at once what plays; how long its reference is, only the stream's own answer says.
const readPlaying = new Map();
function onMatch(match) {
  const stream = streams.get(match.stream);
  if (!stream) return;
  const others = stream.playing.filter((entry) => entry.match_id !== match.match_id);
  const before = stream.playing.find((entry) => entry.match_id === match.match_id);
  stream.playing = isOpen(match.state) ? [{ ...before, ...match }, ...others] : others;
  tell([match.stream]);
  if (!isOpen(match.state) || before?.reference_duration_s) return;
  if (!readPlaying.has(match.stream)) readPlaying.set(match.stream, settled(() => readStream(match.stream)));
  readPlaying.get(match.stream)();
}

async function readStream(name) {
  try {
    take(await ask(`/streams/${encodeURIComponent(name)}`));
  } catch {
    // The next event or reconnection corrects what this could not.
  }
}

export function keepFresh() {
  listen("stream", take);
  listen("match", onMatch);
  // More was missed than is told again.
  listen("reset", () => refresh().catch(() => {}));
  listen("level", ({ levels: said }) => {
    for (const [name, dbfs] of Object.entries(said)) levels.set(name, dbfs);
  });
  let was = null;
  let timer;
  watchConnection((connected) => {
    // What happened while no events arrived is only in the list; and it is asked for while none arrive.
    if (connected && was === false) refresh().catch(() => {});
    clearInterval(timer);
    timer = setInterval(() => refresh().catch(() => {}), connected === false ? POLL_MS : CHECK_MS);
    was = connected;
  });
}
