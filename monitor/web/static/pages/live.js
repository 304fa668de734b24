// Live: a card for each stream. Only what changed is touched, and only cards in sight tick.
import { ask, now_s } from "../api.js";
import { listen } from "../events.js";
import { h, repeat, write } from "../parts/element.js";
import { counted, length, level, span } from "../parts/format.js";
import { bone, empty, failed, searchField, segments } from "../parts/states.js";
import { merged, strip, stripKey } from "../parts/strip.js";
import { matchBadge, reasonWord, streamWord, titleOf } from "../parts/words.js";
import { known, levels, onStreams, position_s, streams } from "../roster.js";

const DAY_S = 86400;
const TICK_MS = 1000;
const STRIPS_MS = 60000;
const HISTORY_MS = 300000;
const QUIETEST_DBFS = -60;

const SHOWN = [["all", "All"], ["playing", "Playing"], ["unheard", "Not heard"]];
const UNHEARD = { paused: "Not listened to", stopped: "Not listened to", connecting: "Waiting for the first sound" };
const isUnheard = (stream) => !stream.up;

function card(name) {
  const dot = h("span.dot");
  const state = h("span.state");
  const meter = h("i");
  const loud = h("span.loud");
  const title = h("p.playing-title");
  const about = h("p.playing-about");
  const bar = h("i");
  const at = h("span");
  const whole = h("span");
  const progress = h("div.progress", {}, at, h("span.bar", {}, bar), whole);
  const past = strip({ open: (match_id) => (location.hash = `#/matches/${match_id}`) });
  const element = h(
    "li.card",
    {},
    h("div.card-head", {}, dot, h("a.card-name", { href: `#/streams/${encodeURIComponent(name)}` }, name), state),
    h("div.level", {}, h("span.bar.ok", {}, meter), loud),
    h("div.now", {}, title, about, progress),
    past.element,
  );
  let entry = null;
  let stream = null;
  let tone = null;

  function update(now) {
    stream = now;
    const [word, named] = streamWord(stream.state);
    if (tone !== named) {
      tone = named;
      dot.className = `dot ${tone}`;
    }
    write(state, word);
    state.title = stream.detail || "";
    element.classList.toggle("unheard", !stream.up);
    entry = stream.playing[0] ?? null;
    element.classList.toggle("plays", Boolean(entry));
    progress.hidden = !entry;
    if (entry) {
      const key = `${entry.match_id} ${entry.state} ${stream.playing.length}`;
      if (title.dataset.key !== key) {
        title.dataset.key = key;
        title.replaceChildren(h("a", { href: `#/matches/${entry.match_id}` }, titleOf(entry)), entry.state === "provisional" ? matchBadge(entry.state) : "");
        const more = stream.playing.length - 1;
        write(about, [entry.artist, more > 0 ? `and ${more} more` : ""].filter(Boolean).join(" · ") || "\u00a0");
      }
    } else {
      delete title.dataset.key;
      write(title, stream.up ? "Nothing of the catalog" : reasonWord(stream.reason) || UNHEARD[stream.state] || stream.detail || word);
    }
    tick();
  }

  function tick() {
    if (!stream) return;
    const dbfs = stream.up ? levels.get(name) : null;
    const ratio = dbfs === null || dbfs === undefined ? 0 : Math.min(1, Math.max(0, 1 - dbfs / QUIETEST_DBFS));
    meter.style.transform = `scaleX(${ratio.toFixed(3)})`;
    write(loud, stream.up ? level(dbfs) : "");
    if (!entry) return write(about, stream.up ? "\u00a0" : `for ${span(now_s() - stream.since_s)}`);
    const second = Math.max(0, position_s(entry));
    const duration_s = entry.reference_duration_s;
    write(at, length(duration_s ? Math.min(second, duration_s) : second));
    write(whole, duration_s ? length(duration_s) : "");
    bar.style.transform = `scaleX(${duration_s ? Math.min(1, second / duration_s).toFixed(4) : 0})`;
  }

  return { element, update, tick, past };
}

function skeleton() {
  return h("li.card", { "aria-hidden": "true" }, bone("45%"), bone("100%"), bone("70%"), bone("40%"), bone("100%"));
}

export function live(view, { signal, query }) {
  const lead = h("p.lead", { role: "status" });
  const list = h("ul.cards", { "aria-label": "Streams", "aria-busy": "true" }, Array.from({ length: 6 }, skeleton));
  const instead = h("div");
  let text = "";
  let which = SHOWN.some(([name]) => name === query.get("show")) ? query.get("show") : "all";
  const filters = h(
    "div.filters",
    {},
    searchField("Filter streams", "", (value) => ((text = value.toLowerCase()), arrange())),
    segments("Which streams", SHOWN, which, (value) => ((which = value), arrange())),
    h("span.end.keys", {}, h("span.key", {}, "Last 24 hours:"), stripKey()),
  );
  view.append(h("header", {}, h("h1", {}, "Live"), lead), filters, list, instead);

  const cards = new Map();
  const visible = new Set();
  let history = {};
  let history_known = false;

  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) visible.delete(target.dataset.name);
      else {
        visible.add(target.dataset.name);
        cards.get(target.dataset.name)?.tick();
        drawStrip(target.dataset.name);
      }
    }
  }, { rootMargin: "200px" });
  signal.addEventListener("abort", () => sight.disconnect(), { once: true });

  function drawStrip(name) {
    const stream = streams.get(name);
    if (!history_known || !stream) return;
    const to_s = now_s();
    const past = history[name] ?? { matches: [], gaps: [] };
    // A gap is written down when it ends: the one that lasts is known by the state.
    const unheard = isUnheard(stream) ? [{ start_s: Math.max(stream.since_s, to_s - DAY_S), end_s: to_s }] : [];
    cards.get(name)?.past.draw({ matches: past.matches, gaps: [...past.gaps, ...unheard], from_s: to_s - DAY_S, to_s });
  }

  function summary() {
    const all = [...streams.values()];
    const playing = all.filter((stream) => stream.playing.length).length;
    const unheard = all.filter(isUnheard).length;
    const parts = [counted(all.length, "stream"), `${playing} playing something of yours`];
    if (unheard) parts.push(`${unheard} not heard`);
    write(lead, all.length ? parts.join(" · ") : "");
  }

  const wanted = (stream) =>
    (which === "all" || (which === "playing" ? stream.playing.length > 0 : isUnheard(stream))) &&
    (!text || [stream.name, ...stream.playing.map((entry) => `${entry.title} ${entry.artist} ${entry.reference_id}`)].some((word) => word.toLowerCase().includes(text)));

  /** Show the cards that are wanted, in the order of their names, moving none that stands right. */
  function arrange() {
    if (list.hasAttribute("aria-busy")) return;
    const names = [...streams.keys()].sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    for (const [name, made] of cards) {
      if (streams.has(name)) continue;
      sight.unobserve(made.element);
      made.element.remove();
      cards.delete(name);
    }
    let shown = 0;
    let place = list.firstElementChild;
    for (const name of names) {
      if (!cards.has(name)) {
        const made = card(name);
        made.element.dataset.name = name;
        cards.set(name, made);
        made.update(streams.get(name));
        sight.observe(made.element);
      }
      const { element } = cards.get(name);
      element.hidden = !wanted(streams.get(name));
      shown += !element.hidden;
      if (element !== place) list.insertBefore(element, place);
      else place = place.nextElementSibling;
    }
    instead.replaceChildren(...(shown ? [] : [nothing()]));
    summary();
  }

  function nothing() {
    if (!streams.size) return empty("streams", "No stream yet", "Add a stream, and what it plays of your catalog appears here within seconds.", h("a.button.primary", { href: "#/streams?add=1" }, "Add a stream"));
    if (which === "unheard" && !text) return empty("done", "Every stream is heard", "Streams that stop, fall silent or cannot be reached are listed here.");
    if (which === "playing" && !text) return empty("live", "Nothing of the catalog plays now", "Matches appear here seconds after they go on air.", h("a.button", { href: "#/matches" }, "See past matches"));
    return empty("search", "No stream fits", "Change the filter above to see more.");
  }

  async function start() {
    try {
      await known();
      if (signal.aborted) return;
      list.removeAttribute("aria-busy");
      list.replaceChildren();
      instead.replaceChildren();
      arrange();
      await readHistory();
    } catch (error) {
      list.replaceChildren();
      if (!signal.aborted) instead.replaceChildren(failed(error, start));
    }
  }

  async function readHistory() {
    history = (await ask("/history", { query: { hours: 24 }, signal })).streams;
    history_known = true;
    visible.forEach(drawStrip);
  }

  onStreams((names) => {
    if (!names) {
      for (const [name, made] of cards) if (streams.has(name)) made.update(streams.get(name));
      return arrange();
    }
    for (const name of names) cards.get(name)?.update(streams.get(name));
    if (which !== "all" || text) arrange();
    else summary();
  }, signal);
  listen("match", (match) => {
    const past = (history[match.stream] ??= { matches: [], gaps: [] });
    merged(past.matches, match);
    if (visible.has(match.stream)) drawStrip(match.stream);
  }, signal);
  repeat(() => document.hidden || visible.forEach((name) => cards.get(name)?.tick()), TICK_MS, signal);
  repeat(() => document.hidden || visible.forEach(drawStrip), STRIPS_MS, signal);
  repeat(() => readHistory().catch(() => {}), HISTORY_MS, signal);
  start();
}
