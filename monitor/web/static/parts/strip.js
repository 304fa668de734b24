// A span of a stream's past: matches in the accent, time that was not heard hatched.
import { h, s } from "./element.js";
import { counted, clock, length, span } from "./format.js";
import { isOpen, titleOf } from "./words.js";

// Even the shortest jingle of a day is seen: no mark is narrower than this share of the strip.
const NARROWEST = 0.004;

/** The part of a strip where nothing was heard, from and to as shares of its width. */
function hatched(from, to) {
  const made = h("span.gap");
  made.style.left = `${from * 100}%`;
  made.style.width = `${(to - from) * 100}%`;
  return made;
}

/** `open(match_id)` is called on a click on a match. */
export function strip({ open } = {}) {
  const maybe = s("path.maybe");
  const heard = s("path.heard");
  const drawing = s("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, heard, maybe);
  const element = h("div.strip", { role: "img" }, drawing);
  let shown = { matches: [], gaps: [], from_s: 0, to_s: 1 };

  const at = (event) => {
    const box = element.getBoundingClientRect();
    return shown.from_s + ((event.clientX - box.left) / box.width) * (shown.to_s - shown.from_s);
  };
  const near = (time_s) => {
    const slack_s = (shown.to_s - shown.from_s) * NARROWEST;
    return shown.matches.findLast((match) => match.start_s - slack_s <= time_s && time_s <= match.end_s + slack_s);
  };
  element.addEventListener("pointermove", (event) => {
    const time_s = at(event);
    const match = near(time_s);
    const gap = shown.gaps.find((other) => other.start_s <= time_s && time_s <= other.end_s);
    const what = match ? `${titleOf(match)}, ${length(match.end_s - match.start_s)}` : gap ? `not heard for ${span(gap.end_s - gap.start_s)}` : "";
    element.title = [clock(time_s), what].filter(Boolean).join(" · ");
    element.style.cursor = match && open ? "pointer" : "";
  });
  if (open) {
    element.addEventListener("click", (event) => {
      const match = near(at(event));
      if (match) open(match.match_id);
    });
  }

  function path(matches) {
    const whole_s = shown.to_s - shown.from_s;
    let drawn = "";
    for (const match of matches) {
      const from = Math.max(0, (match.start_s - shown.from_s) / whole_s);
      const to = Math.min(1, (match.end_s - shown.from_s) / whole_s);
      if (to <= 0 || from >= 1) continue;
      const width = Math.max(to - from, NARROWEST);
      drawn += `M${Math.min(from, 1 - width).toFixed(5)} 0h${width.toFixed(5)}v1h-${width.toFixed(5)}z`;
    }
    return drawn;
  }

  /** Draw matches and gaps of a span of Unix seconds. */
  function draw({ matches, gaps, from_s, to_s }) {
    shown = { matches: matches.filter((match) => match.state !== "retracted"), gaps, from_s, to_s };
    heard.setAttribute("d", path(shown.matches.filter((match) => match.state !== "provisional")));
    maybe.setAttribute("d", path(shown.matches.filter((match) => match.state === "provisional")));
    const share = (time_s) => Math.min(1, Math.max(0, (time_s - from_s) / (to_s - from_s)));
    for (const old of element.querySelectorAll(".gap")) old.remove();
    element.append(...gaps.filter((gap) => gap.end_s > from_s).map((gap) => hatched(share(gap.start_s), share(gap.end_s))));
    const missed_s = gaps.reduce((sum, gap) => sum + Math.max(0, gap.end_s - Math.max(gap.start_s, from_s)), 0);
    const said = `Last ${span(to_s - from_s)}: ${counted(shown.matches.length, "match", "matches")}, not heard for ${span(missed_s)}`;
    element.setAttribute("aria-label", said);
  }

  return { element, draw };
}

/** What the marks of a strip mean. */
export function stripKey() {
  return [
    h("span.key", {}, h("i"), "match"),
    h("span.key", {}, h("i.gap"), "not heard"),
  ];
}

/** Put a match into a list of matches in place of its older self. */
export function merged(matches, match) {
  const at = matches.findIndex((other) => other.match_id === match.match_id);
  if (at >= 0) matches[at] = match;
  else matches.push(match);
  return isOpen(match.state);
}
