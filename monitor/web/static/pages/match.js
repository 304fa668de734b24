// One match: what was aired where, the plane of its hits, its life, and the reference at the matched second.
import { ask } from "../api.js";
import { listen } from "../events.js";
import { h, repeat, settled } from "../parts/element.js";
import { length, seconds, signed, tempo, timeOf } from "../parts/format.js";
import { empty, facts, panel, shown } from "../parts/states.js";
import { plane } from "../parts/plane.js";
import { player } from "../parts/player.js";
import { isOpen, matchBadge, titleOf } from "../parts/words.js";

export const referenceWay = ({ catalog, reference_id }) => `#/references/${encodeURIComponent(catalog)}/${encodeURIComponent(reference_id)}`;

const OPEN_MS = 5000;
const WHAT = {
  provisional: "Heard, not certain yet",
  confirmed: "Certain",
  ended: "No longer heard",
  retracted: "Was a mistake",
};

function life(match) {
  const steps = match.events.map((event) =>
    h("li", {}, h("div", {}, matchBadge(event.state), h("p.small.muted", {}, WHAT[event.state] ?? "")), h("div.number.small", {}, timeOf(seconds(event.decided_at)), h("p.muted", {}, `${signed(event.evidence_nats)} nats · ${event.score.toFixed(2)}`))),
  );
  return h("ol.life", {}, steps);
}

/** What is known of the airing. */
const airing = (found) =>
  facts(
    [
      ["Stream", h("a", { href: `#/streams/${encodeURIComponent(found.stream)}` }, found.stream)],
      ["On air", timeOf(found.start_s)],
      [isOpen(found.state) ? "Heard until" : "Until", timeOf(found.end_s)],
      ["Length", length(found.end_s - found.start_s, 1)],
      ["Of the reference", `${length(found.reference_start_s, 1)} – ${length(found.reference_end_s, 1)}`],
      ["Speed", tempo(found.tempo_ratio)],
      ["Score", found.score.toFixed(3)],
      ["Evidence", `${signed(found.evidence_nats)} nats`],
    ],
    { inRows: true },
  );

const origin = (found) =>
  facts(
    [
      ["Reference", h("a.mono", { href: referenceWay(found) }, found.reference_id)],
      ["Catalog", found.catalog],
      ["ISRC", found.isrc && h("span.mono", {}, found.isrc)],
      ["Owner", found.owner],
      ["Label", found.label],
      ["Match id", h("span.mono.small", {}, found.match_id)],
    ],
    { inRows: true },
  );

export function match(view, { words, signal }) {
  const [match_id] = words;
  const badge = h("span");
  const about = h("div.body");
  const lived = h("div.body");
  const drawn = h("div.body");
  let state = null;
  let listened = null;
  let mark = () => {};
  let drawing = new AbortController();
  signal.addEventListener("abort", () => drawing.abort(), { once: true });
  const read = () => ask(`/matches/${encodeURIComponent(match_id)}`, { signal });

  /** What changes while the match is open; the rest stays, and so do the reader's focus and the player. */
  function fill(found) {
    state = found.state;
    badge.replaceChildren(matchBadge(found.state));
    about.replaceChildren(airing(found));
    lived.replaceChildren(life(found));
    drawing.abort();
    drawing = new AbortController();
    if (!found.hits.length) return drawn.replaceChildren(empty("matches", "The hits are no longer kept", "Single hits are deleted after retention.hits_days; the match itself is kept for ever."));
    const made = plane(found, { seek: (second) => listened.playFrom(second), signal: drawing.signal });
    mark = made.mark;
    drawn.replaceChildren(made.element);
  }

  function made(found) {
    document.title = `${titleOf(found)} · monitor`;
    const { catalog, reference_id } = found;
    listened = player({ catalog, reference_id, name: titleOf(found), start_s: found.reference_start_s, end_s: found.reference_end_s, duration_s: found.reference_duration_s, moved: (second) => mark(second), signal });
    fill(found);
    view.prepend(h("header", {}, h("a.back", { href: "#/matches" }, "Matches"), h("h1", {}, titleOf(found)), badge, h("p.lead", {}, found.artist ?? "")));
    const hint = h("p.hint", {}, "Starts where the airing began; the shaded part was aired. A press on a hit plays from there.");
    return h(
      "div.columns",
      {},
      h("div.stack", {}, panel("Listen to the reference", h("div.body", {}, listened.element, hint)), panel("Plane of hits", drawn)),
      h("div.stack", {}, panel("Airing", about), panel("Life", lived), panel("Reference", h("div.body", {}, origin(found)))),
    );
  }

  const place = h("div.stack");
  view.append(place);
  shown(place, async () => made(await read()), signal, ["30%", "100%", "100%", "60%"]);
  const again = settled(async () => {
    const found = listened && (await read().catch(() => null));
    if (found && !signal.aborted) fill(found);
  }, 400);
  listen("match", (event) => event.match_id === match_id && again(), signal);
  // An open match grows between its events.
  repeat(() => isOpen(state) && !document.hidden && again(), OPEN_MS, signal);
}
