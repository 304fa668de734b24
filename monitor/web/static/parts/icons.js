// Line icons on a grid of 24, drawn for this page.
import { s } from "./element.js";

const PATHS = {
  live: "M4 12h2M8 8v8M12 4v16M16 8v8M18 12h2",
  matches: "M4 6h16M4 12h10M4 18h7M16 16l2.5 2.5L22 14",
  references: "M4 5h3v14H4zM10 5h3v14h-3zM16 5.6l2.9-.8L22 18.2l-2.9.8z",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5 20 20",
  streams: "M12 13v7M12 13a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3M8 15.5a5.5 5.5 0 1 1 8 0M5 18.5a9.5 9.5 0 1 1 14 0",
  health: "M3 12h4l2.5-6 4 12 2.5-6h5",
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M8.5 5.5v13M15.5 5.5v13",
  stop: "M6.5 6.5h11v11h-11z",
  upload: "M12 16V4M7.5 8.5 12 4l4.5 4.5M4 16v4h16v-4",
  mic: "M12 15a3 3 0 0 0 3-3V6a3 3 0 0 0-6 0v6a3 3 0 0 0 3 3M6 12a6 6 0 0 0 12 0M12 18v3",
  edit: "M4 20l1-4L16.5 4.5l3 3L8 19zM14 7l3 3",
  remove: "M5 7h14M9.5 7V4.5h5V7M7 7l1 13h8l1-13M10.5 10.5v6M13.5 10.5v6",
  add: "M12 5v14M5 12h14",
  again: "M19 12a7 7 0 1 1-2.2-5.1M19.5 3.5V7.5H15.5",
  warn: "M12 4 2.8 19.5h18.4zM12 10v4.5M12 17v.2",
  done: "M5 12.5l4.5 4.5L19.5 7",
  close: "M6 6l12 12M18 6 6 18",
  light: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8M12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  auto: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  token: "M14 10a4 4 0 1 0-3.5 4L12 15.5h2V18h2.5v2.5H20V17l-6.3-6.3M8.5 9v.1",
  save: "M12 4v11M7.5 10.5 12 15l4.5-4.5M4 17v3h16v-3",
  doc: "M6 3.5h8l4 4v13H6zM14 3.5V8h4M9 12h6M9 16h6",
};

/** A decorative icon; whoever shows it alone labels its button. */
export function icon(name) {
  return s("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}
