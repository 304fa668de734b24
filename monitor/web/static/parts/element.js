// Elements by description. Text only ever becomes text nodes: no name from outside can become markup.
const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: `h("p.small.muted", {title: "…"}, "text", …children)`. */
export function h(description, attributes, ...children) {
  const [tag, ...classes] = description.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  return filled(element, attributes, children);
}

/** An SVG element, described alike. */
export function s(description, attributes, ...children) {
  const [tag, ...classes] = description.split(".");
  const element = document.createElementNS(SVG, tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  return filled(element, attributes, children);
}

/** Set an element's text, touching the page only if it differs. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** `call` after `wait_ms` without another call. */
export function settled(call, wait_ms = 200) {
  let timer;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...words), wait_ms);
  };
}

/** `call` every `every_ms` until the signal. */
export function repeat(call, every_ms, signal) {
  const timer = setInterval(call, every_ms);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
