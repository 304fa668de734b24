// One stream: what it does now, its past as a strip, its states, its gaps, its matches, and ffmpeg's last words.
import { ask, now_s } from "../api.js";
import { listen } from "../events.js";
import { h, repeat, settled } from "../parts/element.js";
import { clock, level, moment, signed, span, timeOf } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { empty, facts, panel, segments, shown } from "../parts/states.js";
import { strip, stripKey } from "../parts/strip.js";
import { reasonWord, streamBadge } from "../parts/words.js";
import { levels, onStreams, streams } from "../roster.js";
import { matchListing } from "./matches.js";
import { because, streamActions } from "./streams.js";

const SPANS = [["24", "24 hours"], ["168", "7 days"]];
const REFRESH_MS = 30000;
const MOST_ROWS = 100;

function states(found) {
  if (!found.length) return empty("streams", "Nothing in this time", "The stream did not change its state.");
  const newest = [...found].sort((one, other) => other.since_s - one.since_s).slice(0, MOST_ROWS);
  return h("ol.life", {}, newest.map((entry) => h("li", {}, h("div", {}, streamBadge(entry.state), h("p.small.muted", {}, because(entry))), h("div.number.small", {}, timeOf(entry.since_s)))));
}

function gaps(found) {
  if (!found.length) return empty("done", "No gap", "The stream was heard all the time.");
  const newest = [...found].sort((one, other) => other.start_s - one.start_s).slice(0, MOST_ROWS);
  return h("ol.life", {}, newest.map((gap) => h("li", {}, h("div", {}, timeOf(gap.start_s), h("p.small.muted", {}, reasonWord(gap.reason))), h("div.number", {}, span(gap.end_s - gap.start_s)))));
}

export function stream(view, { words, signal }) {
  const [name] = words;
  document.title = `${name} · monitor`;
  const badge = h("span");
  const actions = h("div.actions");
  const about = h("div.body");
  const problem = h("div");
  const last = h("div");
  const past = strip({ open: (match_id) => (location.hash = `#/matches/${match_id}`) });
  const hours_row = h("div.hours");
  const changes = h("div.body");
  const missed = h("div.body");
  let hours = 24;

  const played = matchListing({
    label: `Matches on ${name}`,
    query: () => ({ stream: name }),
    but: ["stream"],
    none: () => empty("matches", "No match yet", "Nothing of the catalog was heard on this stream."),
    signal,
  });

  function fill(found) {
    badge.replaceChildren(streamBadge(found.state));
    actions.replaceChildren(...streamActions(found, { words: true, removed: () => (location.hash = "#/streams") }));
    about.replaceChildren(
      facts([
        ["Since", `${moment(found.since_s)} (${span(now_s() - found.since_s)})`],
        ["Level", found.up ? level(levels.get(name)) : ""],
        ["Last sound", found.up && typeof found.delay_s === "number" ? `${signed(found.delay_s, 1)} s ago` : ""],
        ["Recognition", found.up && typeof found.behind_s === "number" ? `${signed(found.behind_s, 1)} s behind live` : ""],
        ["Catalogs", found.catalogs?.join(", ")],
        ["Kept in", found.source === "api" ? "the database" : "the configuration file"],
        ["Address", found.addresses?.length ? h("span.mono.small", {}, found.addresses.join(" ")) : ""],
      ]),
    );
    const why = found.up || found.paused ? "" : because(found);
    problem.replaceChildren(...(why ? [h("div.banner", {}, icon("warn"), h("p", {}, why))] : []));
    last.replaceChildren(...(found.last_words?.length ? [panel("ffmpeg’s last words", h("div.body", {}, h("pre.words", { tabindex: "0", "aria-label": "ffmpeg’s last words" }, found.last_words.join("\n"))))] : []));
  }

  async function readPast() {
    const found = await ask(`/streams/${encodeURIComponent(name)}/history`, { query: { hours }, signal });
    if (signal.aborted) return;
    const to_s = now_s();
    const from_s = to_s - hours * 3600;
    const now = streams.get(name);
    const unheard = now && !now.up ? [{ start_s: Math.max(now.since_s, from_s), end_s: to_s }] : [];
    past.draw({ matches: found.matches, gaps: [...found.gaps, ...unheard], from_s, to_s });
    const marks = Array.from({ length: 5 }, (_, at) => from_s + (at * (to_s - from_s)) / 4);
    hours_row.replaceChildren(...marks.map((mark, at) => h("span", {}, at === 4 ? "now" : hours > 24 ? moment(mark).split(" ").slice(0, 2).join(" ") : clock(mark).slice(0, 5))));
    changes.replaceChildren(states(found.states));
    missed.replaceChildren(gaps(found.gaps));
  }

  const place = h("div.stack");
  view.append(place);
  const read = async () => {
    const found = await ask(`/streams/${encodeURIComponent(name)}`, { signal });
    fill(found);
    return found;
  };
  shown(place, async () => {
    await read();
    await readPast();
    played.reload();
    view.prepend(h("header", {}, h("a.back", { href: "#/streams" }, "Streams"), h("h1", {}, name), badge, actions));
    const spans = segments("How far back", SPANS, String(hours), (value) => ((hours = Number(value)), readPast().catch(() => {})));
    return [
      problem,
      panel("Now", about),
      panel("Past", h("div.body.large", {}, past.element, hours_row, h("p.keys", {}, stripKey())), spans),
      h("div.columns", {}, h("div.stack", {}, panel("Matches", played.element)), h("div.stack", {}, last, panel("Gaps", missed), panel("States", changes))),
    ];
  }, signal, ["30%", "100%", "100%", "50%"]);

  const again = settled(() => Promise.all([read(), readPast()]).catch(() => {}), 300);
  onStreams((names) => (names === null || names.includes(name)) && again(), signal);
  listen("match", settled((match) => match.stream === name && played.refresh(), 300), signal);
  repeat(() => document.hidden || again(), REFRESH_MS, signal);
}
