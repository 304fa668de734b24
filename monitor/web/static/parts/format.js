// How times, lengths and amounts are written. Times are shown on the viewer's clock; titles carry UTC.
import { h } from "./element.js";

const MINUS = "\u2212";
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const NUMBER = new Intl.NumberFormat("en-GB");

/** 14:03:22 on the viewer's clock, of Unix seconds. */
export const clock = (time_s) => CLOCK.format(time_s * 1000);

/** 14:03:22 today, otherwise 21 Nov 14:03:22, or with the year where that differs. */
export function moment(time_s) {
  const then = new Date(time_s * 1000);
  const today = new Date();
  if (then.toDateString() === today.toDateString()) return clock(time_s);
  return `${(then.getFullYear() === today.getFullYear() ? DAY : YEAR).format(then)} ${clock(time_s)}`;
}

/** A time element of Unix seconds. */
export function timeOf(time_s, written = moment(time_s)) {
  const iso = new Date(time_s * 1000).toISOString();
  return h("time", { datetime: iso, title: `${iso.slice(0, 19).replace("T", " ")} UTC` }, written);
}

/** Unix seconds of an RFC 3339 time. */
export const seconds = (iso) => Date.parse(iso) / 1000;

/** A position or length: 0:07, 3:42, 1:02:03; with `digits` also tenths. */
export function length(time_s, digits = 0) {
  const unit = 10 ** digits;
  const whole = Math.round(Math.abs(time_s) * unit) / unit;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (whole % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  const sign = time_s < 0 && whole > 0 ? MINUS : "";
  return sign + (hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`);
}

/** How long something has lasted, in its largest unit: 12 s, 5 min, 3 h, 2 days. */
export function span(time_s) {
  const whole = Math.max(0, Math.round(time_s));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) {
    const minutes = Math.floor((whole % 3600) / 60);
    return minutes ? `${Math.floor(whole / 3600)} h ${minutes} min` : `${Math.floor(whole / 3600)} h`;
  }
  const days = Math.floor(whole / 86400);
  return `${days} day${days === 1 ? "" : "s"}`;
}

export const amount = (value) => NUMBER.format(value);
export const counted = (value, one, many = `${one}s`) => `${amount(value)} ${value === 1 ? one : many}`;
export const percent = (ratio) => `${Math.round(ratio * 100)} %`;
export const signed = (value, digits = 0) => value.toFixed(digits).replace("-", MINUS);
export const level = (dbfs) => (dbfs === null || dbfs === undefined || dbfs < -119 ? "no sound" : `${signed(dbfs)} dBFS`);

/** How much faster than the reference it was aired: +1.8 %, or as recorded. */
export function tempo(ratio) {
  const change = (ratio - 1) * 100;
  return Math.abs(change) < 0.05 ? "as recorded" : `${change > 0 ? "+" : ""}${signed(change, 1)} %`;
}

export function size(bytes) {
  if (bytes === 0) return "0";
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
}
