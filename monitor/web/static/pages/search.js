// Search: a clip, dropped or recorded, against the catalog.
import { ask } from "../api.js";
import { drop } from "../parts/drop.js";
import { h, write } from "../parts/element.js";
import { length, size, tempo } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { notice } from "../parts/notice.js";
import { player } from "../parts/player.js";
import { record } from "../parts/recorder.js";
import { bones, choice, empty, failed, panel, segments } from "../parts/states.js";
import { titleOf } from "../parts/words.js";
import { referenceWay } from "./match.js";

const LONGEST_RECORDING_S = 60;
const MODES = [["same", "Same recording"], ["similar", "Similar sound"]];
const COUNTS = [5, 10, 20, 50].map((count) => [String(count), `${count} results`]);
const HINTS = {
  same: "Finds the very recording in the clip, and from which second to which.",
  similar: "Lists what in the catalog sounds most like the clip, nearest first.",
};

export function search(view, { signal }) {
  let mode = "same";
  let k = "10";
  let clip = null;
  let turn = 0;
  const hint = h("p.muted", {}, HINTS[mode]);
  const heard = h("div", { hidden: true });
  const results = h("div", { "aria-live": "polite" });

  function result(found) {
    const where =
      mode === "same"
        ? `${length(found.start_s, 1)} – ${length(found.end_s, 1)} of the clip is ${length(found.reference_start_s, 1)} – ${length(found.reference_end_s, 1)} of the recording · ${tempo(found.tempo_ratio)}`
        : `${length(found.clip_start_s, 1)} of the clip is nearest to ${length(found.reference_start_s, 1)} of the recording`;
    const { catalog } = found;
    const listened = player({ catalog, reference_id: found.reference_id, name: titleOf(found), start_s: found.reference_start_s, end_s: found.reference_end_s ?? null, duration_s: found.reference_duration_s, signal });
    return h(
      "li.result",
      {},
      h("div.result-head", {}, h("div.name", {}, h("a", { href: referenceWay(found) }, titleOf(found)), found.artist ? h("small", {}, found.artist) : ""), h("span.score", { title: "Similarity, at most 1" }, found.score.toFixed(2))),
      h("p.small.muted", {}, where),
      listened.element,
    );
  }

  function none() {
    if (mode === "similar") return empty("references", "Nothing to compare with", "The catalog holds no recordings yet.", h("a.button", { href: "#/references" }, "Add references"));
    return empty("search", "Not in the catalog", "No recording of the catalog plays in this clip. Ten seconds or more are safest; a clip of similar sound is another search.", h("button.button", { type: "button", onclick: () => modes.querySelectorAll("button")[1].click() }, "Search for similar sound"));
  }

  async function run() {
    if (!clip) return;
    const mine = ++turn;
    const form = new FormData();
    form.append("file", clip.file, clip.name);
    form.append("mode", mode);
    form.append("k", k);
    results.replaceChildren(panel("Results", h("div.body", {}, bones(["45%", "80%", "100%", "40%", "75%", "100%"]))));
    try {
      const found = await ask("/search", { method: "POST", form, signal });
      if (mine !== turn) return;
      const list = found.results.length ? h("ol.results", {}, found.results.map(result)) : none();
      results.replaceChildren(panel("Results", list, h("span.muted.small", {}, `Clip of ${length(found.duration_s, 1)}`)));
    } catch (error) {
      if (mine === turn && !signal.aborted) results.replaceChildren(panel("Results", failed(error, run)));
    }
  }

  let address = null;
  signal.addEventListener("abort", () => address && URL.revokeObjectURL(address), { once: true });
  function take({ file, name }) {
    clip = { file, name };
    if (address) URL.revokeObjectURL(address);
    address = URL.createObjectURL(file);
    heard.hidden = false;
    heard.replaceChildren(panel("Your clip", h("div.body.stack", {}, h("p", {}, name, " ", h("span.muted.small", {}, size(file.size))), player({ source: address, name: "your clip", signal }).element)));
    run();
  }

  // One button records and stops; the bar shows that something is heard.
  let recording = null;
  const meter = h("i");
  const passed = h("span.muted");
  const level = h("span.recording", { hidden: true }, h("span.bar.bad", {}, meter), passed);
  const button = h("button.button", { type: "button", onclick: () => (recording ? finish() : begin()) }, icon("mic"), "Record");
  async function begin() {
    button.disabled = true;
    try {
      const begun_ms = Date.now();
      const machine = await record({ level: (ratio) => (meter.style.transform = `scaleX(${Math.sqrt(ratio).toFixed(3)})`) });
      const timer = setInterval(() => {
        const seconds = (Date.now() - begun_ms) / 1000;
        write(passed, length(seconds));
        if (seconds >= LONGEST_RECORDING_S) finish();
      }, 200);
      recording = { machine, timer };
      level.hidden = false;
      button.replaceChildren(icon("stop"), "Stop and search");
    } catch (error) {
      notice(error.message, { bad: true });
    } finally {
      button.disabled = false;
    }
  }
  async function finish({ keep = true } = {}) {
    const { machine, timer } = recording;
    recording = null;
    clearInterval(timer);
    level.hidden = true;
    button.replaceChildren(icon("mic"), "Record");
    const file = await machine.stop();
    const kind = file.type.includes("mp4") ? "m4a" : file.type.includes("ogg") ? "ogg" : "webm";
    if (keep) take({ file, name: `recording.${kind}` });
  }
  signal.addEventListener("abort", () => recording && finish({ keep: false }), { once: true });

  const modes = segments("What to search for", MODES, mode, (value) => {
    mode = value;
    write(hint, HINTS[mode]);
    run();
  });
  view.append(
    h("header", {}, h("h1", {}, "Search"), h("p.lead", {}, "What is this clip?")),
    h("div.filters", {}, modes, choice("How many", COUNTS, k, (value) => ((k = value), run())), hint),
    drop({ title: "Drop a clip here", text: "Or record what plays around you: ten seconds are enough.", action: "Choose a file", take: ([one]) => take(one), beside: [button, level], signal }),
    heard,
    results,
  );
}
