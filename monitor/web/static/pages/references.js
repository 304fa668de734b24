// References: add by dropping files, find, listen, edit, delete.
import { ask, pathOf } from "../api.js";
import * as intake from "../intake.js";
import { confirmed, field, form } from "../parts/dialog.js";
import { drop } from "../parts/drop.js";
import { h, settled, write } from "../parts/element.js";
import { counted, seconds, timeOf } from "../parts/format.js";
import { icon } from "../parts/icons.js";
import { listing } from "../parts/listing.js";
import { notice, tried } from "../parts/notice.js";
import { player } from "../parts/player.js";
import { choice, empty, searchField } from "../parts/states.js";
import { titleOf } from "../parts/words.js";
import { referenceWay } from "./match.js";

const keyOf = (reference) => `${reference.catalog}/${reference.reference_id}`;

/** Delete after asking; resolves to true once they are gone. */
export async function deleteReferences(chosen) {
  const one = chosen.length === 1 ? chosen[0] : null;
  const sure = await confirmed({
    title: one ? `Delete ${titleOf(one)}?` : `Delete ${counted(chosen.length, "reference")}?`,
    text: "Streams are no longer searched for it. Matches that were found stay; the audio file is not touched.".replace("it.", one ? "it." : "them."),
    action: "Delete",
  });
  if (!sure) return false;
  const gone = await tried(async () => {
    if (one) return ask(`/references/${encodeURIComponent(one.catalog)}/${pathOf(one.reference_id)}`, { method: "DELETE" }).then(() => true);
    for (const catalog of new Set(chosen.map((reference) => reference.catalog))) {
      const reference_ids = chosen.filter((reference) => reference.catalog === catalog).map((reference) => reference.reference_id);
      await ask("/references/delete", { method: "POST", json: { catalog, reference_ids } });
    }
    return true;
  });
  if (gone) notice(one ? `${titleOf(one)} is deleted.` : `${counted(chosen.length, "reference")} are deleted.`);
  return Boolean(gone);
}

/** Ask for paths on the daemon's machine, and load what lies there. */
function addFromServer(catalog) {
  const paths = h("textarea.input", { name: "paths", rows: 4, required: true, placeholder: "/music/masters" });
  return form({
    title: "Add from the server",
    body: field("Files or folders", paths, "One a line, below the directories of http.import_dirs; they stay where they are."),
    action: "Add",
    save: () => intake.addPaths(paths.value.split("\n").map((line) => line.trim()).filter(Boolean), catalog),
  });
}

export function references(view, { query: given, signal }) {
  const wanted = { q: given.get("q") ?? "", catalog: given.get("catalog") ?? "" };
  const selected = new Map();
  const lead = h("p.lead", { role: "status" });
  const catalogs = h("span");
  const target = h("span");
  let into = "";

  const bulk = h("div.actions.bulk", { hidden: true });
  function select(reference, on) {
    if (on) selected.set(keyOf(reference), reference);
    else selected.delete(keyOf(reference));
    bulk.hidden = selected.size === 0;
    bulk.replaceChildren(h("span", {}, `${counted(selected.size, "reference")} chosen`), h("button.button.danger", { type: "button", onclick: () => removeAll([...selected.values()]) }, icon("remove"), "Delete"));
  }

  async function removeAll(chosen) {
    if (!(await deleteReferences(chosen))) return;
    for (const reference of chosen) {
      list.remove(keyOf(reference));
      select(reference, false);
    }
    readCount();
  }

  const list = listing({
    label: "References",
    columns: [
      { label: "Choose", hidden: true, class: "fit above lead", cell: (reference) => h("input", { type: "checkbox", checked: selected.has(keyOf(reference)), "aria-label": `Choose ${titleOf(reference)}`, onchange: (event) => select(reference, event.target.checked) }) },
      { label: "Title", class: "name", cell: (reference) => h("div", {}, h("a.cover", { href: referenceWay(reference) }, titleOf(reference)), h("small", {}, reference.artist || (reference.title ? reference.reference_id : "No title"))) },
      { label: "Listen", class: "above listen", cell: (reference) => player({ ...reference, name: titleOf(reference), signal }).element },
      { label: "Catalog", class: "fit spare", cell: (reference) => reference.catalog },
      { label: "Added", class: "fit spare", cell: (reference) => timeOf(seconds(reference.added_at), new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" }).format(new Date(reference.added_at))) },
      { label: "Delete", hidden: true, class: "fit above tail", cell: (reference) => h("button.button.quiet.round", { type: "button", title: "Delete", "aria-label": `Delete ${titleOf(reference)}`, onclick: () => removeAll([reference]) }, icon("remove")) },
    ],
    page: async (after) => {
      const found = await ask("/references", { query: { ...wanted, limit: 50, after }, signal });
      return { rows: found.references, next: found.next };
    },
    key: keyOf,
    empty: () =>
      wanted.q || wanted.catalog
        ? empty("search", "No reference fits", "Search for a part of its title, artist, id or ISRC.")
        : empty("references", "The catalog is empty", "Drop recordings above. Each is listened to once, and from then on found wherever a stream plays it."),
    way: true,
    signal,
  });

  async function readCount() {
    const { count } = await ask("/references/count", { query: wanted, signal }).catch(() => ({}));
    if (count !== undefined) write(lead, counted(count, "recording"));
  }

  const reload = settled(() => (list.reload(), readCount()), 180);
  function change(name, value) {
    wanted[name] = value;
    const kept = Object.entries(wanted).filter(([, one]) => one);
    history.replaceState(null, "", `#/references${kept.length ? `?${new URLSearchParams(kept)}` : ""}`);
    reload();
  }

  async function readCatalogs() {
    const names = (await ask("/health", { signal }).catch(() => ({ catalogs: [] }))).catalogs.map((catalog) => catalog.name);
    if (signal.aborted || names.length < 2) return;
    into = names[0];
    catalogs.replaceChildren(choice("Catalog", [["", "Any catalog"], ...names.map((name) => [name, name])], wanted.catalog, (value) => change("catalog", value)));
    target.replaceChildren(h("label.actions", {}, h("span", {}, "into"), choice("Add to catalog", names.map((name) => [name, name]), into, (value) => (into = value))));
  }

  view.append(
    h("header", {}, h("h1", {}, "References"), lead),
    drop({
      title: "Drop recordings here",
      text: "Files or folders, in any format. Broken and duplicate ones are named, the others are added.",
      action: "Choose files",
      multiple: true,
      take: (files) => tried(() => intake.add(files, into)),
      beside: [h("button.button", { type: "button", onclick: () => addFromServer(into) }, "From the server"), target],
      signal,
    }),
    intake.element,
    h("div.filters", {}, searchField("Title, artist, id or ISRC", wanted.q, (value) => change("q", value)), catalogs, bulk),
    h("section.panel", { "aria-label": "References" }, list.element),
  );
  intake.onSettled(() => (list.refresh(), readCount()), signal);
  intake.adopt();
  list.reload();
  readCount();
  readCatalogs();
}
