// The plane of hits: stream time against reference time, with the line of the airing; below it the scores over time.
import { h, s, write } from "./element.js";
import { clock, length, signed, timeOf } from "./format.js";
import { matchWord } from "./words.js";

const STEPS_S = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const LEFT = 46;
const RIGHT = 12;
const TOP = 14;
const PLANE_HEIGHT = 230;
const BETWEEN = 26;
const SCORES_HEIGHT = 90;
const BOTTOM = 24;
const HEIGHT = TOP + PLANE_HEIGHT + BETWEEN + SCORES_HEIGHT + BOTTOM;

/** Round values about `count` apart within a span. */
function ticks(from, to, count) {
  const step = STEPS_S.find((candidate) => (to - from) / candidate <= count) ?? STEPS_S.at(-1);
  const first = Math.ceil(from / step) * step;
  return Array.from({ length: Math.max(0, Math.floor((to - first) / step) + 1) }, (_, at) => first + at * step);
}

function scale(from, to, low, high) {
  return (value) => low + ((value - from) / (to - from)) * (high - low);
}

/** The spans that both panels show. */
function extents(match) {
  const times = [match.start_s, match.end_s, ...match.hits.map((hit) => hit.window_start_s)];
  const places = [match.reference_start_s, match.reference_end_s, ...match.hits.map((hit) => hit.reference_start_s)];
  const padded = (values, least) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = Math.max((high - low) * 0.06, least);
    return [low - pad, high + pad];
  };
  const lowest = Math.min(...match.hits.map((hit) => hit.similarity), match.score ?? 1);
  return { time: padded(times, 1), place: padded(places, 1), score: [Math.min(0.5, Math.floor(lowest * 10) / 10), 1] };
}

/** `seek(second)` is called with the reference second of a hit that is pressed. */
export function plane(match, { seek, signal }) {
  const figure = h("figure.plane");
  const readout = h("figcaption.readout", { "aria-live": "off" });
  const drawing = s("svg", { role: "img", height: HEIGHT });
  figure.append(drawing, readout);
  const { time, place, score } = extents(match);
  const summary = `${match.hits.length} hits along a line: ${length(match.reference_start_s, 1)} to ${length(match.reference_end_s, 1)} of the reference, aired from ${clock(match.start_s)} to ${clock(match.end_s)}.`;
  drawing.setAttribute("aria-label", `Plane of hits. ${summary}`);
  let cursor = null;
  let width = 0;

  function axes(x, y, q) {
    const floor = TOP + PLANE_HEIGHT;
    const base = floor + BETWEEN + SCORES_HEIGHT;
    const right = width - RIGHT;
    // Steps fall on whole minutes of the viewer's clock, not of Unix time.
    const shift_s = new Date(time[0] * 1000).getTimezoneOffset() * 60;
    const across = ticks(time[0] - shift_s, time[1] - shift_s, Math.max(2, width / 110)).map((value) => value + shift_s);
    const scores = [score[0], (score[0] + 1) / 2, 1];
    return [
      ...across.flatMap((value) => [
        s("path.grid", { d: `M${x(value)} ${TOP}V${floor}M${x(value)} ${floor + BETWEEN}V${base}` }),
        s("text", { x: x(value), y: base + 16, "text-anchor": "middle" }, clock(value)),
      ]),
      ...ticks(...place, 6).flatMap((value) => [
        s("path.grid", { d: `M${LEFT} ${y(value)}H${right}` }),
        s("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, length(value)),
      ]),
      ...scores.flatMap((value) => [
        s("path.grid", { d: `M${LEFT} ${q(value)}H${right}` }),
        s("text", { x: LEFT - 8, y: q(value) + 4, "text-anchor": "end" }, value.toFixed(2)),
      ]),
      s("path.frame", { d: `M${LEFT} ${TOP}V${floor}H${right}M${LEFT} ${floor + BETWEEN}V${base}H${right}` }),
      s("text.title", { x: LEFT + 8, y: TOP + 14 }, "Position in the reference"),
      s("text.title", { x: LEFT + 8, y: floor + BETWEEN - 8 }, "Similarity of each hit"),
    ];
  }

  function draw() {
    const x = scale(...time, LEFT, width - RIGHT);
    const y = scale(...place, TOP + PLANE_HEIGHT, TOP);
    const q = scale(...score, HEIGHT - BOTTOM, HEIGHT - BOTTOM - SCORES_HEIGHT);
    const line = `M${x(match.start_s)} ${y(match.reference_start_s)}L${x(match.end_s)} ${y(match.reference_end_s)}`;
    const decided = match.events
      .map((event) => ({ ...event, decided_s: Date.parse(event.decided_at) / 1000 }))
      .filter((event) => event.decided_s >= time[0] && event.decided_s <= time[1]);
    const dots = (place_of) => match.hits.map((hit) => `M${x(hit.window_start_s).toFixed(1)} ${place_of(hit).toFixed(1)}h0`).join("");
    cursor = s("path.cursor");
    drawing.setAttribute("width", width);
    drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    drawing.replaceChildren(
      ...axes(x, y, q),
      ...decided.map((event) => s("path.decided", { d: `M${x(event.decided_s)} ${TOP}V${HEIGHT - BOTTOM}` }, s("title", {}, matchWord(event.state)))),
      s("path.airing", { d: line }),
      s("path.hits", { d: dots((hit) => y(hit.reference_start_s)) }),
      s("path.hits", { d: dots((hit) => q(hit.similarity)) }),
      cursor,
    );
    drawing.mark = (second) => cursor.setAttribute("d", second === null ? "" : `M${LEFT} ${y(second)}H${width - RIGHT}`);
    drawing.nearest = (event) => {
      const at_s = scale(LEFT, width - RIGHT, ...time)(event.clientX - drawing.getBoundingClientRect().left);
      return match.hits.reduce((best, hit) => (!best || Math.abs(hit.window_start_s - at_s) < Math.abs(best.window_start_s - at_s) ? hit : best), null);
    };
  }

  const say = (hit) => {
    if (!hit) return write(readout, summary);
    readout.replaceChildren(timeOf(hit.window_start_s, clock(hit.window_start_s)), ` plays ${length(hit.reference_start_s, 1)} of the reference · similarity ${signed(hit.similarity, 2)}`);
  };
  say(null);
  drawing.addEventListener("pointermove", (event) => say(drawing.nearest(event)));
  drawing.addEventListener("pointerleave", () => say(null));
  drawing.addEventListener("click", (event) => {
    const hit = drawing.nearest(event);
    if (hit) seek(hit.reference_start_s);
  });
  const sized = new ResizeObserver(([entry]) => {
    const now = Math.max(260, Math.floor(entry.contentRect.width));
    if (now !== width) ((width = now), draw());
  });
  sized.observe(figure);
  signal.addEventListener("abort", () => sized.disconnect(), { once: true });
  return { element: figure, mark: (second) => drawing.mark?.(second) };
}
