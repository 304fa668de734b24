// Health: is the whole job done? Queues, delays, model, catalogs, servers, webhooks.
import { ask } from "../api.js";
import { h, repeat } from "../parts/element.js";
import { amount, counted, percent, seconds, signed, size, span, timeOf } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { listing } from "../parts/listing.js";
import { notice, tried } from "../parts/notice.js";
import { choice, empty, facts, panel, shown } from "../parts/states.js";
import { deliveryBadge } from "../parts/words.js";
import { refresh, streams } from "../roster.js";

const REFRESH_MS = 5000;
// A queue is worth a look from half on, and nearly lost near its end.
const HALF = 0.5;
const FULL = 0.9;

function queue({ name, length, capacity }) {
  const ratio = capacity ? Math.min(1, length / capacity) : 0;
  const bar = h("i");
  const written = name.endsWith("bytes") ? size : amount;
  bar.style.transform = `scaleX(${ratio})`;
  const tone = ratio >= FULL ? ".bad" : ratio >= HALF ? ".warn" : "";
  return h("li.queue", {}, h("span", {}, name.replaceAll("_", " ")), h(`span.bar${tone}`, {}, bar), h("span.number.muted", { title: percent(ratio) }, capacity ? `${written(length)} of ${written(capacity)}` : written(length)));
}

function server([name, found]) {
  const names = { postgres: "PostgreSQL", milvus: "Milvus", ffmpeg: "ffmpeg" };
  const where = found.embedded === undefined ? found.path : found.embedded ? "embedded" : "a server of its own";
  return [names[name] ?? name, h("span", {}, found.version ?? "unknown", " ", h("span.muted.small", {}, where ?? ""))];
}

function delays() {
  const heard = [...streams.values()].filter((stream) => stream.up && typeof stream.delay_s === "number");
  if (!heard.length) return h("p.muted", {}, "No stream is heard now.");
  const behind_s = (stream) => stream.behind_s ?? stream.delay_s;
  const slowest = heard.sort((one, other) => behind_s(other) - behind_s(one)).slice(0, 5);
  const row = (stream) =>
    h("li", {}, h("a", { href: `#/streams/${encodeURIComponent(stream.name)}` }, stream.name), h("span.number", {}, `${signed(behind_s(stream), 1)} s`, h("small.muted", {}, ` heard ${signed(stream.delay_s, 1)} s ago`)));
  return h("ul.rows", {}, slowest.map(row));
}

function made(found) {
  const reasons = Object.entries(found.reasons ?? {});
  const banner = found.ready
    ? h("div.banner.ok", {}, icon("done"), h("p", {}, "The daemon does its whole job."))
    : h("div.banner.bad", {}, icon("warn"), h("div", {}, h("p", {}, "The daemon does not do its whole job."), h("ul", {}, reasons.map(([part, why]) => h("li", {}, `${part}: ${why}`)))));
  const catalogs = found.catalogs.map((catalog) => h("li", {}, h("a", { href: `#/references?catalog=${encodeURIComponent(catalog.name)}` }, catalog.name), h("span.number.muted", {}, `${counted(catalog.references, "recording")} · ${counted(catalog.windows, "window")}`)));
  const models = found.models.map((model) => [model.name, h("span", {}, h("span.mono.small", {}, model.model_id), " ", h("span.muted.small", {}, `${model.dimension} numbers a window`))]);
  return [
    banner,
    h(
      "div.pair",
      {},
      panel("Queues", h("div.body", {}, h("ul.rows", {}, found.queues.map(queue)))),
      panel("Furthest behind live", h("div.body", {}, delays())),
      panel("Catalogs", h("div.body", {}, catalogs.length ? h("ul.rows", {}, catalogs) : h("p.muted", {}, "No catalog yet: it is made with the first recording."))),
      panel("Versions", h("div.body", {}, facts([["monitor", found.version], ["Runs for", span(found.uptime_s)], ...models, ...Object.entries(found.servers ?? {}).map(server)], { inRows: true }))),
    ),
  ];
}

function deliveries(signal) {
  let state = "";
  const replay = (delivery) =>
    tried(async () => {
      await ask(`/deliveries/${encodeURIComponent(delivery.delivery_id)}/replay`, { method: "POST" });
      notice("The webhook is sent again.");
      list.refresh();
    });
  const list = listing({
    label: "Webhooks",
    columns: [
      { label: "Since", class: "fit lead", cell: (delivery) => timeOf(seconds(delivery.created_at)) },
      { label: "Endpoint", class: "name", cell: (delivery) => h("div", {}, delivery.endpoint, h("small", {}, delivery.detail || (delivery.status_code ? `answered ${delivery.status_code}` : ""))) },
      { label: "Event", class: "fit", cell: (delivery) => h("a", { href: `#/matches/${delivery.match_id}` }, delivery.type) },
      { label: "Attempts", class: "fit number spare", cell: (delivery) => amount(delivery.attempts) },
      { label: "State", class: "fit tail", cell: (delivery) => deliveryBadge(delivery.state) },
      { label: "Actions", hidden: true, class: "fit", cell: (delivery) => (delivery.state === "dead" ? h("button.button", { type: "button", onclick: () => replay(delivery) }, "Send again") : "") },
    ],
    page: async (after) => {
      const found = await ask("/deliveries", { query: { state, limit: 20, after }, signal });
      return { rows: found.deliveries, next: found.next };
    },
    key: (delivery) => delivery.delivery_id,
    empty: () => empty("done", state ? "None in this state" : "No webhook yet", state ? "Choose another state to see the others." : "Name endpoints under webhooks in the configuration; what is sent to them is listed here."),
    signal,
  });
  const states = choice("State of the webhooks", [["", "All"], ["dead", "Given up"], ["pending", "Waiting"], ["delivered", "Delivered"]], state, (value) => ((state = value), list.reload()));
  list.reload();
  return panel("Webhooks", list.element, states);
}

export function health(view, { signal }) {
  const place = h("div.stack");
  // No event tells how far behind a stream is.
  const read = async () => made((await Promise.all([ask("/health", { signal }), refresh()]))[0]);
  view.append(h("header", {}, h("h1", {}, "Health"), h("div.actions", {}, h("a.button", { href: "/docs" }, icon("doc"), "API"))), place, deliveries(signal));
  shown(place, read, signal, ["40%", "100%", "100%", "80%"]);
  repeat(async () => {
    if (document.hidden || place.hasAttribute("aria-busy")) return;
    const now = await read().catch(() => null);
    // A link that has the focus is not taken away under the fingers.
    if (now && !signal.aborted && !place.contains(document.activeElement)) place.replaceChildren(...now);
  }, REFRESH_MS, signal);
}
