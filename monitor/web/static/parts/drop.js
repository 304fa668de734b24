// A place to drop files on, or to choose them: folders are walked.
import { h } from "./element.js";
import { icon } from "./icons.js";

async function walked(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [{ file, name: path + file.name }];
  }
  const reader = entry.createReader();
  const found = [];
  // A reader hands out a hundred entries at a time, and nothing at the end.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    for (const inner of some) found.push(...(await walked(inner, `${path}${entry.name}/`)));
  }
  return found;
}

async function filesOf(transfer) {
  // Entries are gone once the event is over: all are taken before the first wait.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  return (await Promise.all(entries.map((entry) => walked(entry)))).flat();
}

/** `take([{file, name}])` gets what is dropped or chosen; `beside` are further buttons. */
export function drop({ title, text, action, multiple = false, take, beside = [], signal }) {
  const input = h("input", { type: "file", multiple, accept: multiple ? null : "audio/*,video/*", hidden: true, "aria-label": action, tabindex: "-1" });
  input.addEventListener("change", () => {
    const chosen = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
    input.value = "";
    if (chosen.length) take(chosen);
  });
  const choose = h("button.button.primary", { type: "button", onclick: () => input.click() }, action);
  const element = h("div.drop", {}, icon("upload"), h("strong", {}, title), h("p", {}, text), h("div.actions", {}, choose, beside), input);

  // The whole window takes files, so that one that misses the place does not replace the page.
  const isFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  const enter = (change) => (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    depth = Math.max(0, depth + change);
    element.classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", enter(1), { signal });
  addEventListener("dragleave", enter(-1), { signal });
  addEventListener("dragover", (event) => isFiles(event) && event.preventDefault(), { signal });
  addEventListener("drop", async (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    depth = 0;
    element.classList.remove("over");
    const found = await filesOf(event.dataTransfer);
    if (found.length) take(multiple ? found : found.slice(0, 1));
  }, { signal });
  return element;
}
