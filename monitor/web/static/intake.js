// Files on their way into the catalog. Lives as long as the window, so that a load goes on while other pages are shown.
import { ask, send } from "./api.js";
import { listen } from "./events.js";
import { h, write } from "./parts/element.js";
import { counted, percent, size } from "./parts/format.js";
import { icon } from "./parts/icons.js";
import { tried } from "./parts/notice.js";
import { segments } from "./parts/states.js";
import { isRefusal, loadBadge } from "./parts/words.js";

// One request holds so much at most; the next follows when it is through.
const BATCH_FILES = 50;
const BATCH_BYTES = 256e6;
// So many loads wait at the daemon at most; it keeps what they hold on its disk.
const MOST_JOBS = 2;
const POLL_MS = 3000;
const ENDED = new Set(["done", "failed", "cancelled"]);

const list = h("ul.files");
const summary = h("p.muted.small", { role: "status" });
const clear = h("button.button.quiet", { type: "button", onclick: forgetSettled }, "Clear");
const stop = h("button.button", { type: "button", onclick: stopAll }, icon("stop"), "Stop");
const which = segments("Which files", [["all", "All"], ["refused", "Refused"]], "all", (value) => list.classList.toggle("refused-only", value === "refused"));

/** The panel that shows every file's progress and fate; hidden while there is none. */
export const element = h(
  "section.panel.intake",
  { "aria-label": "Files being added", hidden: true },
  h("header", {}, h("h2", {}, "Files being added"), summary, h("div.end.actions", {}, which, stop, clear)),
  list,
);

const files = new Set();
const jobs = new Map();
const settlers = new Set();
let sending = null;

/** Call `settled()` whenever files have become references, until the signal. */
export function onSettled(settled, signal) {
  settlers.add(settled);
  signal.addEventListener("abort", () => settlers.delete(settled), { once: true });
}

function row(name, bytes) {
  const bar = h("i");
  const said = h("span.reason");
  const badge = h("span.fate", {}, loadBadge("waiting"));
  const line = h("li.file", {}, h("span.file-name", { title: name }, name), h("span.muted.small.number", {}, bytes ? size(bytes) : ""), badge, h("span.bar", {}, bar), said);
  const file = { name, bytes, status: null, element: line };
  file.sent = (ratio) => {
    bar.style.transform = `scaleX(${ratio})`;
    line.classList.toggle("sent", ratio === 1);
    if (!file.status) badge.replaceChildren(h("span.badge", {}, ratio < 1 ? percent(ratio) : "Waiting"));
  };
  file.settle = (status, reason, reference) => {
    if (file.status === status) return;
    file.status = status;
    badge.replaceChildren(loadBadge(status));
    line.classList.toggle("refused", isRefusal(status));
    line.classList.add("settled");
    write(said, reason ?? "");
    if (reference && !isRefusal(status)) {
      const way = `#/references/${encodeURIComponent(reference.catalog)}/${encodeURIComponent(reference.reference_id)}`;
      line.querySelector(".file-name").replaceChildren(h("a", { href: way }, name));
    }
  };
  files.add(file);
  list.append(line);
  return file;
}

function count() {
  const all = [...files];
  const settled = all.filter((file) => file.status);
  const refused = settled.filter((file) => isRefusal(file.status));
  element.hidden = all.length === 0;
  stop.hidden = settled.length === all.length;
  clear.hidden = settled.length === 0;
  const parts = [`${settled.length} of ${counted(all.length, "file")} done`];
  if (refused.length) parts.push(`${refused.length} refused`);
  write(summary, parts.join(" · "));
}

/** Send files, in as few requests as their size allows. */
export async function add(chosen, catalog) {
  const batches = [];
  for (const { file, name } of chosen) {
    const last = batches.at(-1);
    const fits = last && last.length < BATCH_FILES && last.reduce((sum, other) => sum + other.bytes, file.size) <= BATCH_BYTES;
    // Only the last part of a name is kept by the daemon: what tells two tracks 01 apart is the folder.
    const made = Object.assign(row(name, file.size), { file, sent_name: name.replaceAll("/", " - ") });
    if (fits) last.push(made);
    else batches.push([made]);
  }
  count();
  // Several drops queue up behind one another.
  const before = sending;
  const mine = (async () => {
    await before?.done;
    for (const batch of batches) await sendBatch(batch, catalog, mineStop.signal);
  })();
  const mineStop = new AbortController();
  sending = { done: mine, stop: mineStop };
  await mine;
}

async function sendBatch(batch, catalog, signal) {
  while (jobs.size >= MOST_JOBS && !signal.aborted) await Promise.race([...jobs.values()].map((job) => job.ended));
  if (signal.aborted) return giveUp(batch, "was not sent: stopped");
  const form = new FormData();
  if (catalog) form.append("catalog", catalog);
  for (const file of batch) form.append("files", file.file, file.sent_name);
  const whole = batch.reduce((sum, file) => sum + file.bytes, 0);
  // The parts of a form go out one after the other: what has gone out says which file is under way.
  const sent = (loaded, total) => {
    let before = 0;
    for (const file of batch) {
      const gone = (loaded / total) * whole - before;
      file.sent(file.bytes ? Math.min(1, Math.max(0, gone / file.bytes)) : 1);
      before += file.bytes;
    }
  };
  try {
    const { job } = await send("/references", form, { sent, signal });
    for (const file of batch) file.sent(1);
    follow(job, batch);
  } catch (error) {
    giveUp(batch, error.name === "AbortError" ? "was not sent: stopped" : error.message);
  } finally {
    for (const file of batch) delete file.file;
  }
}

function giveUp(batch, reason) {
  for (const file of batch) if (!file.status) file.settle("failed", reason);
  count();
}

/** Show what becomes of a job's files: of those of `batch`, or where there is none, of those that the job names. */
function follow(job, batch = null) {
  const followed = { batch, files: [], timer: setInterval(() => poll(job.job_id), POLL_MS) };
  followed.ended = new Promise((resolve) => (followed.end = resolve));
  jobs.set(job.job_id, followed);
  take(job);
}

/** Load what lies on the daemon's machine. */
export async function addPaths(paths, catalog) {
  const { job } = await ask("/references/paths", { method: "POST", json: catalog ? { paths, catalog } : { paths } });
  follow(job);
  return job;
}

// Events say it first; asking makes sure of it.
async function poll(job_id) {
  const job = await ask(`/jobs/${encodeURIComponent(job_id)}`).catch(() => null);
  if (job) take(job);
}

/** Which file each row tells of: by its name, or where the daemon could not keep that, by its place. */
function paired(rows, batch) {
  const left = new Set(batch);
  const pairs = new Map();
  for (const said of rows) {
    const file = batch.find((one) => left.has(one) && one.sent_name === said.file);
    if (file) (pairs.set(said, file), left.delete(file));
  }
  for (const said of rows) {
    const [file] = left;
    if (!pairs.has(said) && file) (pairs.set(said, file), left.delete(file));
  }
  return rows.map((said) => pairs.get(said));
}

function take(job) {
  const followed = jobs.get(job.job_id);
  if (!followed) return;
  const unnamed = job.rows.slice(followed.files.length);
  if (followed.batch && unnamed.length) followed.files = paired(job.rows, followed.batch);
  if (!followed.batch) followed.files.push(...unnamed.map((said) => row(said.file)));
  job.rows.forEach((said, at) => {
    if (said.status) followed.files[at]?.settle(said.status, said.reason, { catalog: job.catalog, reference_id: said.reference_id });
  });
  if (ENDED.has(job.state)) {
    clearInterval(followed.timer);
    jobs.delete(job.job_id);
    followed.end();
    giveUp(followed.batch ?? followed.files, job.reason ?? "was not loaded: the load was stopped before it");
    for (const settled of [...settlers]) settled();
  }
  count();
}

function forgetSettled() {
  for (const file of files) {
    if (!file.status) continue;
    file.element.remove();
    files.delete(file);
  }
  count();
}

async function stopAll() {
  sending?.stop.abort();
  for (const job_id of [...jobs.keys()]) await tried(() => ask(`/jobs/${encodeURIComponent(job_id)}/cancel`, { method: "POST" }));
}

/** Take over loads that another window, or this one before it was reloaded, has begun. */
export async function adopt() {
  const { jobs: found } = await ask("/jobs").catch(() => ({ jobs: [] }));
  for (const job of found) {
    if (!ENDED.has(job.state) && !jobs.has(job.job_id)) follow(job);
  }
  count();
}

listen("job", take);
addEventListener("beforeunload", (event) => {
  if ([...files].some((file) => file.file)) event.preventDefault();
});
