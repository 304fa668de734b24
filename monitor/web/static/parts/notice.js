// Short messages in the corner; refusals stay until they are closed.
import { h } from "./element.js";
import { icon } from "./icons.js";

const SHOWN_MS = 5000;

export function notice(text, { bad = false } = {}) {
  const close = h("button.button.quiet.round", { type: "button", "aria-label": "Close this message" }, icon("close"));
  const made = h(`div.notice${bad ? ".bad" : ""}`, {}, icon(bad ? "warn" : "done"), h("p", {}, text), close);
  close.addEventListener("click", () => made.remove());
  document.getElementById("notices").append(made);
  if (!bad) setTimeout(() => made.remove(), SHOWN_MS);
}

/** Run an action of the viewer's; what goes wrong is said, and null returned. */
export async function tried(action) {
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message, { bad: true });
    return null;
  }
}
