// Streams: all of them in one table, with what can be done to each; add one after testing its address.
import { ask, now_s } from "../api.js";
import { confirmed, field, form } from "../parts/dialog.js";
import { h, repeat, settled, write } from "../parts/element.js";
import { counted, level, signed, span } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { notice, tried } from "../parts/notice.js";
import { empty, facts, failed, bone, searchField } from "../parts/states.js";
import { reasonWord, streamBadge } from "../parts/words.js";
import { forget, known, levels, onStreams, streams as all, take } from "../roster.js";

const TICK_MS = 2000;
const addressOf = (name) => `/streams/${encodeURIComponent(name)}`;

/** Why a stream is as it is, in one sentence. */
export const because = ({ reason, detail }) => detail || reasonWord(reason);

/** Pause, resume or restart. */
export async function turn(stream, verb) {
  const done = { pause: "is paused", resume: "is listened to again", restart: "connects anew" }[verb];
  await tried(async () => {
    const now = await ask(`${addressOf(stream.name)}/${verb}`, { method: "POST" });
    if (now?.name) take(now);
    notice(`${stream.name} ${done}.`);
  });
}

/** Remove after asking; true once it is gone. */
export async function removeStream(stream) {
  const text = "It is no longer listened to. Its matches and its history stay.";
  if (!(await confirmed({ title: `Remove ${stream.name}?`, text, action: "Remove" }))) return false;
  const gone = await tried(() => ask(addressOf(stream.name), { method: "DELETE" }).then(() => true));
  if (gone) {
    forget(stream.name);
    notice(`${stream.name} is removed.`);
  }
  return Boolean(gone);
}

/** Buttons for what can be done to a stream. */
export function streamActions(stream, { words = false, removed } = {}) {
  const button = (picture, word, press, quiet = true) =>
    h(`button.button${words ? "" : ".round"}${quiet && !words ? ".quiet" : ""}`, { type: "button", title: word, "aria-label": `${word} ${stream.name}`, onclick: press }, icon(picture), words ? word : "");
  const made = [
    stream.paused ? button("play", "Resume", () => turn(stream, "resume")) : button("pause", "Pause", () => turn(stream, "pause")),
    button("again", "Restart", () => turn(stream, "restart")),
  ];
  // Streams of the configuration file are removed there.
  if (stream.source === "api") made.push(button("remove", "Remove", async () => (await removeStream(stream)) && removed?.()));
  return made;
}

/** What testing an address found. */
function verdict(found) {
  if (!found.reachable) return h("div.banner.bad", { role: "alert" }, icon("warn"), h("p", {}, found.detail));
  const said = facts([
    ["Codec", found.codec],
    ["Sample rate", found.sample_rate_hz && `${signed(found.sample_rate_hz / 1000, 1)} kHz`],
    ["Channels", found.channels],
    ["Bit rate", found.bit_rate && `${Math.round(found.bit_rate / 1000)} kb/s`],
    ["Level", level(found.level_dbfs)],
  ]);
  return h("div.stack", {}, h("div.banner.ok", { role: "status" }, icon("done"), h("p", {}, `Reachable: ${signed(found.seconds, 0)} s were heard.`)), said);
}

/** Ask for a stream, let its address be tested, and add it. */
async function addStream() {
  const known = (await ask("/health").catch(() => ({ catalogs: [] }))).catalogs.map((catalog) => catalog.name);
  const boxes = known.map((catalog, at) => h("input", { type: "checkbox", value: catalog, checked: at === 0 }));
  const catalogs = h("fieldset.field", {}, h("legend", {}, "Watch for the catalogs"), h("div.actions", {}, boxes.map((box) => h("label.actions", {}, box, box.value))));
  const url = h("input.input", { name: "url", type: "text", inputmode: "url", required: true, placeholder: "https://radio.example/live.mp3", autocomplete: "off" });
  const name = h("input.input", { name: "name", required: true, pattern: "[A-Za-z0-9._\\-]+", placeholder: "radio-one", autocomplete: "off" });
  const headers = h("textarea.input", { name: "headers", rows: 2, placeholder: "Authorization: Bearer …" });
  const found = h("div");
  const given = () => {
    const lines = headers.value.split("\n").filter((line) => line.trim());
    const pairs = lines.map((line) => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]);
    return lines.length ? { headers: Object.fromEntries(pairs) } : {};
  };
  const chosen = () => (known.length > 1 ? { catalogs: boxes.filter((box) => box.checked).map((box) => box.value) } : {});
  const test = h("button.button", { type: "button" }, icon("live"), "Test");
  test.addEventListener("click", async () => {
    if (!url.reportValidity()) return;
    test.disabled = true;
    found.replaceChildren(h("div.stack", {}, h("p.muted.small", { role: "status" }, "Listening for five seconds …"), bone("100%"), bone("60%")));
    try {
      found.replaceChildren(verdict(await ask("/streams/test", { method: "POST", json: { url: url.value.trim(), ...given() } })));
    } catch (error) {
      found.replaceChildren(h("div.banner.bad", { role: "alert" }, icon("warn"), h("p", {}, error.message)));
    }
    test.disabled = false;
  });
  return form({
    title: "Add a stream",
    body: h(
      "div.stack",
      {},
      h("div.with-button", {}, field("Address", url), test),
      found,
      field("Name", name, "Letters, digits, dots, dashes and underscores"),
      known.length > 1 ? catalogs : null,
      h("details", {}, h("summary", {}, "Request headers"), field("Headers", headers, "One a line, as Name: value")),
    ),
    action: "Add",
    save: () => ask("/streams", { method: "POST", json: { name: name.value.trim(), url: url.value.trim(), ...given(), ...chosen() } }),
  });
}

export function streams(view, { query, signal }) {
  const lead = h("p.lead", { role: "status" });
  const body = h("tbody", { role: "rowgroup" });
  const instead = h("div");
  let text = "";
  const names = ["Stream", "State", "Since", "Level", "Delay"];
  const heads = names.map((label, at) => h("th", { scope: "col", role: "columnheader", class: at > 2 ? "fit number spare" : at ? "fit" : null }, label));
  const table = h(
    "table.table.folds",
    { role: "table", "aria-label": "Streams" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads, h("th", { role: "columnheader", scope: "col" }, h("span.unseen", {}, "Actions")))),
    body,
  );
  const rows = new Map();

  function row(name) {
    const state = h("td.fit", { role: "cell" });
    const since = h("td.fit", { role: "cell" });
    const loud = h("td.fit.number.spare", { role: "cell" });
    const delay = h("td.fit.number.spare", { role: "cell" });
    const why = h("small");
    const actions = h("td.fit.above.tail", { role: "cell" });
    const element = h("tr.way", { role: "row" }, h("td.name", { role: "cell" }, h("a.cover", { href: `#/streams/${encodeURIComponent(name)}` }, name), why), state, since, loud, delay, actions);
    let said = "";
    const tick = () => {
      const stream = all.get(name);
      if (!stream) return;
      write(since, span(now_s() - stream.since_s));
      write(loud, stream.up ? level(levels.get(name)) : "");
      write(delay, stream.up && stream.delay_s !== null && stream.delay_s !== undefined ? `${signed(stream.delay_s, 1)} s` : "");
    };
    const update = () => {
      const stream = all.get(name);
      const now = `${stream.state} ${stream.paused} ${stream.source}`;
      if (said !== now) {
        said = now;
        state.replaceChildren(streamBadge(stream.state));
        actions.replaceChildren(h("div.actions", {}, streamActions(stream)));
      }
      write(why, because(stream) || (stream.addresses?.[0] ?? ""));
      tick();
    };
    update();
    return { element, update, tick };
  }

  function arrange() {
    const order = [...all.keys()].filter((name) => name.toLowerCase().includes(text)).sort((one, other) => one.localeCompare(other, "en", { numeric: true }));
    for (const name of order) {
      if (rows.has(name)) rows.get(name).update();
      else rows.set(name, row(name));
    }
    const wanted = order.map((name) => rows.get(name).element);
    const same = wanted.length === body.children.length && wanted.every((element, at) => element === body.children[at]);
    if (!same) body.replaceChildren(...wanted);
    table.hidden = !wanted.length;
    instead.replaceChildren(...(wanted.length ? [] : [all.size ? empty("search", "No stream fits", "Change the filter above.") : empty("streams", "No stream yet", "Add the address of a station: Icecast, HLS, DASH, RTSP, SRT and whatever else ffmpeg reads.", adder("Add a stream"))]));
    const heard = [...all.values()].filter((stream) => stream.up).length;
    write(lead, all.size ? `${heard} of ${counted(all.size, "stream")} heard` : "");
  }

  async function add() {
    const made = await addStream();
    if (!made) return;
    take(made);
    notice(`${made.name} is added and connects.`);
  }
  const adder = (word) => h("button.button.primary", { type: "button", onclick: add }, icon("add"), word);

  view.append(
    h("header", {}, h("h1", {}, "Streams"), lead, h("div.actions", {}, adder("Add a stream"))),
    h("div.filters", {}, searchField("Filter streams", "", (value) => ((text = value.toLowerCase()), arrange()))),
    h("section.panel", { "aria-label": "Streams" }, table, instead),
  );
  async function start() {
    body.replaceChildren(...Array.from({ length: 5 }, () => h("tr", { "aria-hidden": "true" }, Array.from({ length: 6 }, () => h("td", {}, bone("70%"))))));
    try {
      await known();
      if (!signal.aborted) arrange();
    } catch (error) {
      table.hidden = true;
      if (!signal.aborted) instead.replaceChildren(failed(error, start));
    }
  }
  const arrangeSoon = settled(arrange, 50);
  onStreams((changed) => (changed ? changed.forEach((name) => rows.get(name)?.update()) : arrangeSoon()), signal);
  repeat(() => document.hidden || rows.forEach((one) => one.tick()), TICK_MS, signal);
  start();
  if (query.get("add")) add();
}
