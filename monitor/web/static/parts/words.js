// What the daemon's states and reasons are called here, and in which tone they are shown.
import { h } from "./element.js";

const STREAM_STATES = {
  receiving: ["Receiving", "ok"],
  silent: ["Silent", "warn"],
  connecting: ["Connecting", ""],
  stalled: ["Stalled", "bad"],
  backing_off: ["Retrying", "bad"],
  paused: ["Paused", ""],
  stopped: ["Stopped", ""],
};

const STREAM_REASONS = {
  unreachable: "The address cannot be reached.",
  refused: "The server refuses connections.",
  dns: "The server’s name is not known.",
  tls: "The server’s certificate is not accepted.",
  auth: "The server wants a password.",
  not_found: "The server knows no such stream.",
  http_error: "The server answered with an error.",
  redirect_loop: "The server redirects in a circle.",
  timeout: "The server did not answer in time.",
  stalled: "The audio stopped arriving.",
  no_audio: "The address carries no audio.",
  undecodable: "The audio cannot be decoded.",
  protocol_denied: "This kind of address is not allowed.",
  ended: "The stream ended.",
  device_missing: "The sound card is not there.",
  overload: "This machine could not keep up.",
  bug: "The daemon made a mistake; its log has the details.",
  shutdown: "The daemon was stopped.",
};

const MATCH_STATES = {
  provisional: ["Provisional", "open"],
  confirmed: ["On air", "accent"],
  ended: ["Ended", ""],
  retracted: ["Retracted", "warn"],
};

const LOAD_STATUSES = {
  waiting: ["Waiting", ""],
  added: ["Added", "ok"],
  replaced: ["Replaced", "ok"],
  unchanged: ["Unchanged", ""],
  duplicate: ["Duplicate", "warn"],
  too_short: ["Too short", "bad"],
  silent: ["Silent", "bad"],
  unreadable: ["Unreadable", "bad"],
  failed: ["Failed", "bad"],
};

const DELIVERY_STATES = { pending: ["Waiting", "warn"], delivered: ["Delivered", "ok"], dead: ["Given up", "bad"] };

const unknown = (word) => [String(word ?? "").replaceAll("_", " "), ""];
const badge = ([label, tone]) => h(`span.badge${tone ? `.${tone}` : ""}`, {}, label);

export const streamWord = (state) => STREAM_STATES[state] ?? unknown(state);
export const streamBadge = (state) => badge(streamWord(state));
export const matchBadge = (state) => badge(MATCH_STATES[state] ?? unknown(state));
export const matchWord = (state) => (MATCH_STATES[state] ?? unknown(state))[0];
export const loadBadge = (status) => badge(LOAD_STATUSES[status ?? "waiting"] ?? unknown(status));
export const deliveryBadge = (state) => badge(DELIVERY_STATES[state] ?? unknown(state));
export const reasonWord = (reason) => STREAM_REASONS[reason] ?? (reason ? `${unknown(reason)[0]}.` : "");
export const isRefusal = (status) => ["bad", "warn"].includes((LOAD_STATUSES[status] ?? unknown(status))[1]);
export const isOpen = (state) => state === "provisional" || state === "confirmed";

/** What a reference is called: its title, or its id where it has none. */
export const titleOf = (thing) => thing.title || thing.reference_id;
