// Numbers, units, times and durations as the reader writes them.

import { currentLanguage, t } from "./i18n.js";
import { preferences } from "./preferences.js";

/** The site's time zone, as the server says. */
let siteZone = "UTC";

/** @param {string} zone */
export function setSiteZone(zone) {
  siteZone = zone;
}

/** The IANA name of the time zone that times are shown in. */
export function timeZone() {
  if (preferences.clock === "utc") return "UTC";
  if (preferences.clock === "site") return siteZone;
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

/** @type {Map<string, Intl.NumberFormat | Intl.DateTimeFormat>} */
const formats = new Map();

/**
 * @param {Intl.NumberFormatOptions} options
 * @returns {Intl.NumberFormat}
 */
function numberFormat(options) {
  return /** @type {Intl.NumberFormat} */ (
    remembered(options, () => new Intl.NumberFormat(locale(), options)));
}

/**
 * @param {Intl.DateTimeFormatOptions} options
 * @returns {Intl.DateTimeFormat}
 */
function dateFormat(options) {
  const whole = { ...options, timeZone: timeZone() };
  return /** @type {Intl.DateTimeFormat} */ (
    remembered(whole, () => new Intl.DateTimeFormat(locale(), whole)));
}

/**
 * @template {Intl.NumberFormat | Intl.DateTimeFormat} T
 * @param {object} options
 * @param {() => T} make
 */
function remembered(options, make) {
  const key = locale() + JSON.stringify(options);
  let format = formats.get(key);
  if (!format) formats.set(key, (format = make()));
  return format;
}

/** The browser's variant of the shown language, as in en-GB, which decides how dates are written. */
function locale() {
  const language = currentLanguage();
  return navigator.languages.find((tag) => tag.startsWith(language)) ?? language;
}

/**
 * Digits after the point that say something of a quantity of this size.
 * @param {number} value
 */
function digitsOf(value) {
  const size = Math.abs(value);
  return size >= 100 ? 0 : size >= 10 ? 1 : 2;
}

/**
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function number(value, digits) {
  if (value == null || !Number.isFinite(value)) return "–";
  return numberFormat({ maximumFractionDigits: digits ?? digitsOf(value) }).format(value);
}

/**
 * The same with a fixed number of digits, for columns.
 * @param {number | null} value
 * @param {number} digits
 */
export const fixed = (value, digits) =>
  value == null ? "–" : numberFormat({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/**
 * How many times something is its limit; what is far beyond is all the same.
 * @param {number | null | undefined} times
 */
export const multiple = (times) => (times != null && times > 99 ? "> 99" : number(times, 1));

/** @param {number | null | undefined} share 0 to 1 */
export function percent(share) {
  if (share == null || !Number.isFinite(share)) return "–";
  const digits = share > 0 && share < 0.01 ? 2 : 0;
  return numberFormat({ style: "percent", maximumFractionDigits: digits }).format(share);
}

/** @param {number} bytes */
export function byteSize(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let step = 0;
  while (bytes >= 1000 && step < units.length - 1) {
    bytes /= 1000;
    step += 1;
  }
  return `${number(bytes, bytes >= 10 || step === 0 ? 0 : 1)} ${units[step]}`;
}

const isFahrenheit = () => preferences.temperature === "fahrenheit";

/**
 * A value in the unit that the reader prefers.
 * @param {number | null} value
 * @param {string} unit
 * @param {boolean} [isDifference] a change, which has no zero point
 * @returns {number | null}
 */
export function converted(value, unit, isDifference = false) {
  if (value == null || !isFahrenheit() || !unit.startsWith("°C")) return value;
  return value * 1.8 + (isDifference || unit !== "°C" ? 0 : 32);
}

/**
 * The unit as the reader sees it; a bare count, a class or a switch has none.
 * @param {string} unit
 */
export function shownUnit(unit) {
  if (unit === "count" || unit === "0/1" || unit === "class" || unit === "probability") return "";
  if (unit === "%RH") return "%";
  return isFahrenheit() ? unit.replace("°C", "°F") : unit;
}

/**
 * Value and unit, as in `21.4 °C`.
 * @param {number | null | undefined} value
 * @param {string} unit
 * @param {{ isDifference?: boolean, digits?: number }} [options]
 */
export function quantity(value, unit, options = {}) {
  if (value == null || !Number.isFinite(value)) return "–";
  if (unit === "0/1") return value > 0 ? t("value.on") : t("value.off");
  const own = /** @type {number} */ (converted(value, unit, options.isDifference));
  // Thermometers are read to a tenth; a fixed number of digits keeps live values from jumping.
  const isLevel = unit === "°C" && !options.isDifference;
  const isFixed = isLevel || ((unit === "%" || unit === "%RH") && Math.abs(own) >= 10 && Math.abs(own) < 99.95);
  const digits = options.digits ?? (isLevel ? 1 : digitsOf(own));
  const shown = numberFormat({ minimumFractionDigits: isFixed ? digits : 0, maximumFractionDigits: digits }).format(own);
  return [shown, shownUnit(unit)].filter(Boolean).join("\u00a0");
}

/**
 * Both ends of an interval, as in `20.1 to 22.3 °C`.
 * @param {number} low
 * @param {number} high
 * @param {string} unit
 */
export function interval(low, high, unit) {
  const digits = digitsOf(Math.max(Math.abs(low), Math.abs(high)));
  const end = (/** @type {number} */ value) => number(converted(value, unit), digits);
  return [t("value.interval", { low: end(low), high: end(high) }), shownUnit(unit)]
    .filter(Boolean).join("\u00a0");
}

/**
 * A length of time in one or two words, as in `3 h`.
 * @param {number} seconds
 */
export function duration(seconds) {
  const size = Math.max(0, seconds);
  if (size < 90) return t("time.seconds", { n: Math.round(size) });
  if (size < 5400) return t("time.minutes", { n: Math.round(size / 60) });
  if (size < 172_800) return t("time.hours", { n: Math.round(size / 3600) });
  return t("time.days", { n: Math.round(size / 86_400) });
}

/** @param {number} ms UTC */
export const clockTime = (ms) =>
  dateFormat({ hour: "2-digit", minute: "2-digit" }).format(ms);

/** @param {number} ms UTC */
export const clockSecond = (ms) =>
  dateFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);

/** @param {number} ms UTC */
export const dayMonth = (ms) => dateFormat({ day: "numeric", month: "short" }).format(ms);

/** @param {number} ms UTC */
export const weekday = (ms) =>
  dateFormat({ weekday: "short", day: "numeric", month: "short" }).format(ms);

/** @param {number} ms UTC */
export const dateTime = (ms) =>
  dateFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }).format(ms);

/** @param {number} ms UTC */
export const exactTime = (ms) =>
  dateFormat({ dateStyle: "medium", timeStyle: "medium" }).format(ms);

/**
 * The clock's time of today, with the date on other days.
 * @param {number} ms UTC
 * @param {number} [nowMs]
 */
export const nearTime = (ms, nowMs = Date.now()) =>
  dayMonth(ms) === dayMonth(nowMs) ? clockTime(ms) : dateTime(ms);
