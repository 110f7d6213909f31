// Every device: when it was last heard, what of its readings was set aside, and what to do.

import { ApiError, fetchLedger, fetchOverview, querySql } from "../api.js";
import { fill, h } from "../dom.js";
import { duration, nearTime, number, percent, quantity } from "../format.js";
import { named, t } from "../i18n.js";
import { live } from "../live.js";
import { emptyPanel, loadingPanel, showWhenLoaded, stateLabel, table } from "../parts.js";
import { showReadings } from "./zone_readings.js";

/**
 * @typedef {object} MetricOfDevice
 * @property {string} metric
 * @property {number} readings of the last day
 * @property {number} flagged
 * @property {number} newestMs
 * @property {number | null} value
 * @property {number} distinct values
 *
 * @typedef {object} Device
 * @property {string} zone
 * @property {string} device
 * @property {any} account its line of the ledger, if it has one
 * @property {MetricOfDevice[]} metrics
 */

const DAY_MS = 86_400_000;
const SHOWN_MAX = 200;
/** Flagged readings above this share, and clocks off by more, are worth a look. */
const FLAGGED_SHARE = 0.02;
const CLOCK_MS = 120_000;
/** So many equal readings in a day look like a stuck sensor; these metrics rest by nature. */
const STUCK_READINGS = 200;
const RESTING = new Set(["irrigation", "heater", "motion", "battery", "light", "pressure"]);

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").ViewContext} context
 */
export async function show(root, { signal }) {
  const summary = h("p", { role: "status" });
  const body = h("div", null, loadingPanel());
  const search = h("input", { type: "search", placeholder: t("sensors.search"), "aria-label": t("sensors.search") });
  fill(root, h("div", { class: "page-head" }, h("h1", null, t("nav.sensors")), summary), h("div", { class: "tools" }, search), body);
  await showWhenLoaded(body, signal, async () => {
    const [ledger, overview, readings] = await Promise.all([
      fetchLedger(signal), fetchOverview({ limit: 1 }, signal), readingsOfDay(signal)]);
    live.staleAfterS = overview.stale_after_s;
    live.synchronise(overview.now_ms);
    for (const { at_ms } of overview.zones) live.note(at_ms);
    const devices = join(ledger.devices, readings.rows);
    if (!devices.length) return emptyPanel(t("sensors.empty"), h("p", null, t("sensors.empty_more")));
    const place = h("div");
    const draw = () => {
      const text = search.value.toLowerCase();
      const found = devices.filter(({ zone, device }) => `${zone}/${device}`.toLowerCase().includes(text));
      const now = live.nowMs();
      found.sort((a, b) => adviceOf(b, now).length - adviceOf(a, now).length || a.zone.localeCompare(b.zone) || a.device.localeCompare(b.device));
      const troubled = devices.filter((own) => adviceOf(own, now).length).length;
      summary.textContent = troubled ? t("sensors.troubled", { n: troubled, devices: number(devices.length) }) : t("sensors.all_well", { n: devices.length, devices: number(devices.length) });
      fill(place, found.length
        ? devicesTable(found.slice(0, SHOWN_MAX), overview.units, now, signal)
        : h("p", { class: "note" }, t("overview.nothing_found")),
      found.length > SHOWN_MAX && h("p", { class: "note" }, t("sensors.more", { n: found.length - SHOWN_MAX })));
    };
    search.addEventListener("input", draw);
    draw();
    return h("section", { class: "card" }, readings.problem && h("p", { class: "note" }, t("sensors.no_details", { why: readings.problem })), place,
      h("p", { class: "note" }, t("sensors.note", { time: nearTime(ledger.since_ms) })));
  });
}

/**
 * Readings of the last day by device and metric. Without them the ledger is shown alone.
 * @param {AbortSignal} signal
 */
async function readingsOfDay(signal) {
  const since = new Date(Date.now() - DAY_MS).toISOString().slice(0, 19).replace("T", " ");
  const sql = `SELECT site, zone, device, metric, count(*) AS readings, count(*) FILTER (quality <> 'ok') AS flagged,
    epoch_ms(max(event)) AS newest_ms, arg_max(value, event) AS value, count(DISTINCT value) AS distinct_values
    FROM silver.readings WHERE event >= TIMESTAMP '${since}' GROUP BY ALL ORDER BY ALL`;
  try {
    return { rows: (await querySql(sql, signal)).rows, problem: "" };
  } catch (error) {
    if (!(error instanceof ApiError) || error.isOffline || error.status === 401) throw error;
    return { rows: [], problem: error.message };
  }
}

/**
 * @param {any[]} accounts
 * @param {any[]} rows
 * @returns {Device[]}
 */
function join(accounts, rows) {
  /** @type {Map<string, Device>} */
  const devices = new Map();
  const of = (/** @type {string} */ zone, /** @type {string} */ device) => {
    const key = `${zone}/${device}`;
    const found = devices.get(key) ?? { zone, device, account: null, metrics: [] };
    devices.set(key, found);
    return found;
  };
  for (const account of accounts) {
    if (account.zone && account.device) of(account.zone, account.device).account = account;
  }
  for (const row of rows) {
    of(`${row.site}/${row.zone}`, row.device).metrics.push({
      metric: row.metric, readings: row.readings, flagged: row.flagged,
      newestMs: row.newest_ms, value: row.value, distinct: row.distinct_values,
    });
  }
  return [...devices.values()];
}

/** @param {Device} device */
const newestOf = ({ metrics }) => metrics.reduce((newest, own) => Math.max(newest, own.newestMs), 0);

/**
 * What is wrong with a device and what to do, most important first.
 * @param {Device} device
 * @param {number} nowMs
 * @returns {string[]}
 */
function adviceOf(device, nowMs) {
  const { metrics, account } = device;
  const advice = [];
  const newest = newestOf(device);
  const readings = metrics.reduce((sum, own) => sum + own.readings, 0);
  const flagged = metrics.reduce((sum, own) => sum + own.flagged, 0);
  if (newest && nowMs - newest > Math.max(live.staleAfterS * 1000, 900_000)) advice.push(t("sensors.silent", { ago: duration((nowMs - newest) / 1000) }));
  else if (!newest) advice.push(t("sensors.silent_day"));
  for (const own of metrics) {
    if (own.readings >= STUCK_READINGS && own.distinct === 1 && !RESTING.has(own.metric)) advice.push(t("sensors.stuck", { metric: named("metric", own.metric) }));
  }
  if (readings && flagged / readings > FLAGGED_SHARE) advice.push(t("sensors.flagged", { share: percent(flagged / readings) }));
  if (account?.clock_offset_ms && Math.abs(account.clock_offset_ms) > CLOCK_MS) {
    advice.push(t("sensors.clock", { offset: duration(Math.abs(account.clock_offset_ms) / 1000) }));
  }
  if (account?.sequence_gaps > 0) advice.push(t("sensors.gaps", { n: account.sequence_gaps }));
  return advice;
}

/**
 * @param {Device[]} devices
 * @param {Record<string, string>} units
 * @param {number} nowMs
 * @param {AbortSignal} signal
 */
function devicesTable(devices, units, nowMs, signal) {
  const heads = [t("sensors.device"), t("sensors.measures"), t("sensors.last_seen"), { text: t("sensors.readings"), isNumber: true, isWide: true }, { text: t("sensors.duplicates"), isNumber: true, isWide: true }, t("sensors.to_do")];
  return table(t("nav.sensors"), heads, devices.map((device) => {
    const newest = newestOf(device);
    const advice = adviceOf(device, nowMs);
    const readings = device.metrics.reduce((sum, own) => sum + own.readings, 0);
    const flagged = device.metrics.reduce((sum, own) => sum + own.flagged, 0);
    return h("tr", null,
      h("th", { scope: "row" }, device.device, h("small", null, h("a", { href: `#/zone/${encodeURI(device.zone)}` }, device.zone))),
      h("td", null, h("div", { class: "chips" }, device.metrics.map((own) => h("button", {
        type: "button", class: "chip", onclick: () => void showReadings(device.zone, own.metric, units[own.metric] ?? "", {}, signal),
      }, `${named("metric", own.metric)} `, h("b", null, quantity(own.value, units[own.metric] ?? "")))))),
      h("td", null, newest ? t("zone.ago", { ago: duration((nowMs - newest) / 1000) }) : "–"),
      h("td", { class: "number wide" }, number(readings, 0), flagged > 0 && h("small", null, t("sensors.set_aside", { n: flagged }))),
      h("td", { class: "number wide" }, device.account ? number(device.account.duplicates, 0) : "–"),
      h("td", null, advice.length ? advice.map((text) => h("p", null, stateLabel("warning", t("sensors.check")), " ", text)) : stateLabel("ok")));
  }));
}
