// Questions: native modal dialogs, which keep the keyboard's focus and close on Escape.
import { h } from "./element.js";

/**
 * Show a form in a dialog. `save()` runs on submit: the dialog closes with what it returns, or stays open with the
 * message of what it throws. Resolves to null if the viewer leaves it.
 */
export function form({ title, body, action, danger = false, save, signal }) {
  return new Promise((resolve) => {
    let result = null;
    const said = h("p.banner.bad", { role: "alert", hidden: true });
    const button = h(`button.button.primary${danger ? ".danger" : ""}`, { type: "submit" }, action);
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      try {
        result = await save();
        dialog.close();
      } catch (error) {
        said.textContent = error.message;
        said.hidden = false;
        button.disabled = false;
      }
    };
    const leave = h("button.button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const dialog = h(
      "dialog",
      { "aria-label": title, onclose: () => (dialog.remove(), resolve(result)) },
      h("form", { onsubmit: submit, autocomplete: "off" }, h("h2", {}, title), body, said, h("div.actions", {}, leave, button)),
    );
    document.body.append(dialog);
    dialog.showModal();
    signal?.addEventListener("abort", () => dialog.close(), { once: true });
  });
}

/** True if the viewer confirms. */
export async function confirmed({ title, text, action, danger = true }) {
  return (await form({ title, body: h("p.muted", {}, text), action, danger, save: async () => true })) === true;
}

/** The token that the viewer gives, or null. */
export function askForToken(why) {
  const input = h("input.input", { type: "password", name: "token", autocomplete: "off", required: true, autofocus: true });
  return form({
    title: "This needs a token",
    body: h("div.stack", {}, h("p.muted", {}, why), field("Token", input, "Kept until this tab is closed.")),
    action: "Use this token",
    save: async () => input.value.trim(),
  });
}

let fields = 0;

/** A labelled input; the hint describes it, but is no part of its name. */
export function field(label, control, hint) {
  fields += 1;
  control.id = `field-${fields}`;
  if (hint) control.setAttribute("aria-describedby", `hint-${fields}`);
  return h("div.field", {}, h("label", { for: control.id }, label), control, hint ? h("small", { id: `hint-${fields}` }, hint) : null);
}
