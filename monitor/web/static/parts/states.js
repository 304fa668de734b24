// What stands where content will be, is missing, or failed.
import { h } from "./element.js";
import { icon } from "./icons.js";

/** Says why there is nothing, and what to do next. */
export function empty(picture, title, text, ...actions) {
  return h(
    "div.empty",
    {},
    icon(picture),
    h("h3", {}, title),
    h("p", {}, text),
    actions.length ? h("div.actions", {}, actions) : null,
  );
}

/** Says what went wrong, and lets the viewer try again. */
export function failed(error, again) {
  const button = h("button.button", { type: "button", onclick: again }, icon("again"), "Try again");
  return empty("warn", "This could not be read", error.message, button);
}

/** Lines in the place of text that is on its way. */
export function bones(widths) {
  return h("div.stack", { "aria-hidden": "true" }, widths.map((width) => bone(width)));
}

export function bone(width) {
  const made = h("span.bone");
  made.style.width = width;
  return made;
}

/** Replace what `place` shows with what `read` resolves to: bones meanwhile, and a way out if it fails. */
export async function shown(place, read, signal, widths = ["60%", "85%", "40%"]) {
  place.replaceChildren(bones(widths));
  place.setAttribute("aria-busy", "true");
  try {
    const made = await read();
    if (!signal.aborted) place.replaceChildren(...[made].flat().filter(Boolean));
  } catch (error) {
    if (!signal.aborted) place.replaceChildren(failed(error, () => shown(place, read, signal, widths)));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

/** A titled surface. */
export function panel(title, body, ...beside) {
  const aside = beside.length ? h("div.end.actions", {}, beside) : null;
  return h("section.panel", { "aria-label": title }, h("header", {}, h("h2", {}, title), aside), body);
}

/** Names and values; a value is text or an element, and rows without one are left out. */
export function facts(rows, { inRows = false } = {}) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  const pairs = known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
  return h(inRows ? "dl.facts.rows" : "dl.facts", {}, pairs);
}

/** One of several choices, as buttons side by side. */
export function segments(label, choices, chosen, choose) {
  const buttons = choices.map(([value, text]) => {
    const press = () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      choose(value);
    };
    const button = h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: press }, text);
    return button;
  });
  return h("div.segments", { role: "group", "aria-label": label }, buttons);
}

/** A search field; "/" brings the keyboard to it. */
export function searchField(label, value, changed) {
  const input = h("input.input", { type: "search", value, placeholder: label, "aria-label": label, "data-find": true });
  input.addEventListener("input", () => changed(input.value.trim()));
  return h("div.field-search", {}, icon("search"), input);
}

/** A list to choose from, of [value, text]. */
export function choice(label, options, value, changed) {
  const made = options.map(([key, text]) => h("option", { value: key, selected: key === value }, text));
  return h("select.input", { "aria-label": label, onchange: (event) => changed(event.target.value) }, made);
}
