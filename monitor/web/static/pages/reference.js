// One reference: listen, edit what is said of it, and where it was aired.
import { ask, pathOf } from "../api.js";
import { listen } from "../events.js";
import { field, form } from "../parts/dialog.js";
import { h, settled } from "../parts/element.js";
import { amount, length, seconds, timeOf } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { notice } from "../parts/notice.js";
import { player } from "../parts/player.js";
import { empty, facts, panel, shown } from "../parts/states.js";
import { titleOf } from "../parts/words.js";
import { matchListing } from "./matches.js";
import { deleteReferences } from "./references.js";

const FIELDS = [["title", "Title"], ["artist", "Artist"], ["isrc", "ISRC"], ["owner", "Owner"], ["label", "Label"]];

/** `name: value` lines of free attributes, and back. */
const asLines = (attributes) => Object.entries(attributes).map(([name, value]) => `${name}: ${value}`).join("\n");
function fromLines(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const [, name, value] = /^\s*([^:]+?)\s*:\s*(.*?)\s*$/.exec(line) ?? [];
      if (!name) throw new Error(`Write further fields as name: value; this line is not: ${line}`);
      return [name, value];
    }),
  );
}

/** Ask for new words about a reference; resolves to the reference as it is then, or null. */
function edited(reference, address) {
  const inputs = FIELDS.map(([name, label]) => [name, label, h("input.input", { name, value: reference[name] ?? "" })]);
  const further = h("textarea.input", { name: "attributes", rows: 3, value: asLines(reference.attributes) });
  return form({
    title: `Edit ${titleOf(reference)}`,
    body: h("div.stack", {}, inputs.map(([, label, input]) => field(label, input)), field("Further fields", further, "One a line, as name: value")),
    action: "Save",
    save: () => {
      const said = Object.fromEntries(inputs.map(([name, , input]) => [name, input.value.trim() || null]));
      return ask(address, { method: "PATCH", json: { ...said, attributes: fromLines(further.value) } });
    },
  });
}

export function reference(view, { words, signal }) {
  const [catalog, ...rest] = words;
  const reference_id = rest.join("/");
  const address = `/references/${encodeURIComponent(catalog)}/${pathOf(reference_id)}`;
  const head = h("header", {});
  const about = h("div.body");

  function fill(found) {
    document.title = `${titleOf(found)} · monitor`;
    const edit = async () => {
      const now = await edited(found, address);
      if (!now) return;
      notice("Saved.");
      fill(now);
    };
    const remove = async () => {
      if (await deleteReferences([found])) location.hash = "#/references";
    };
    head.replaceChildren(
      h("a.back", { href: "#/references" }, "References"),
      h("h1", {}, titleOf(found)),
      h("p.lead", {}, found.artist ?? ""),
      h("div.actions", {}, h("button.button", { type: "button", onclick: edit }, icon("edit"), "Edit"), h("button.button.danger", { type: "button", onclick: remove }, icon("remove"), "Delete")),
    );
    about.replaceChildren(
      facts(
        [
          ["Id", h("span.mono", {}, found.reference_id)],
          ["Catalog", found.catalog],
          ["Length", length(found.duration_s)],
          ["Windows", amount(found.windows)],
          ["ISRC", found.isrc && h("span.mono", {}, found.isrc)],
          ["Owner", found.owner],
          ["Label", found.label],
          ...Object.entries(found.attributes),
          ["File", h("span.mono.small", {}, found.path)],
          ["Added", timeOf(seconds(found.added_at))],
          ["Changed", found.updated_at && timeOf(seconds(found.updated_at))],
        ],
        { inRows: true },
      ),
    );
  }

  const aired = matchListing({
    label: `Where ${reference_id} was aired`,
    query: () => ({ reference_id, catalog }),
    but: ["reference", "score"],
    none: () => empty("matches", "Not aired yet", "No stream was heard playing this recording since it was added."),
    signal,
  });

  const place = h("div.stack");
  view.append(place);
  shown(place, async () => {
    const found = await ask(address, { signal });
    view.prepend(head);
    fill(found);
    const listened = player({ catalog, reference_id, name: titleOf(found), duration_s: found.duration_s, signal });
    aired.reload();
    return [
      h("div.columns", {}, h("div.stack", {}, panel("Listen", h("div.body", {}, listened.element)), panel("Where it was aired", aired.element)), h("div.stack", {}, panel("About", about))),
    ];
  }, signal, ["30%", "100%", "70%"]);
  listen("match", settled((match) => match.reference_id === reference_id && aired.refresh(), 300), signal);
}
