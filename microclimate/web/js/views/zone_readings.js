// The readings behind a value: the newest ones with their flags, and the means made of them.

import { fetchExplanation, fetchReadings } from "../api.js";
import { h } from "../dom.js";
import { duration, exactTime, number, quantity } from "../format.js";
import { named, t } from "../i18n.js";
import { live } from "../live.js";
import { facts, loadingPanel, showWhenLoaded, table } from "../parts.js";

const READINGS_SHOWN = 40;
const WINDOWS = ["10m", "1h", "24h", "7d"];

/**
 * Opens a dialog about a metric of a zone.
 * @param {string} zone
 * @param {string} metric
 * @param {string} unit
 * @param {Record<string, number | null>} features
 * @param {AbortSignal} signal
 */
export async function showReadings(zone, metric, unit, features, signal) {
  const body = h("div", null, loadingPanel());
  const titleId = `readings-${metric}`;
  const dialog = h("dialog", { "aria-labelledby": titleId, onclose: () => dialog.remove() },
    h("div", null, h("header", null, h("h2", { id: titleId }, t("readings.title", { metric: named("metric", metric), zone })),
      h("button", { class: "button", type: "button", onclick: () => dialog.close() }, t("action.close"))), body));
  document.querySelector("#main")?.append(dialog);
  signal.addEventListener("abort", () => dialog.remove());
  dialog.showModal();
  await showWhenLoaded(body, signal, async () => {
    const mean = features[`${metric}_mean_1h`] === undefined ? "" : `${metric}_mean_1h`;
    const [{ readings }, explanation] = await Promise.all([
      fetchReadings({ zone, metric, limit: READINGS_SHOWN }, signal),
      mean ? fetchExplanation(zone, mean, Math.floor(live.nowMs()), signal).catch(() => null) : null,
    ]);
    return [windowFacts(metric, unit, features), explanation && windowText(explanation, unit), readingsTable(readings, unit)];
  });
}

/**
 * @param {string} metric
 * @param {string} unit
 * @param {Record<string, number | null>} features
 */
function windowFacts(metric, unit, features) {
  const own = WINDOWS.filter((window) => features[`${metric}_mean_${window}`] != null);
  return own.length > 0 && facts(own.map((window) => {
    const [low, high] = [features[`${metric}_min_${window}`], features[`${metric}_max_${window}`]];
    const range = low == null || high == null ? "" : `${number(low)} – ${number(high)}`;
    return [t("readings.mean", { window }), quantity(features[`${metric}_mean_${window}`], unit), range];
  }));
}

/**
 * @param {any} explanation
 * @param {string} unit
 */
function windowText(explanation, unit) {
  const window = explanation.behind?.window;
  if (!window) return null;
  return h("p", { class: "note" }, t("readings.behind_mean", {
    value: quantity(explanation.computed_as_corrected, unit), n: window.readings,
    flagged: window.flagged, late: window.arrived_later,
  }));
}

/**
 * @param {import("../api.js").StoredReading[]} readings
 * @param {string} unit
 */
function readingsTable(readings, unit) {
  if (!readings.length) return h("p", { class: "note" }, t("readings.none"));
  return table(t("readings.newest"), [t("readings.time"), t("readings.device"), { text: t("readings.value"), isNumber: true }, t("readings.quality"), { text: t("readings.delay"), isNumber: true }],
    readings.map((own) => h("tr", null,
      h("td", null, exactTime(own.event_ms)), h("td", null, own.device),
      h("td", { class: "number" }, quantity(own.value, unit)),
      h("td", { class: own.quality === "ok" ? null : "error-text" }, named("quality", own.quality)),
      h("td", { class: "number" }, duration((own.arrival_ms - own.event_ms) / 1000)))));
}
