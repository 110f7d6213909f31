// One zone: what is wrong and what to do, measurements over time with what is predicted, and why.

import { fetchForecast, fetchKpis, fetchLatest, fetchOverview, fetchPrediction, fetchTasks } from "../api.js";
import { ChartGroup, titleUnit } from "../chart.js";
import { fill, h, setText } from "../dom.js";
import { dateTime, duration, quantity, setSiteZone } from "../format.js";
import { named, t } from "../i18n.js";
import { live } from "../live.js";
import { emptyPage, errorPanel, loadingPanel, reasonText, stateLabel, trend } from "../parts.js";
import { loadSeries } from "../series.js";
import { climateCard, comfortCard, dryingCard, lightCard, predictionsCard } from "./zone_cards.js";
import { showReadings } from "./zone_readings.js";

/**
 * @typedef {import("../api.js").ZoneState} ZoneState
 * @typedef {import("../api.js").Prediction} Prediction
 * @typedef {import("../chart.js").Panel} Panel
 * @typedef {import("../chart.js").ForecastPoint} ForecastPoint
 */

const HOUR = 3_600_000;
const RANGES = /** @type {const} */ ({ "6h": 6, "24h": 24, "3d": 72, "7d": 168, "30d": 720 });
const METRIC_ORDER = ["temperature", "humidity", "soil_moisture", "co2", "light", "irrigation", "heater",
  "soil_temperature", "outdoor_temperature", "motion", "pressure", "battery"];
/** Predictions of a metric's own course: after which time each is of. */
const FORECASTS = /** @type {Record<string, [string, number][]>} */ ({
  temperature: [["temperature-10m", 600_000]],
  soil_moisture: [["watering-6h", 6 * HOUR], ["watering-24h", 24 * HOUR]],
});
/**
 * What is on or off has no course to forecast; of soil moisture the driest probe is shown, and its course would be
 * that of all probes.
 */
const NO_COURSE = new Set(["irrigation", "heater", "motion", "soil_moisture"]);
/** How much of the time to come is shown beside a range. */
const AHEAD_SHARE = 0.5;
const REFRESH_MS = 60_000;
const COLORS = ["--chart-1", "--chart-2", "--chart-3", "--chart-4"];

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").ViewContext} context
 */
export async function show(root, { signal, name: zone, query }) {
  fill(root, h("h1", null, zone), loadingPanel());
  /** @type {ZoneState | undefined} */
  let state;
  /** @type {Record<string, string>} */
  let units = {};
  /** @type {Record<string, number | null>} */
  let features = {};
  /** @type {Map<string, Prediction>} */
  let predictions = new Map();
  /**
   * The course that is forecast of each shown metric, and the one that was forecast a day ago.
   * @type {Map<string, { ahead: ForecastPoint[], earlier: ForecastPoint[] }>}
   */
  let courses = new Map();

  try {
    const [overview, latest] = await Promise.all([fetchOverview({ zones: zone }, signal), fetchLatest(zone, signal)]);
    state = overview.zones.find((own) => own.zone === zone);
    units = overview.units;
    features = latest.rows[0]?.features ?? {};
    setSiteZone(overview.time_zone);
    live.staleAfterS = overview.stale_after_s;
    live.synchronise(overview.now_ms);
    live.note(state?.at_ms ?? null);
  } catch (error) {
    if (signal.aborted) return;
    const isUnknown = /** @type {any} */ (error)?.status === 404;
    fill(root, isUnknown
      ? emptyPage(t("zone.unknown", { zone }), h("a", { class: "button", href: "#/" }, t("zone.back")))
      : [h("h1", null, zone), errorPanel(error, () => void show(root, { signal, name: zone, query, setTitle: () => {} }))]);
    return;
  }
  if (!state) {
    fill(root, emptyPage(t("zone.unknown", { zone }), h("a", { class: "button", href: "#/" }, t("zone.back"))));
    return;
  }
  live.open(`/v1/overview/events?zones=${encodeURIComponent(zone)}`);

  const [site, ...rest] = zone.split("/");
  const metrics = Object.keys(state.metrics).sort((a, b) => place(a) - place(b));
  const chosen = new Set((query.get("metrics") ?? "").split(",").filter((metric) => metrics.includes(metric)));
  if (!chosen.size) metrics.slice(0, 3).forEach((metric) => chosen.add(metric));
  let range = query.get("range") ?? "24h";
  let [fromMs, toMs] = [Number(query.get("from")), Number(query.get("to"))];

  /** @type {any[]} */
  let kpis = [];
  /** @type {Map<string, { value: HTMLElement, more: HTMLElement }>} */
  const tileParts = new Map();
  /** @type {AbortController | undefined} */
  let charting;
  let drawnMs = Date.now();
  let shownReasons = "";
  const label = h("span");
  const age = h("p", { class: "note" });
  const reasons = h("section", { class: "card", "aria-label": t("zone.attention"), hidden: true });
  const tiles = h("div", { class: "tiles", role: "group", "aria-label": t("zone.measurements") });
  const charts = h("div", { class: "charts" }, loadingPanel());
  const values = h("div");
  const rangeBar = h("div", { class: "tools" });
  const cards = h("div", { class: "masonry" }, loadingPanel());
  const group = new ChartGroup(charts, (from, to) => setSpan(from, to));
  signal.addEventListener("abort", () => group.destroy());
  fill(root,
    h("div", { class: "page-head" },
      h("h1", null, h("a", { href: `#/?site=${encodeURIComponent(site)}` }, site), " / ", rest.join("/")), label, age),
    reasons, tiles,
    h("section", { class: "card", "aria-label": t("zone.course") }, rangeBar, charts, values),
    cards);

  async function loadComfort() {
    try {
      kpis = (await fetchKpis(zone, "day", 14, signal)).kpis;
    } catch {
      kpis = []; // The card is left out; the zone's other cards stand by themselves.
    }
  }

  async function loadPredictions() {
    try {
      const { tasks } = await fetchTasks(signal);
      const served = tasks.filter(({ champion }) => champion).map(({ task }) => task);
      const answers = await Promise.allSettled(served.map((task) => fetchPrediction(task, zone, signal)));
      predictions = new Map(answers.flatMap((answer) =>
        answer.status === "fulfilled" ? [[answer.value.task, answer.value]] : []));
    } catch {
      predictions = new Map();
    }
    if (!signal.aborted) await loadComfort().then(drawCards);
  }

  function drawState() {
    const now = live.nowMs();
    const own = /** @type {ZoneState} */ (state);
    fill(label, stateLabel(own.state));
    setText(age, own.at_ms == null ? "" : t("zone.age", { ago: duration((now - own.at_ms) / 1000) }));
    reasons.hidden = !own.reasons.length;
    // What has the reader's focus is not replaced by the same again.
    const texts = own.reasons.map((reason) => reasonText(reason, units, now)).join("\n");
    if (texts === shownReasons) return;
    shownReasons = texts;
    fill(reasons, h("ul", { class: "reasons" }, own.reasons.map((reason) =>
      h("li", null, stateLabel(reason.level), h("span", null, reasonText(reason, units, now)),
        reason.metric && h("button", { class: "button", type: "button", onclick: () => openReadings(/** @type {string} */ (reason.metric)) }, t("zone.show_readings"))))));
  }

  function drawTiles() {
    fill(tiles, metrics.map((metric) => {
      const value = h("span", { class: "value" });
      const more = h("span", { class: "more" });
      tileParts.set(metric, { value, more });
      return h("button", {
        type: "button", class: "tile", "aria-pressed": String(chosen.has(metric)),
        onclick: (/** @type {Event} */ event) => {
          if (!chosen.delete(metric)) chosen.add(metric);
          if (!chosen.size) chosen.add(metric);
          /** @type {HTMLElement} */ (event.currentTarget).setAttribute("aria-pressed", String(chosen.has(metric)));
          keepAddress();
          void loadCharts();
        },
      }, h("span", { class: "name" }, named("metric", metric)), value, more);
    }));
    updateTiles();
  }

  function updateTiles() {
    const now = live.nowMs();
    const own = /** @type {ZoneState} */ (state);
    for (const [metric, { value: place, more }] of tileParts) {
      const [value, ageAtRow, slope] = own.metrics[metric] ?? [null, null, null];
      const unit = units[metric] ?? "";
      fill(place, quantity(value, unit), trend(slope, value, unit));
      const ageS = own.at_ms == null || ageAtRow == null ? null : ageAtRow + (now - own.at_ms) / 1000;
      setText(more, ageS == null ? t("zone.never") : t("zone.ago", { ago: duration(ageS) }));
      more.classList.toggle("old", ageS != null && ageS > live.staleAfterS);
    }
  }

  function drawRange() {
    const isOwn = fromMs > 0 && toMs > fromMs;
    const buttons = Object.keys(RANGES).map((key) => h("button", {
      type: "button", class: "chip", "aria-pressed": String(!isOwn && range === key),
      onclick: () => { range = key; [fromMs, toMs] = [0, 0]; keepAddress(); drawRange(); void loadCharts(); },
    }, t(/** @type {any} */ (`range.${key}`))));
    const input = (/** @type {string} */ text, /** @type {number} */ ms, /** @type {(ms: number) => void} */ set) => {
      const field = h("input", { type: "datetime-local", "aria-label": text, value: localInput(ms), onchange: () => field.value && set(new Date(field.value).getTime()) });
      return field;
    };
    const [from, to] = span();
    fill(rangeBar, h("div", { class: "chips", role: "group", "aria-label": t("zone.range") }, buttons),
      h("span", { class: "grow" }),
      h("div", { class: "chips" },
        h("button", { type: "button", class: "chip", title: t("zone.earlier"), "aria-label": t("zone.earlier"), onclick: () => pan(-0.5) }, "←"),
        h("button", { type: "button", class: "chip", title: t("zone.zoom_in"), "aria-label": t("zone.zoom_in"), onclick: () => zoom(0.5) }, "+"),
        h("button", { type: "button", class: "chip", title: t("zone.zoom_out"), "aria-label": t("zone.zoom_out"), onclick: () => zoom(2) }, "−"),
        h("button", { type: "button", class: "chip", title: t("zone.later"), "aria-label": t("zone.later"), onclick: () => pan(0.5) }, "→")),
      h("details", null, h("summary", null, t("zone.from_to")), h("div", { class: "tools" },
        input(t("zone.from"), from, (ms) => setSpan(ms, Math.max(to, ms + HOUR))),
        input(t("zone.to"), to, (ms) => setSpan(Math.min(from, ms - HOUR), ms)))));
  }

  /** @returns {[number, number]} what is shown of the past, UTC ms */
  function span() {
    if (fromMs > 0 && toMs > fromMs) return [fromMs, toMs];
    const now = live.nowMs();
    // Where a zone is silent its last day is shown, not an empty one.
    const end = state?.state === "stale" && state.at_ms ? state.at_ms : now;
    return [end - RANGES[/** @type {keyof typeof RANGES} */ (range)] * HOUR || end - 24 * HOUR, end];
  }

  /** @param {number} from @param {number} to */
  function setSpan(from, to) {
    [fromMs, toMs] = [Math.round(from), Math.round(Math.min(to, live.nowMs() + 24 * HOUR))];
    keepAddress();
    drawRange();
    void loadCharts();
  }

  /** @param {number} factor */
  function zoom(factor) {
    const [from, to] = span();
    const width = Math.min((to - from) * factor, 400 * 24 * HOUR);
    const end = Math.min((from + to) / 2 + width / 2, Math.max(to, live.nowMs()));
    if (width > 300_000) setSpan(end - width, end);
  }

  /** @param {number} share */
  function pan(share) {
    const [from, to] = span();
    const move = Math.min((to - from) * share, Math.max(0, live.nowMs() - to));
    if (move) setSpan(from + move, to + move);
  }

  function keepAddress() {
    const kept = new URLSearchParams({ metrics: [...chosen].join(",") });
    if (fromMs > 0) {
      kept.set("from", String(fromMs));
      kept.set("to", String(toMs));
    } else kept.set("range", range);
    history.replaceState(null, "", `#/zone/${encodeURI(zone)}?${kept}`);
  }

  async function loadCharts() {
    charting?.abort();
    charting = new AbortController();
    const own = AbortSignal.any([signal, charting.signal]);
    const shown = metrics.filter((metric) => chosen.has(metric));
    const [from, to] = span();
    try {
      const [series, found] = await Promise.all([
        loadSeries(zone, shown, new Set(Object.keys(features)), from, Math.min(to, live.nowMs()), own),
        loadCourses(shown, from, to, own),
      ]);
      if (own.aborted) return;
      courses = found;
      await group.show(panelsOf(shown, series, from, to));
      fill(values, valuesTable(shown, series));
    } catch (error) {
      if (!own.aborted) fill(charts, errorPanel(error, () => void loadCharts()));
    }
  }

  /**
   * Where the span ends now: what is forecast, and yesterday's forecast of the hours since.
   * @param {string[]} shown
   * @param {number} from
   * @param {number} to
   * @param {AbortSignal} own
   */
  async function loadCourses(shown, from, to, own) {
    /** @type {typeof courses} */
    const found = new Map();
    const now = live.nowMs();
    if (now - to > 5 * 60_000 || state?.state === "stale") return found;
    const metrics = shown.filter((metric) => !NO_COURSE.has(metric));
    await Promise.all(metrics.map(async (metric) => {
      const [ahead, earlier] = await Promise.allSettled([
        fetchForecast(metric, zone, undefined, own),
        to - from >= 24 * HOUR ? fetchForecast(metric, zone, Math.round(now - 24 * HOUR), own) : Promise.reject(),
      ]);
      // A metric with little history has no forecast; its measurements are shown without one.
      found.set(metric, { ahead: courseOf(ahead), earlier: courseOf(earlier).filter(({ at_ms }) => at_ms >= from) });
    }));
    return found;
  }

  /**
   * Metrics of one unit share a panel, so that indoors and outdoors are compared on one scale.
   * @param {string[]} shown
   * @param {import("../series.js").ZoneSeries} series
   * @param {number} from
   * @param {number} to
   * @returns {Panel[]}
   */
  function panelsOf(shown, series, from, to) {
    /** @type {Map<string, string[]>} */
    const byUnit = new Map();
    for (const metric of shown) {
      const unit = units[metric] ?? "";
      const key = unit === "" || unit === "%" || unit === "0/1" ? metric : unit;
      byUnit.set(key, [...(byUnit.get(key) ?? []), metric]);
    }
    const forecasts = new Map(shown.map((metric) => [metric, forecastOf(metric, to)]));
    const ahead = Math.max(0, ...[...forecasts.values()].flatMap((own) => own.map(({ at_ms }) => at_ms - to)));
    const until = to + Math.min(ahead * 1.05, (to - from) * AHEAD_SHARE);
    return [...byUnit.values()].map((own) => {
      const unit = units[own[0]] ?? "";
      return {
        title: own.map((metric) => named("metric", metric)).join(", ") + titleUnit(unit) + (own.includes("soil_moisture") ? `, ${t("drying.driest")}` : ""),
        unit, times: series.times,
        lines: own.map((metric, i) => ({
          name: named("metric", metric), color: COLORS[i % COLORS.length],
          values: series.values.get(metric) ?? [], isStepped: unit === "0/1",
        })),
        flags: own.flatMap((metric) => series.flags.get(metric) ?? []),
        limits: limitsOf(own), earlier: courses.get(own[0])?.earlier ?? [], forecast: own.length === 1 ? forecasts.get(own[0]) ?? [] : forecasts.get("temperature") ?? [],
        unusualSinceMs: state?.reasons.find(({ kind, metric }) => kind === "anomaly" && own.includes(metric ?? ""))?.since_ms ?? null,
        fromMs: from, toMs: until,
      };
    });
  }

  /**
   * From the newest measurement to what is predicted, where the span ends now.
   * @param {string} metric
   * @param {number} to
   */
  function forecastOf(metric, to) {
    const now = live.nowMs();
    if (now - to > 5 * 60_000 || state?.state === "stale") return [];
    const points = (FORECASTS[metric] ?? []).flatMap(([task, afterMs]) => {
      const own = predictions.get(task);
      if (!own || own.is_stale) return [];
      return [{ at_ms: own.features_at_ms + afterMs, value: own.value, low: own.interval?.[0] ?? null, high: own.interval?.[1] ?? null }];
    });
    // A champion is of few times; the course follows where its predictions end.
    const lastMs = points[points.length - 1]?.at_ms ?? now;
    points.push(...(courses.get(metric)?.ahead ?? []).filter(({ at_ms }) => at_ms > lastMs));
    const value = state?.metrics[metric]?.[0];
    if (!points.length || value == null) return [];
    return [{ at_ms: now, value, low: value, high: value }, ...points];
  }

  /** @param {string[]} own */
  function limitsOf(own) {
    const limits = state?.limits ?? {};
    const found = [];
    if (own.includes("soil_moisture") && limits.soil_moisture_critical != null) found.push({ value: limits.soil_moisture_critical, label: t("chart.critical") });
    if (own.includes("temperature")) {
      if (limits.heat_below != null) found.push({ value: limits.heat_below, label: t("chart.heat_below") });
      if (limits.cool_above != null) found.push({ value: limits.cool_above, label: t("chart.cool_above") });
    }
    if (own.includes("co2") && limits.co2_high != null) found.push({ value: limits.co2_high, label: t("chart.co2_high") });
    return found;
  }

  /**
   * The values of the charts as a table, a line for each of at most 48 times.
   * @param {string[]} shown
   * @param {import("../series.js").ZoneSeries} series
   */
  function valuesTable(shown, series) {
    const every = Math.max(1, Math.ceil(series.times.length / 48));
    const rows = () => series.times.flatMap((ms, i) => i % every ? [] : [h("tr", null, h("th", { scope: "row" }, dateTime(ms)),
      shown.map((metric) => {
        const value = series.values.get(metric)?.[i];
        return h("td", { class: "number" }, value == null ? t("chart.gap") : quantity(value, units[metric] ?? ""));
      }))]);
    const body = h("tbody");
    return h("details", { ontoggle: () => { if (!body.childElementCount) fill(body, rows()); } },
      h("summary", null, t("zone.as_table")),
      h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("zone.as_table") }, h("table", null,
        h("thead", null, h("tr", null, h("th", { scope: "col" }, t("zone.time")), shown.map((metric) => h("th", { scope: "col", class: "number" }, named("metric", metric))))), body)));
  }

  /** @param {string} metric */
  function openReadings(metric) {
    void showReadings(zone, metric, units[metric] ?? "", features, signal);
  }

  function drawCards() {
    const limits = state?.limits ?? {};
    const made = [
      predictionsCard(predictions, units),
      dryingCard(features, limits, predictions), climateCard(features), lightCard(features, limits, predictions),
      comfortCard(kpis), measurementsCard(),
    ].filter(Boolean);
    fill(cards, made);
  }

  function measurementsCard() {
    return h("section", { class: "card" }, h("h2", null, t("zone.behind")), h("p", { class: "note" }, t("zone.behind_more")),
      h("div", { class: "chips" }, metrics.map((metric) =>
        h("button", { class: "chip", type: "button", onclick: () => openReadings(metric) }, named("metric", metric)))));
  }

  live.addEventListener("zones", (event) => {
    const found = /** @type {CustomEvent<ZoneState[]>} */ (event).detail.find((own) => own.zone === zone);
    if (!found) return;
    state = found;
    drawState();
    updateTiles();
    // Charts and predictions follow once a minute, while the span ends now and nobody points at it.
    if (Date.now() - drawnMs > REFRESH_MS && !fromMs && !root.querySelector("dialog[open]") && !charts.matches(":hover") && !document.hidden) {
      drawnMs = Date.now();
      void refresh();
    }
  }, { signal });
  live.addEventListener("recovered", () => void refresh(), { signal });
  const ticking = setInterval(() => { drawState(); updateTiles(); }, 10_000);
  signal.addEventListener("abort", () => clearInterval(ticking));

  drawState();
  drawTiles();
  drawRange();
  await loadPredictions();
  await loadCharts();

  async function refresh() {
    try {
      features = (await fetchLatest(zone, signal)).rows[0]?.features ?? features;
      if (!cards.contains(document.activeElement)) await loadPredictions();
      await loadCharts();
    } catch {
      // The link's state says that there is no connection; what is shown stays.
    }
  }
}

/**
 * @param {PromiseSettledResult<Awaited<ReturnType<typeof fetchForecast>>>} answer
 * @returns {ForecastPoint[]}
 */
function courseOf(answer) {
  if (answer.status !== "fulfilled" || answer.value.is_stale) return [];
  return answer.value.points.map(({ at_ms, value, quantiles }) =>
    ({ at_ms, value, low: quantiles[0], high: quantiles[quantiles.length - 1] }));
}

/** @param {string} metric */
function place(metric) {
  const index = METRIC_ORDER.indexOf(metric);
  return index < 0 ? METRIC_ORDER.length : index;
}

/** @param {number} ms */
function localInput(ms) {
  const date = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return date.toISOString().slice(0, 16);
}
