// Matches: a table that filters as you type, and grows on top while stations play.
import { address, ask, authorization, problemOf, token } from "../api.js";
import { listen } from "../events.js";
import { h, settled } from "../parts/element.js";
import { length, timeOf } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { listing } from "../parts/listing.js";
import { tried } from "../parts/notice.js";
import { choice, empty, searchField } from "../parts/states.js";
import { matchBadge, titleOf } from "../parts/words.js";
import { known, streams } from "../roster.js";

const SPANS = [["", "Any time"], ["1", "Last hour"], ["24", "Last 24 hours"], ["168", "Last 7 days"], ["720", "Last 30 days"], ["range", "From … until"]];
const STATES = [["", "Any state"], ["provisional", "Provisional"], ["confirmed", "On air"], ["ended", "Ended"], ["retracted", "Retracted"]];

const way = (match, shown) => h("a.cover", { href: `#/matches/${match.match_id}` }, shown);

/** The columns of a table of matches; `but` names those to leave out. */
export function matchColumns(but = []) {
  const columns = [
    { name: "since", label: "Since", class: "fit lead", cell: (match) => (but.includes("reference") ? way(match, timeOf(match.start_s)) : timeOf(match.start_s)) },
    {
      name: "reference",
      label: "Reference",
      class: "name inline",
      cell: (match) => [way(match, titleOf(match)), match.artist ? h("small", {}, match.artist) : ""],
    },
    { name: "stream", label: "Stream", class: "fit", cell: (match) => match.stream },
    { name: "from", label: "From", class: "fit number spare", cell: (match) => length(match.reference_start_s) },
    { name: "length", label: "Length", class: "fit number", cell: (match) => length(match.end_s - match.start_s) },
    { name: "score", label: "Score", class: "fit number spare", cell: (match) => match.score.toFixed(2) },
    { name: "state", label: "State", class: "fit tail", cell: (match) => matchBadge(match.state) },
  ];
  // A cell may be several nodes.
  return columns.filter((column) => !but.includes(column.name)).map((column) => ({ ...column, cell: (match) => group(column.cell(match)) }));
}

function group(made) {
  if (!Array.isArray(made)) return made;
  const fragment = document.createDocumentFragment();
  fragment.append(...made);
  return fragment;
}

/** A table of the matches that `query()` asks for. */
export function matchListing({ label, query, but, none, signal }) {
  return listing({
    label,
    columns: matchColumns(but),
    page: async (after) => {
      const found = await ask("/matches", { query: { ...query(), limit: 50, after }, signal });
      return { rows: found.matches, next: found.next };
    },
    key: (match) => match.match_id,
    empty: none,
    way: true,
    signal,
  });
}

const local = (value) => (value ? new Date(value).toISOString() : "");

export function matches(view, { query: given, signal }) {
  const chosen = { q: "", stream: "", state: "", span: "", from: "", until: "", reference_id: "", catalog: "" };
  for (const name of Object.keys(chosen)) chosen[name] = given.get(name) ?? "";

  function query() {
    const { span, from, until, ...rest } = chosen;
    if (span === "range") return { ...rest, since: local(from), until: local(until) };
    return { ...rest, since: span ? new Date(Date.now() - span * 3600e3).toISOString() : "" };
  }

  const isFiltered = () => Object.values(chosen).some(Boolean);
  const none = () =>
    isFiltered()
      ? empty("search", "No match fits", "Change or clear the filters to see more.", h("button.button", { type: "button", onclick: clear }, "Clear the filters"))
      : empty("matches", "No match yet", "A match is written down whenever a stream plays something of the catalog. That needs a stream, and references.", h("a.button", { href: "#/references" }, "Add references"), h("a.button", { href: "#/streams" }, "See the streams"));
  const list = matchListing({ label: "Matches", query, none, signal });

  const reload = settled(list.reload, 180);
  function change(name, value) {
    chosen[name] = value;
    range.hidden = chosen.span !== "range";
    only.hidden = !chosen.reference_id;
    const kept = Object.entries(chosen).filter(([, one]) => one);
    history.replaceState(null, "", `#/matches${kept.length ? `?${new URLSearchParams(kept)}` : ""}`);
    reload();
  }
  function clear() {
    location.hash = "#/matches";
    if (!location.hash.includes("?")) dispatchEvent(new HashChangeEvent("hashchange"));
  }

  const date = (name, label) => h("input.input", { type: "datetime-local", "aria-label": label, value: chosen[name], onchange: (event) => change(name, event.target.value) });
  const range = h("div.actions", { hidden: chosen.span !== "range" }, date("from", "From"), h("span.muted", {}, "until"), date("until", "Until"));
  const only = h("button.button", { type: "button", hidden: !chosen.reference_id, title: "Show matches of every reference", onclick: () => (change("catalog", ""), change("reference_id", "")) }, `Only ${chosen.reference_id}`, icon("close"));
  const streamChoice = h("span");
  const fillStreams = () => {
    const names = [...new Set([...streams.keys(), chosen.stream].filter(Boolean))].sort();
    streamChoice.replaceChildren(choice("Stream", [["", "Any stream"], ...names.map((name) => [name, name])], chosen.stream, (value) => change("stream", value)));
  };
  fillStreams();
  known().then(fillStreams, () => {});

  const download = (format, word) => h("button.button", { type: "button", title: `Download what the filters show as ${word}`, onclick: () => tried(() => save(format, query())) }, icon("save"), word);
  view.append(
    h("header", {}, h("h1", {}, "Matches"), h("p.lead", {}, "What the streams played of your catalog"), h("div.actions", {}, download("csv", "CSV"), download("jsonl", "JSON lines"))),
    h(
      "div.filters",
      {},
      searchField("Title, artist, id, ISRC or owner", chosen.q, (value) => change("q", value)),
      streamChoice,
      choice("State", STATES, chosen.state, (value) => change("state", value)),
      choice("Time", SPANS, chosen.span, (value) => change("span", value)),
      range,
      only,
    ),
    h("section.panel", { "aria-label": "Matches" }, list.element),
  );
  listen("match", settled(list.refresh, 300), signal);
  list.reload();
}

/** Save an export. The browser loads it by itself, unless only a token opens it. */
async function save(format, query) {
  let href = address("/matches", { ...query, format });
  if (token()) {
    const answer = await fetch(href, { headers: authorization() });
    if (!answer.ok) throw await problemOf(answer);
    href = URL.createObjectURL(await answer.blob());
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  }
  h("a", { href, download: `matches.${format}` }).click();
}
