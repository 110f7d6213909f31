// The REST API: requests, errors, sessions. Every other module asks through this one.

/**
 * @typedef {"alarm" | "stale" | "warning" | "notice" | "ok"} Level
 *
 * @typedef {object} Reason why a zone needs attention
 * @property {string} kind
 * @property {Level} level
 * @property {string} [metric]
 * @property {number} [value]
 * @property {number} [limit]
 * @property {number} [hours]
 * @property {number} [minutes]
 * @property {string} [fault]
 * @property {number} [since_ms]
 *
 * @typedef {object} NextValue what a task predicts for a zone
 * @property {string} task
 * @property {number} value
 * @property {string} unit
 * @property {[number, number] | null} [interval]
 * @property {string} [class]
 * @property {number} [probability]
 * @property {boolean} [fallback]
 *
 * @typedef {object} ZoneState
 * @property {string} zone
 * @property {number | null} at_ms event time of its newest feature row
 * @property {Level} state
 * @property {Reason[]} reasons worst first
 * @property {Record<string, [number | null, number | null, number | null]>} metrics by name: value,
 *   its age at `at_ms` in seconds, its trend per hour
 * @property {NextValue[]} next
 * @property {Record<string, number>} limits the zone's own limits
 * @property {{ id: string, rule: string, severity: Severity, state: string, message: string }[]} alerts that fire
 *
 * @typedef {"info" | "warning" | "critical"} Severity
 *
 * @typedef {Record<Level, number>} LevelCounts
 *
 * @typedef {object} Overview
 * @property {number} now_ms
 * @property {string} time_zone
 * @property {number} stale_after_s
 * @property {Record<string, string>} units by metric
 * @property {LevelCounts} counts
 * @property {{ site: string, zones: number, state: Level }[]} sites
 * @property {number} total zones that match
 * @property {ZoneState[]} zones
 */

/** An answer that is an error, or none. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status 0 where no answer came
   * @param {string} [code]
   * @param {string} [hint]
   */
  constructor(message, status, code, hint) {
    super(message);
    this.status = status;
    this.code = code ?? "";
    this.hint = hint ?? "";
  }

  /** Whether the server could not be reached. */
  get isOffline() {
    return this.status === 0;
  }
}

/** Tells of `signed-out`: a token is needed. */
export const session = new EventTarget();

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>} the JSON of the answer, or its text
 */
async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, { ...options, credentials: "same-origin" });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("no connection", 0);
  }
  const isJson = answer.headers.get("content-type")?.includes("json");
  const body = isJson ? await answer.json() : await answer.text();
  if (answer.ok) return body;
  const problem = body?.error ?? body ?? {};
  const message = problem.message ?? problem.detail ?? problem.title ?? answer.statusText;
  if (answer.status === 401 && !path.startsWith("/v1/session")) {
    session.dispatchEvent(new Event("signed-out"));
  }
  throw new ApiError(message, answer.status, problem.code, problem.hint);
}

/**
 * @param {string} path
 * @param {Record<string, string | number | undefined>} [query]
 * @param {AbortSignal} [signal]
 */
function get(path, query = {}, signal) {
  const pairs = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(pairs.map(([key, value]) => [key, String(value)])).toString();
  return request(text ? `${path}?${text}` : path, signal ? { signal } : {});
}

/**
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} [signal]
 */
function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

/**
 * All zones' states, or a page of them.
 * @param {{ zones?: string, search?: string, states?: string, site?: string, sort?: string, page?: number, limit?: number }} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<Overview>}
 */
export const fetchOverview = (query, signal) => get("/v1/overview", query, signal);

/**
 * Feature rows of a zone, oldest first.
 * @param {{ zone: string, from: number, to: number, step_s: number, names: string }} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ rows: { at_ms: number, features: Record<string, number | null> }[] }>}
 */
export const fetchHistory = (query, signal) =>
  get("/v1/features/history", { ...query, limit: 5000 }, signal);

/**
 * The newest row of a zone with every feature.
 * @param {string} zone
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ rows: { at_ms: number, age_s: number, features: Record<string, number | null> }[] }>}
 */
export const fetchLatest = (zone, signal) => get("/v1/features/latest", { zones: zone }, signal);

/**
 * @typedef {{ at?: number, event_ms: number, arrival_ms: number, device: string, metric: string,
 *   zone: string, value: number | null, quality: string, source: string }} StoredReading
 *
 * @param {Record<string, string | number | undefined>} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ readings: StoredReading[], next?: string }>}
 */
export const fetchReadings = (query, signal) => get("/v1/readings", query, signal);

/**
 * @param {Record<string, string | number | undefined>} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ quality: { zone: string, metric: string, quality: string, readings: number }[] }>}
 */
export const fetchQuality = (query, signal) => get("/v1/quality", query, signal);

/**
 * @param {string} zone
 * @param {"hour" | "day"} period
 * @param {number} limit
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ kpis: any[] }>}
 */
export const fetchKpis = (zone, period, limit, signal) =>
  get("/v1/kpis", { zone, period, limit }, signal);

/**
 * @typedef {object} Prediction
 * @property {string} task
 * @property {number} value
 * @property {string} unit
 * @property {[number, number] | null} interval
 * @property {number} interval_level
 * @property {string} [class]
 * @property {Record<string, number>} [probabilities]
 * @property {string} model
 * @property {number} version
 * @property {number | null} baseline_value
 * @property {boolean} fallback
 * @property {string} [fallback_reason]
 * @property {{ flag: boolean, outside?: string[], missing?: string[] }} drift
 * @property {{ input: string, value: number | null, change: number }[]} [contributions]
 * @property {{ minutes: number | null, response_pct_min?: number, reason?: string }} [irrigation]
 * @property {string} [metric]
 * @property {string} [fault]
 * @property {number} features_at_ms
 * @property {boolean} is_stale
 *
 * @param {string} task
 * @param {string} zone
 * @param {AbortSignal} [signal]
 * @returns {Promise<Prediction>}
 */
export const fetchPrediction = (task, zone, signal) =>
  get(`/v1/predict/${task}`, { zone, explain: 6 }, signal);

/**
 * The course of a metric over the next hours, or as it was forecast at an earlier time.
 * @param {string} metric
 * @param {string} zone
 * @param {number | undefined} atMs
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ issued_at_ms: number, issued_value: number, is_stale: boolean,
 *   points: { at_ms: number, value: number, quantiles: number[] }[] }>}
 */
export const fetchForecast = (metric, zone, atMs, signal) =>
  get(`/v1/forecast/${encodeURIComponent(metric)}`, { zone, at: atMs }, signal);

/**
 * @param {string} zone
 * @param {string} feature
 * @param {number} atMs
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export const fetchExplanation = (zone, feature, atMs, signal) =>
  get("/v1/features/explain", { zone, feature, at: atMs, limit: 50 }, signal);

/** @param {AbortSignal} [signal] @returns {Promise<{ tasks: any[] }>} */
export const fetchTasks = (signal) => get("/v1/tasks", {}, signal);
/** @param {AbortSignal} [signal] @returns {Promise<{ models: any[] }>} */
export const fetchModels = (signal) => get("/v1/models", {}, signal);
/** @param {AbortSignal} [signal] @returns {Promise<{ scores: any[] }>} */
export const fetchScores = (signal) => get("/v1/scores", {}, signal);
/** @param {string} task @param {AbortSignal} [signal] @returns {Promise<any>} */
export const fetchVersions = (task, signal) => get(`/v1/models/${task}`, {}, signal);
/** @param {string} task @param {AbortSignal} [signal] @returns {Promise<{ log: any[] }>} */
export const fetchDecisions = (task, signal) => get(`/v1/models/${task}/log`, { limit: 20 }, signal);
/** @param {AbortSignal} [signal] @returns {Promise<any>} */
export const fetchLedger = (signal) => get("/ledger", {}, signal);
/** @param {AbortSignal} [signal] @returns {Promise<any>} */
export const fetchDeadLetters = (signal) => get("/dead-letters", { limit: 50 }, signal);
/** @param {AbortSignal} [signal] @returns {Promise<any>} */
export const fetchCounts = (signal) => get("/v1/counts", {}, signal);

/**
 * Decodes dead letters again; with `dry_run` only says what would come of it.
 * @param {{ reason?: string, dry_run: boolean }} selection
 * @returns {Promise<{ selected: number, reinjected: number, still_dead: Record<string, number> }>}
 */
export const reinjectDeadLetters = (selection) => post("/dead-letters/reinject", selection);

/**
 * Rows of a read-only query.
 * @param {string} sql
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ rows: any[] }>}
 */
export const querySql = (sql, signal) => post("/v1/sql", { sql, limit: 10_000 }, signal);

/**
 * Prometheus' figures by name; those with labels by `name{label="…"}`.
 * @param {AbortSignal} [signal]
 * @returns {Promise<Map<string, number>>}
 */
export async function fetchMetrics(signal) {
  /** @type {string} */
  const text = await get("/metrics", {}, signal);
  const figures = new Map();
  for (const line of text.split("\n")) {
    const end = line.lastIndexOf(" ");
    if (end > 0 && line[0] !== "#") figures.set(line.slice(0, end), Number(line.slice(end + 1)));
  }
  return figures;
}

/** @returns {Promise<string>} empty where readings are taken and stored, else why not */
export async function fetchReadiness() {
  try {
    await get("/readyz");
    return "";
  } catch (error) {
    if (error instanceof ApiError && !error.isOffline) return error.message;
    throw error;
  }
}

/**
 * @typedef {object} Alert
 * @property {string} id
 * @property {string} rule
 * @property {string} kind
 * @property {Severity} severity
 * @property {"pending" | "firing" | "acknowledged" | "resolved"} state
 * @property {string | null} zone
 * @property {string} subject a metric, a device, a topic
 * @property {string} summary
 * @property {string} message
 * @property {number} started_ms
 * @property {number | null} fired_ms
 * @property {number} observed_ms
 * @property {number} [resolved_ms]
 * @property {string} [outcome]
 * @property {number | null} value
 * @property {number | null} peak
 * @property {number | null} limit
 * @property {string} unit
 * @property {string} detail
 * @property {boolean} is_muted
 * @property {{ at_ms: number, by: string, note: string } | null} acknowledged
 *
 * @typedef {{ pending: number, firing: number, acknowledged: number }} AlertCounts
 *
 * @param {{ zone?: string, state?: string, limit?: number }} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ now_ms: number, counts: AlertCounts, refused: number, total: number, alerts: Alert[] }>}
 */
export const fetchAlerts = (query, signal) => get("/v1/alerts", query, signal);

/**
 * @param {{ zone?: string, page?: number, limit?: number }} query
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ alerts: Alert[], has_more: boolean }>}
 */
export const fetchAlertHistory = (query, signal) => get("/v1/alerts/history", query, signal);

/**
 * @typedef {{ name: string, summary: string, severity: Severity, kind: string, condition: string,
 *   for_s: number, zones: string[], mute: string[], is_built_in: boolean, is_enabled: boolean,
 *   firing: number }} AlertRule
 *
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ rules: AlertRule[], mute: string[], receivers: string[] }>}
 */
export const fetchAlertRules = (signal) => get("/v1/alerts/rules", {}, signal);

/** @param {string} id @returns {Promise<Alert>} */
export const acknowledgeAlert = (id) => post(`/v1/alerts/${encodeURIComponent(id)}/acknowledge`, {});
/** @param {string} id @returns {Promise<Alert>} */
export const unacknowledgeAlert = (id) =>
  request(`/v1/alerts/${encodeURIComponent(id)}/acknowledge`, { method: "DELETE" });

/** @returns {Promise<{ is_required: boolean, is_signed_in: boolean }>} */
export const fetchSession = () => get("/v1/session");
/**
 * Begins a session; the token is sent this once.
 * @param {string} token
 */
export const signIn = (token) =>
  request("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
export const signOut = () => request("/v1/session", { method: "DELETE" });
