// Pieces that several views show: states in words, empty and error panels, tables.

import { ApiError } from "./api.js";
import { h, svg } from "./dom.js";
import { duration, multiple, nearTime, number, percent, quantity } from "./format.js";
import { named, t } from "./i18n.js";

/**
 * @typedef {import("./api.js").Level} Level
 * @typedef {import("./api.js").Reason} Reason
 * @typedef {import("./api.js").NextValue} NextValue
 */

/** A shape for each level, so that colour is not all that tells them apart. */
const ICONS = {
  alarm: "M8 2 15 14H1zM8 6.5v3.5M8 12v.2",
  stale: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 5v3.5l2.2 1.5",
  warning: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 4.7v4M8 11v.2",
  notice: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM8 7.5v4M8 4.8v.2",
  ok: "m2.5 8.5 3.5 3.5 7.5-8",
};

/**
 * A level as a coloured label with a symbol.
 * @param {Level} level
 * @param {string} [text]
 */
export function stateLabel(level, text) {
  return h("span", { class: `state ${level}` },
    svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: ICONS[level] })),
    text ?? t(`level.${level}`));
}

/**
 * The severity of an alert, with the symbol and colour of the level that it has.
 * @param {import("./api.js").Severity} severity
 */
export function severityLabel(severity) {
  /** @type {Level} */
  const level = severity === "critical" ? "alarm" : severity === "warning" ? "warning" : "notice";
  return stateLabel(level);
}

/**
 * Why a zone needs attention, and what to do, in a sentence.
 * @param {Reason} reason
 * @param {Record<string, string>} units
 * @param {number} nowMs
 */
export function reasonText(reason, units, nowMs) {
  const unit = units[reason.metric ?? ""] ?? "";
  const values = {
    metric: reason.metric ? named("metric", reason.metric) : "",
    value: quantity(reason.value, unit),
    limit: quantity(reason.limit, unit),
    times: multiple(reason.value),
    fault: reason.fault ? named("fault", reason.fault) : t("fault.unknown"),
    since: reason.since_ms ? nearTime(reason.since_ms, nowMs) : "",
    ago: reason.since_ms ? duration((nowMs - reason.since_ms) / 1000) : "",
    hours: number(reason.hours, (reason.hours ?? 0) < 10 ? 1 : 0),
    minutes: number(reason.minutes, 0),
  };
  switch (reason.kind) {
    case "zone_silent": return t("reason.zone_silent", values);
    case "no_data": return t("reason.no_data");
    case "metric_silent": return t("reason.metric_silent", values);
    case "too_cold": return t("reason.too_cold", values);
    case "too_warm": return t("reason.too_warm", values);
    case "co2_high": return t("reason.co2_high", values);
    case "soil_critical": {
      const key = reason.minutes != null && reason.minutes > 0 ? "reason.soil_critical_water" : "reason.soil_critical";
      return t(key, values);
    }
    case "soil_critical_soon": return t("reason.soil_critical_soon", values);
    case "anomaly": {
      const key = reason.since_ms && nowMs - reason.since_ms > 90_000 ? "reason.anomaly_since" : "reason.anomaly";
      return t(key, values);
    }
    default: return reason.kind.replaceAll("_", " ");
  }
}

/**
 * A prediction in words and numbers, as in `22.8 °C`, `hold (98 %)`.
 * @param {NextValue} next
 */
export function nextText(next) {
  if (next.class) {
    const share = next.probability == null ? "" : ` (${percent(next.probability)})`;
    return named("class", next.class) + share;
  }
  return quantity(next.value, next.unit);
}

/**
 * The arrow of a trend, with words for who does not see it.
 * @param {number | null} slope per hour
 * @param {number | null} value
 * @param {string} unit
 */
export function trend(slope, value, unit) {
  if (slope == null || value == null) return null;
  const least = unit === "°C" ? 0.3 : Math.max(Math.abs(value) * 0.02, 0.3);
  if (Math.abs(slope) < least) return null;
  const key = slope > 0 ? "trend.rising" : "trend.falling";
  const words = t(key, { change: quantity(Math.abs(slope), unit, { isDifference: true }) });
  return h("span", { class: "trend", title: words },
    h("span", { "aria-hidden": "true" }, slope > 0 ? "↗" : "↘"), h("span", { class: "hidden" }, words));
}

/**
 * A panel where there is nothing to show yet.
 * @param {string} title
 * @param {...any} rest
 */
export const emptyPanel = (title, ...rest) =>
  h("section", { class: "empty" }, h("h2", null, title), ...rest);

/**
 * The same as a whole page.
 * @param {string} title
 * @param {...any} rest
 */
export const emptyPage = (title, ...rest) =>
  h("section", { class: "empty" }, h("h1", null, title), ...rest);

/**
 * What went wrong, in words, and a way to try again.
 * @param {unknown} error
 * @param {() => void} retry
 */
export function errorPanel(error, retry) {
  const isOffline = error instanceof ApiError && error.isOffline;
  const text = error instanceof Error ? error.message : String(error);
  const hint = error instanceof ApiError ? error.hint : "";
  return h("section", { class: "empty", role: "alert" },
    h("h2", null, isOffline ? t("error.offline") : t("error.failed")),
    h("p", null, isOffline ? t("error.offline_more") : text), hint && h("p", { class: "note" }, hint),
    h("button", { class: "button", type: "button", onclick: retry }, t("action.retry")));
}

export const loadingPanel = () => h("p", { class: "loading", role: "status" }, t("state.loading"));

/**
 * A table with a caption for screen readers.
 * @param {string} caption
 * @param {(string | { text: string, isNumber?: boolean, isWide?: boolean })[]} heads
 * @param {any[]} rows
 */
export function table(caption, heads, rows) {
  const columns = heads.map((own) => (typeof own === "string" ? { text: own } : own));
  const head = columns.map(({ text, isNumber = false, isWide = false }) =>
    h("th", { scope: "col", role: "columnheader", class: [isNumber && "number", isWide && "wide"].filter(Boolean).join(" ") || null }, text));
  // On a phone each row is a card whose cells carry their heads; roles keep it a table to readers.
  for (const row of rows) {
    row.setAttribute("role", "row");
    [...row.children].forEach((cell, i) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      if (i > 0 && columns[i]) cell.dataset.label = columns[i].text;
    });
  }
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    h("table", { class: "stacked", role: "table" }, h("caption", { class: "hidden" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, head)), h("tbody", { role: "rowgroup" }, rows)));
}

/**
 * Names and figures.
 * @param {([string, any, string?] | false | null)[]} entries
 */
export const facts = (entries) =>
  h("dl", { class: "facts" }, entries.filter(Boolean).map((entry) => {
    const [name, value, more] = /** @type {[string, any, string?]} */ (entry);
    return h("div", null, h("dt", null, name), h("dd", null, value, more && h("small", null, more)));
  }));

/**
 * Waits for something and shows it, or the error with a way to try again.
 * @param {HTMLElement} place
 * @param {AbortSignal} signal
 * @param {() => Promise<any>} load makes the element, or none
 */
export async function showWhenLoaded(place, signal, load) {
  try {
    const made = await load();
    if (!signal.aborted) place.replaceChildren(...[made].flat().filter(Boolean));
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(errorPanel(error, () => {
      place.replaceChildren(loadingPanel());
      void showWhenLoaded(place, signal, load);
    }));
  }
}
