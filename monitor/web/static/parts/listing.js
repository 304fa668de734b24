// A table that reads its rows page by page, and takes over what is new without losing the reader's place.
import { h } from "./element.js";
import { bone, failed } from "./states.js";

const BONES = 6;

/**
 * `columns` are {label, class, cell(row), hidden}; `page(after)` resolves to {rows, next}; `key(row)` names a row for
 * ever; `empty()` is shown where there are none. `way` marks rows whose link covers them.
 */
export function listing({ label, columns, page, key, empty, signal, way = false }) {
  const head = columns.map((column) => {
    const name = column.hidden ? h("span.unseen", {}, column.label) : column.label;
    return h("th", { scope: "col", role: "columnheader", class: column.class }, name);
  });
  const body = h("tbody", { role: "rowgroup" });
  // Roles are said, because rows that are laid out as blocks would lose them.
  const table = h(
    "table.table.folds",
    { role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)),
    body,
  );
  const more = h("button.button", { type: "button", onclick: () => readMore() }, "Show more");
  const foot = h("div.more", { hidden: true }, more);
  const instead = h("div");
  const element = h("div", {}, table, foot, instead);
  const rows = new Map();
  let turn = 0;
  let next = null;

  function made(row) {
    const cells = columns.map((column) => h("td", { class: column.class, role: "cell" }, column.cell(row)));
    return h(way ? "tr.way" : "tr", { role: "row" }, cells);
  }

  function settle(found) {
    next = found.next;
    foot.hidden = !next;
    table.hidden = rows.size === 0;
    instead.replaceChildren(...(rows.size === 0 ? [empty()] : []));
    element.removeAttribute("aria-busy");
  }

  function put(row, { place = null, fresh = false }) {
    const name = key(row);
    const said = JSON.stringify(row);
    const before = rows.get(name);
    if (before?.said === said) return before.element;
    const line = made(row);
    if (fresh && !before) line.classList.add("fresh");
    if (before) before.element.replaceWith(line);
    else body.insertBefore(line, place);
    rows.set(name, { said, element: line });
    return line;
  }

  async function read(after) {
    const mine = ++turn;
    const found = await page(after);
    return mine === turn && !signal.aborted ? found : null;
  }

  /** Read from the start: bones, then the rows. */
  async function reload() {
    rows.clear();
    foot.hidden = true;
    table.hidden = false;
    instead.replaceChildren();
    element.setAttribute("aria-busy", "true");
    const blank = (_, line) => h("tr", { "aria-hidden": "true" }, columns.map((__, at) => h("td", {}, bone(`${40 + ((line * 7 + at * 13) % 5) * 12}%`))));
    body.replaceChildren(...Array.from({ length: BONES }, blank));
    try {
      const found = await read(null);
      if (!found) return;
      body.replaceChildren();
      for (const row of found.rows) put(row, {});
      settle(found);
    } catch (error) {
      if (signal.aborted) return;
      table.hidden = true;
      instead.replaceChildren(failed(error, reload));
    }
  }

  /** Read the first page again: new rows come on top, changed ones change, the rest stays as it is. */
  async function refresh() {
    if (element.hasAttribute("aria-busy")) return;
    const found = await read(null).catch(() => null);
    if (!found) return;
    const said = new Set(found.rows.map(key));
    let place = body.firstChild;
    for (const row of found.rows) {
      const old = rows.get(key(row))?.element;
      const line = put(row, { place, fresh: true });
      if (old) place = line.nextSibling;
    }
    // A page without a next one is the whole list: what it does not name is gone.
    if (!found.next) for (const name of [...rows.keys()]) if (!said.has(name)) drop(name);
    settle(rows.size > found.rows.length ? { next: next ?? found.next } : found);
  }

  async function readMore() {
    more.disabled = true;
    try {
      const found = await read(next);
      if (!found) return;
      for (const row of found.rows) put(row, {});
      settle(found);
    } catch (error) {
      instead.replaceChildren(failed(error, () => (instead.replaceChildren(), readMore())));
    } finally {
      more.disabled = false;
    }
  }

  function drop(name) {
    rows.get(name)?.element.remove();
    rows.delete(name);
  }

  /** Take a row out; nothing is read. */
  function remove(name) {
    drop(name);
    settle({ next });
  }

  const seen = new IntersectionObserver(([entry]) => entry.isIntersecting && !more.disabled && readMore(), { rootMargin: "400px" });
  seen.observe(foot);
  signal.addEventListener("abort", () => seen.disconnect(), { once: true });
  return { element, reload, refresh, remove };
}
