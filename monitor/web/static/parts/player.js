// Plays a reference from the second that matched. Nothing is loaded before the first press.
import { audioAddress, authorization, problemOf, token } from "../api.js";
import { h, write } from "./element.js";
import { length } from "./format.js";
import { icon } from "./icons.js";

let playing = null;

/** A blob's address of audio that only a token opens: an audio element could not send one. */
async function fetched(source, signal) {
  const answer = await fetch(source, { headers: authorization(), signal });
  if (!answer.ok) throw await problemOf(answer);
  return URL.createObjectURL(await answer.blob());
}

/** Why none of the sources plays. */
async function whyNot(source, signal) {
  try {
    const answer = await fetch(source, { headers: { Range: "bytes=0-0", ...authorization() }, signal });
    if (!answer.ok) return (await problemOf(answer)).message;
    answer.body?.cancel();
    return "This browser cannot play the file.";
  } catch {
    return "The daemon does not answer.";
  }
}

/**
 * A player of `source` (an address, or of a reference by catalog and id). `start_s` is where it begins, `end_s` the
 * end of the part that matched. `moved(second)` hears where it plays, null when it stops.
 */
export function player({ source, catalog, reference_id, name, start_s = 0, end_s = null, duration_s = null, moved, signal }) {
  const sources = source
    ? [source]
    : [audioAddress(catalog, reference_id), audioAddress(catalog, reference_id, { format: "mp3" })];
  let audio = null;
  let whole_s = duration_s ?? 0;

  const press = h("button.button.round", { type: "button", "aria-label": `Play ${name}` }, icon("play"));
  const seek = h("input", { type: "range", min: 0, max: Math.max(whole_s, start_s, 1), step: "any", value: start_s, "aria-label": `Position in ${name}` });
  const region = h("span.region", { hidden: true });
  const times = h("span.times");
  const said = h("p.said", { role: "alert", hidden: true });
  const element = h("div.player", {}, press, h("div.track", {}, region, seek), times, said);

  function draw() {
    const at_s = Number(seek.value);
    const end = Math.max(whole_s, Number(seek.max));
    // Where the end is not known yet, neither is the share that has played.
    seek.style.setProperty("--played", whole_s ? `${(at_s / end) * 100}%` : "0%");
    seek.disabled = !whole_s;
    seek.setAttribute("aria-valuetext", length(at_s));
    write(times, whole_s ? `${length(at_s)} / ${length(whole_s)}` : length(at_s));
    region.hidden = end_s === null || !whole_s;
    region.style.left = `${(start_s / end) * 100}%`;
    region.style.width = `${((Math.min(end_s ?? 0, end) - start_s) / end) * 100}%`;
  }

  function show(is_playing) {
    press.replaceChildren(icon(is_playing ? "pause" : "play"));
    press.setAttribute("aria-label", `${is_playing ? "Pause" : "Play"} ${name}`);
    if (!is_playing) moved?.(null);
  }

  function refuse(text) {
    write(said, text);
    said.hidden = false;
    press.disabled = true;
    show(false);
  }

  /** An audio element that can play, at the wanted second. */
  async function opened() {
    const tries = [...sources.map((one) => async () => one)];
    if (token() && !source) tries.push(...sources.map((one) => () => fetched(one, signal)));
    for (const next of tries) {
      try {
        const made = new Audio();
        made.preload = "metadata";
        made.src = await next();
        await new Promise((resolve, reject) => {
          made.onloadedmetadata = resolve;
          made.onerror = reject;
        });
        made.onerror = null;
        return made;
      } catch {
        // The next source may be one that this browser plays.
      }
    }
    return null;
  }

  async function begin() {
    press.disabled = true;
    audio = await opened();
    press.disabled = false;
    if (signal?.aborted) return;
    if (!audio) return refuse(await whyNot(sources[0], signal));
    if (Number.isFinite(audio.duration)) whole_s = audio.duration;
    seek.max = whole_s || seek.max;
    audio.currentTime = Math.min(Number(seek.value), whole_s || Infinity);
    audio.ontimeupdate = () => {
      if (element.contains(document.activeElement) && seek.matches(":active")) return;
      seek.value = audio.currentTime;
      draw();
      if (!audio.paused) moved?.(audio.currentTime);
    };
    audio.onplay = () => show(true);
    audio.onpause = () => show(false);
    audio.onended = () => ((seek.value = start_s), (audio.currentTime = start_s), draw());
    signal?.addEventListener("abort", () => audio.pause(), { once: true });
    toggle();
  }

  function toggle() {
    if (!audio.paused) return audio.pause();
    if (playing && playing !== audio) playing.pause();
    playing = audio;
    audio.play().catch((error) => error.name !== "AbortError" && refuse(error.message));
  }

  press.addEventListener("click", () => (audio ? toggle() : begin()));
  seek.addEventListener("input", () => {
    if (audio) audio.currentTime = Number(seek.value);
    draw();
  });
  draw();

  /** Go to a second, and play from there. */
  function playFrom(second) {
    seek.value = second;
    draw();
    if (audio) audio.currentTime = second;
    if (!audio || audio.paused) press.click();
  }

  return { element, playFrom };
}
