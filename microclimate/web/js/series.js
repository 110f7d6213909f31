// The measurements of a zone over time, prepared for charts: one step, gaps as gaps, the newest
// readings behind the last final row, flagged readings apart.

import { fetchHistory, fetchQuality, fetchReadings } from "./api.js";

/**
 * @typedef {object} ZoneSeries
 * @property {number[]} times UTC ms, evenly spaced
 * @property {Map<string, (number | null)[]>} values by metric
 * @property {Map<string, { at_ms: number, value: number | null, quality: string }[]>} flags by metric
 * @property {number} stepS
 */

/** Steps that rows are asked for at, seconds; all are multiples of the engine's grid. */
const STEPS_S = [60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600];
const POINTS_MAX = 700;
/** Metrics that hold their value until the next one; a mean would be neither. */
const SWITCHES = new Set(["irrigation", "heater", "motion"]);
const DRIEST = "soil_moisture";
const FLAGGED_MAX = 300;

/** @param {number} spanMs */
export const stepFor = (spanMs) =>
  STEPS_S.find((step) => spanMs / 1000 / step <= POINTS_MAX) ?? STEPS_S[STEPS_S.length - 1];

/**
 * @param {string} zone
 * @param {string[]} metrics
 * @param {ReadonlySet<string>} features names of features that exist
 * @param {number} fromMs
 * @param {number} toMs
 * @param {AbortSignal} signal
 * @returns {Promise<ZoneSeries>}
 */
export async function loadSeries(zone, metrics, features, fromMs, toMs, signal) {
  const stepS = stepFor(toMs - fromMs);
  // Over days a mean says more of the time between two points than one reading does.
  const column = (/** @type {string} */ metric) => {
    // Of several probes the driest: its plants wait for no other.
    if (metric === DRIEST && features.has(`${metric}_min_30m`)) return `${metric}_min_30m`;
    const mean = stepS >= 3600 ? `${metric}_mean_1h` : `${metric}_mean_10m`;
    return stepS >= 600 && !SWITCHES.has(metric) && features.has(mean) ? mean : `${metric}_last`;
  };
  const names = metrics.flatMap((metric) => [column(metric), `${metric}_age_s`]).join(",");
  const [{ rows }, flags] = await Promise.all([
    fetchHistory({ zone, from: Math.floor(fromMs), to: Math.ceil(toMs), step_s: stepS, names }, signal),
    loadFlags(zone, metrics, fromMs, toMs, signal),
  ]);
  const step = stepS * 1000;
  const start = Math.ceil(fromMs / step) * step;
  const count = Math.max(0, Math.floor((toMs - start) / step) + 1);
  const times = Array.from({ length: count }, (_, i) => start + i * step);
  const values = new Map(metrics.map((metric) => [metric, /** @type {(number | null)[]} */ (Array(count).fill(null))]));
  // A value holds while its metric speaks at its usual rhythm; beyond that there is a gap.
  const hold = new Map(metrics.map((metric) => [metric, usualAge(rows.map((row) => row.features[`${metric}_age_s`]), stepS)]));
  for (const row of rows) {
    const index = Math.round((row.at_ms - start) / step);
    if (index < 0 || index >= count) continue;
    for (const metric of metrics) {
      const age = row.features[`${metric}_age_s`];
      const isHeld = age != null && age <= (hold.get(metric) ?? 0);
      /** @type {(number | null)[]} */ (values.get(metric))[index] = isHeld ? row.features[column(metric)] : null;
    }
  }
  const lastRowMs = rows.length ? rows[rows.length - 1].at_ms : fromMs;
  await addNewest(zone, metrics, values, { lastRowMs, start, step, count, toMs }, signal);
  return { times, values, flags, stepS };
}

/**
 * How old a value may be before the line breaks: three times what is usual, at least two steps.
 * @param {(number | null | undefined)[]} ages seconds
 * @param {number} stepS
 */
function usualAge(ages, stepS) {
  const known = /** @type {number[]} */ (ages.filter((age) => age != null)).sort((a, b) => a - b);
  const usual = known.length ? known[Math.floor(known.length / 2)] : 0;
  return Math.max(180, 3 * usual, 2 * Math.min(stepS, 600));
}

/**
 * Rows are final some minutes late: what lies after them is taken from the readings themselves.
 * @param {string} zone
 * @param {string[]} metrics
 * @param {Map<string, (number | null)[]>} values
 * @param {{ lastRowMs: number, start: number, step: number, count: number, toMs: number }} grid
 * @param {AbortSignal} signal
 */
async function addNewest(zone, metrics, values, grid, signal) {
  const { lastRowMs, start, step, count, toMs } = grid;
  if (toMs - lastRowMs < step) return;
  const { readings } = await fetchReadings(
    { zone, quality: "ok", from: Math.floor(lastRowMs) + 1, to: Math.ceil(toMs), limit: 2000 }, signal);
  // Newest first: the first of a step is its last, where it is not the lowest that counts.
  /** @type {Set<string>} */
  const filled = new Set();
  for (const { metric, event_ms, value } of readings) {
    const index = Math.min(count - 1, Math.ceil((event_ms - start) / step));
    const own = values.get(metric);
    if (!own || value == null || index < 0 || !metrics.includes(metric)) continue;
    const key = `${metric} ${index}`;
    if (own[index] == null) {
      own[index] = value;
      filled.add(key);
    } else if (metric === DRIEST && filled.has(key)) own[index] = Math.min(own[index], value);
  }
}

/**
 * @param {string} zone
 * @param {string[]} metrics
 * @param {number} fromMs
 * @param {number} toMs
 * @param {AbortSignal} signal
 */
async function loadFlags(zone, metrics, fromMs, toMs, signal) {
  /** @type {Map<string, { at_ms: number, value: number | null, quality: string }[]>} */
  const flags = new Map(metrics.map((metric) => [metric, []]));
  const span = { zone, from: Math.floor(fromMs), to: Math.ceil(toMs) };
  const { quality } = await fetchQuality(span, signal);
  const kinds = quality.filter((own) => own.quality !== "ok" && own.quality !== "duplicate" && metrics.includes(own.metric));
  const answers = await Promise.all(kinds.map((own) =>
    fetchReadings({ ...span, metric: own.metric, quality: own.quality, limit: FLAGGED_MAX }, signal)));
  for (const { readings } of answers) {
    for (const { metric, event_ms, value, quality } of readings) {
      flags.get(metric)?.push({ at_ms: event_ms, value, quality });
    }
  }
  return flags;
}
