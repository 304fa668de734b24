// The daemon's API: one place for addresses, tokens, and errors as the daemon words them.
import { askForToken } from "./parts/dialog.js";

const ROOT = "/api/v1";
const TOKEN = "monitor.token";
const CLOSE_ENOUGH_S = 2;
let clock_offset_s = 0;
let asking = null;

/** An answer that is no success; `message` is the daemon's own sentence. */
export class Problem extends Error {
  constructor(status, detail, errors = []) {
    super(detail);
    this.status = status;
    this.errors = errors;
  }
}

export const token = () => sessionStorage.getItem(TOKEN);
export function keepToken(value) {
  if (value) sessionStorage.setItem(TOKEN, value);
  else sessionStorage.removeItem(TOKEN);
}

/** Unix seconds on the daemon's clock, as far as its answers tell. */
export const now_s = () => Date.now() / 1000 + clock_offset_s;

/** The address of an API path with its query; empty values are left out. */
export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return ROOT + path + (given.length ? `?${new URLSearchParams(given)}` : "");
}

/** A reference's id as a path: its slashes separate, everything else is escaped. */
export const pathOf = (reference_id) => reference_id.split("/").map(encodeURIComponent).join("/");

export const audioAddress = (catalog, reference_id, query) =>
  address(`/audio/${encodeURIComponent(catalog)}/${pathOf(reference_id)}`, query);

export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** What the daemon says went wrong. */
export async function problemOf(answer) {
  const said = await answer.json().catch(() => null);
  const lines = (said?.errors ?? []).map((error) => [error.field, error.detail].filter(Boolean).join(": "));
  const detail = [said?.detail ?? `The daemon answered ${answer.status}.`, ...lines].join(" ");
  return new Problem(answer.status, detail, said?.errors);
}

/** True once the viewer gave another token after a 401 or 403; however many requests ask, they are asked once. */
export async function mayTryAgain(problem) {
  if (problem.status !== 401 && problem.status !== 403) return false;
  asking ??= askForToken(problem.message).finally(() => (asking = null));
  const given = await asking;
  if (given) keepToken(given);
  return Boolean(given);
}

/**
 * The answer to a request, parsed. `json` or `form` is the body. Throws Problem where the daemon refuses, and Problem
 * with status 0 where it does not answer.
 */
export async function ask(path, { method = "GET", query, json, form, signal } = {}) {
  const used = token();
  const headers = { Accept: "application/json", ...authorization() };
  if (json !== undefined) headers["Content-Type"] = "application/json";
  const body = json !== undefined ? JSON.stringify(json) : form;
  let answer;
  try {
    answer = await fetch(address(path, query), { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The daemon does not answer. Is it running?");
  }
  noteClock(answer);
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const problem = await problemOf(answer);
  // Somebody else's request may have asked for the token meanwhile.
  if (answer.status === 401 && token() !== used) return ask(path, { method, query, json, form, signal });
  if (await mayTryAgain(problem)) return ask(path, { method, query, json, form, signal });
  throw problem;
}

/** Post a form, telling how many bytes have gone out; fetch cannot. */
export function send(path, form, { sent, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    for (const [name, value] of Object.entries(authorization())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => sent(event.loaded, event.total);
    request.onerror = () => reject(new Problem(0, "The connection to the daemon broke while the files were sent."));
    request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    request.onload = async () => {
      const answer = new Response(request.responseText || null, { status: request.status });
      if (answer.ok) return resolve(await answer.json());
      const problem = await problemOf(answer);
      if (await mayTryAgain(problem)) resolve(send(path, form, { sent, signal }));
      else reject(problem);
    };
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(form);
  });
}

function noteClock(answer) {
  const said_s = Date.parse(answer.headers.get("Date") ?? "") / 1000;
  if (Number.isNaN(said_s)) return;
  const offset_s = said_s + 0.5 - Date.now() / 1000;
  clock_offset_s = Math.abs(offset_s) > CLOSE_ENOUGH_S ? offset_s : 0;
}
