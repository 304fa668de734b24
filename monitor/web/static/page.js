// The frame: which page is shown, navigation, theme, token, connection.
import { keepToken, token } from "./api.js";
import { stayConnected, watchConnection } from "./events.js";
import { askForToken } from "./parts/dialog.js";
import { h } from "./parts/element.js";
import { counted } from "./parts/format.js";
import { icon } from "./parts/icons.js";
import { notice } from "./parts/notice.js";
import { empty } from "./parts/states.js";
import { keepFresh, known, onStreams, streams } from "./roster.js";
import { health } from "./pages/health.js";
import { live } from "./pages/live.js";
import { match } from "./pages/match.js";
import { matches } from "./pages/matches.js";
import { reference } from "./pages/reference.js";
import { references } from "./pages/references.js";
import { search } from "./pages/search.js";
import { stream } from "./pages/stream.js";
import { streams as streamsPage } from "./pages/streams.js";

// A page is one line here: its place in the navigation, and what shows it whole or one thing of it.
const GROUPS = [
  ["Monitoring", [["live", "Live", live], ["matches", "Matches", matches, match]]],
  ["Catalog", [["references", "References", references, reference], ["search", "Search", search]]],
  ["Operation", [["streams", "Streams", streamsPage, stream], ["health", "Health", health]]],
];
const PAGES = new Map(GROUPS.flatMap(([, pages]) => pages.map(([path, title, whole, one]) => [path, { title, whole, one }])));
const THEMES = [["auto", "system"], ["light", "light"], ["dark", "dark"]];

const forever = new AbortController().signal;
let shown = new AbortController();
let shown_path = null;

function navigation() {
  const groups = GROUPS.map(([title, pages]) => {
    const links = pages.map(([path, name]) => h("a.nav-link", { href: `#/${path}`, "data-path": path }, icon(path), h("span", {}, name)));
    return h("div.nav-group", {}, h("p.nav-title", {}, title), links);
  });
  document.getElementById("nav").replaceChildren(...groups);
}

/** Show what the address says. */
function route() {
  const [path, query] = (location.hash.slice(1) || "/live").split("?");
  const [name, ...words] = path.split("/").filter(Boolean).map(decodeURIComponent);
  const page = PAGES.get(name);
  const show = words.length ? page?.one : page?.whole;
  shown.abort();
  shown = new AbortController();
  for (const link of document.querySelectorAll(".nav-link")) {
    if (link.dataset.path === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const view = h("div.view", {});
  const main = document.getElementById("main");
  main.replaceChildren(view);
  document.title = `${page?.title ?? "Not found"} · monitor`;
  if (show) show(view, { words, query: new URLSearchParams(query), signal: shown.signal });
  else view.append(h("h1", {}, "Not found"), empty("search", "There is no such page", "The address may be mistyped.", h("a.button", { href: "#/live" }, "Go to Live")));
  // The first page leaves the focus where a visitor expects it; a later one begins where it is read.
  if (shown_path !== null) {
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  shown_path = path;
}

function themeButton() {
  const button = h("button.button.quiet.round", { type: "button" });
  const show = () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    const at = THEMES.findIndex(([name]) => name === now);
    const [next, word] = THEMES[(at + 1) % THEMES.length];
    button.replaceChildren(icon(now));
    button.title = `Theme: ${THEMES[at][1]}`;
    button.setAttribute("aria-label", `Theme: ${THEMES[at][1]}. Change to ${word}`);
    return next;
  };
  button.addEventListener("click", () => {
    const next = show();
    if (next === "auto") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("monitor.theme");
    } else {
      document.documentElement.dataset.theme = next;
      localStorage.setItem("monitor.theme", next);
    }
    show();
  });
  show();
  return button;
}

function tokenButton() {
  const button = h("button.button.quiet.round", { type: "button", title: "Token", "aria-label": "Give or change the token" }, icon("token"));
  button.addEventListener("click", async () => {
    const given = await askForToken(token() ? "This window has a token already; another takes its place." : "With a token this page may do what the token allows.");
    if (given === null) return;
    keepToken(given);
    notice("The token is used from now on.");
    route();
  });
  return button;
}

function connection() {
  const place = document.getElementById("connection");
  let connected = null;
  const show = () => {
    const all = [...streams.values()];
    const heard = all.filter((one) => one.up).length;
    const tone = connected === false ? "bad" : connected && heard === all.length ? "ok" : "warn";
    const words = connected === null ? "Connecting" : connected ? (all.length ? `${heard} of ${counted(all.length, "stream")} heard` : "Connected") : "No connection, trying again";
    if (place.textContent !== words || !place.querySelector(`.${tone}`)) place.replaceChildren(h(`span.dot.${connected === null ? "none" : tone}`), h("span", {}, words));
  };
  watchConnection((value) => ((connected = value), show()), forever);
  onStreams(show, forever);
}

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const field = document.querySelector("[data-find]");
  if (field) (event.preventDefault(), field.focus());
});
addEventListener("hashchange", route);
addEventListener("unhandledrejection", (event) => event.reason?.name === "AbortError" && event.preventDefault());
document.querySelector(".skip").addEventListener("click", (event) => (event.preventDefault(), document.getElementById("main").focus()));
document.getElementById("tools").append(tokenButton(), themeButton());
navigation();
connection();
keepFresh();
stayConnected();
known().catch(() => {});
route();
