// The cards of a zone: predictions and why, drying, climate, light, comfort.

import { h } from "../dom.js";
import { converted, duration, fixed, interval, multiple, nearTime, number, percent, quantity, shownUnit, weekday } from "../format.js";
import { named, t } from "../i18n.js";
import { facts, nextText, stateLabel } from "../parts.js";

/** @typedef {import("../api.js").Prediction} Prediction */
/** @typedef {Record<string, number | null>} Features */

const TASK_ORDER = ["temperature-10m", "heating-class", "heating", "cooling", "watering", "watering-6h", "watering-24h",
  "watering-start-2h", "light", "light-day", "light-night", "light-supplement"];

/**
 * What the champions predict, each with its interval and what moved it.
 * @param {Map<string, Prediction>} predictions
 * @param {Record<string, string>} units
 */
export function predictionsCard(predictions, units) {
  const shown = TASK_ORDER.map((task) => predictions.get(task)).filter((own) => own !== undefined);
  const anomaly = predictions.get("anomaly");
  if (!shown.length && !anomaly) {
    return h("section", { class: "card" }, h("h2", null, t("zone.predictions")), h("p", { class: "note" }, t("zone.no_predictions")));
  }
  return h("section", { class: "card" }, h("h2", null, t("zone.predictions")),
    h("ul", { class: "reasons" }, shown.map((own) => predictionLine(own))), anomaly && anomalyLine(anomaly, units));
}

/** @param {Prediction} own */
function predictionLine(own) {
  const probability = own.class ? own.probabilities?.[own.class] : undefined;
  return h("li", null, h("details", null,
    h("summary", null, `${named("task", own.task)}: `,
      h("b", null, nextText({ task: own.task, value: own.value, unit: own.unit, class: own.class, probability })),
      own.interval && !own.class && h("span", { class: "note" }, ` (${interval(own.interval[0], own.interval[1], own.unit)})`),
      own.is_stale && stateLabel("stale", t("zone.old_prediction"))),
    own.fallback && h("p", { class: "note" }, t("why.fallback", { reason: own.fallback_reason ?? "" })),
    own.drift.flag && h("p", { class: "note" }, t("why.drift", { inputs: (own.drift.outside ?? []).slice(0, 3).map(inputName).join(", ") })),
    contributions(own),
    h("p", { class: "note" }, t("why.made_by", { model: own.model, version: own.version, time: nearTime(own.features_at_ms), level: percent(own.interval_level) }))));
}

/**
 * The inputs that moved a prediction, as bars to both sides.
 * @param {Prediction} own
 */
function contributions(own) {
  const unit = own.class ? "" : own.unit;
  const moved = (own.contributions ?? []).filter(({ change }) => Math.abs(change) > 1e-4);
  if (!moved.length) return h("p", { class: "note" }, t("why.none"));
  const largest = Math.max(...moved.map(({ change }) => Math.abs(change)));
  return h("div", null, h("p", { class: "note" }, t("why.explain")), h("ul", { class: "bars" }, moved.map(({ input, value, change }) => {
    const width = `${Math.max(3, (Math.abs(change) / largest) * 50)}%`;
    const side = change > 0 ? { left: "50%", width } : { right: "50%", width };
    return h("li", null, h("span", null, inputName(input), value != null && h("small", { class: "note" }, ` ${number(value)}`)),
      h("span", { class: "track", "aria-hidden": "true" }, h("i", { class: change > 0 ? "up" : "down", style: side })),
      h("span", { class: "amount" }, `${change > 0 ? "+" : "−"}${quantity(Math.abs(change), unit, { isDifference: true })}`));
  })));
}

/**
 * @param {Prediction} own
 * @param {Record<string, string>} units
 */
function anomalyLine(own, units) {
  const metric = own.metric ? named("metric", own.metric) : "";
  const isAlarm = own.value >= 1;
  return h("p", null, stateLabel(isAlarm ? "warning" : "ok", isAlarm ? t("anomaly.unusual") : t("anomaly.usual")), " ",
    isAlarm
      ? t("anomaly.alarm", { metric, fault: own.fault ? named("fault", own.fault) : t("fault.unknown"), times: multiple(own.value) })
      : t("anomaly.quiet", { metric, share: percent(own.value) }));
}

/**
 * `temperature_slope_1h` in words, as far as its parts have some.
 * @param {string} input
 */
export function inputName(input) {
  return input.split(" - ").map((part) => {
    const [column, ago] = part.split(/ (?=\d+h ago$)/);
    const match = column.match(/^(.+?)_(mean|min|max|std|slope|delta|last|now|age_s|integral|p10|p50|p90|coverage|day_mean|night_mean)(?:_(\w+))?$/);
    if (!match) return named("input", part);
    const [, metric, aggregate, window] = match;
    const words = [named("metric", metric), named("aggregate", aggregate)];
    if (window) words.push(window);
    if (ago) words.push(t("input.ago", { hours: parseInt(ago, 10) }));
    return words.join(" ");
  }).join(" − ");
}

/**
 * When to water, for how long, and what that rests on.
 * @param {Features} f
 * @param {Record<string, number>} limits
 * @param {Map<string, Prediction>} predictions
 */
export function dryingCard(f, limits, predictions) {
  if (f.soil_moisture_last == null) return null;
  const now = f.soil_moisture_min_30m ?? f.soil_moisture_last;
  const critical = limits.soil_moisture_critical ?? null;
  const watering = predictions.get("watering");
  const irrigation = watering?.irrigation ?? predictions.get("watering-6h")?.irrigation;
  const isDry = critical != null && now != null && now <= critical;
  const low = watering?.interval?.[0] ?? f.drying_hours_to_critical_low;
  const high = watering?.interval?.[1] ?? f.drying_hours_to_critical_high;
  const hours = watering?.value ?? f.drying_hours_to_critical;
  // The drying trend has a threshold of its own: where it says "now" and the zone's limit is not
  // reached, the two are not the same question.
  const isKnown = !isDry && hours != null && hours > 0;
  const lead = isDry
    ? t("drying.dry", { value: quantity(now, "%"), limit: quantity(critical, "%") })
    : isKnown && hours < 48 ? t("drying.in_hours", { hours: number(hours, hours < 10 ? 1 : 0), limit: quantity(critical, "%") })
      : isKnown ? t("drying.not_soon") : t("drying.enough", { value: quantity(now, "%"), limit: quantity(critical, "%") });
  const minutes = irrigation?.minutes ?? null;
  const response = irrigation?.response_pct_min ?? f.drying_response_pct_min;
  return h("section", { class: "card" }, h("h2", null, t("drying.title")), h("p", { class: "lead" }, lead),
    isKnown && low != null && high != null && hours < 48 && h("p", { class: "note" }, t("drying.interval", { low: number(low, 0), high: number(high, 0) })),
    minutes != null && minutes > 0 && h("p", null, t("drying.minutes", { minutes: number(minutes, 0) }),
      response != null && h("small", { class: "note" }, ` ${t("drying.minutes_why", { response: quantity(response, "%") })}`)),
    irrigation && irrigation.minutes == null && irrigation.reason && h("p", { class: "note" }, t("drying.no_minutes", { reason: irrigation.reason })),
    facts([
      [t("drying.now"), quantity(now, "%"), t("drying.driest")],
      critical != null && [t("drying.critical"), quantity(critical, "%")],
      f.drying_rate_pct_h != null && [t("drying.rate"), quantity(f.drying_rate_pct_h * 24, "%"), t("drying.per_day")],
      f.drying_since_watering_h != null && [t("drying.since"), duration(f.drying_since_watering_h * 3600), f.drying_watering_rise_pct == null ? "" : t("drying.rise", { rise: quantity(f.drying_watering_rise_pct, "%") })],
    ]));
}

/**
 * Vapour-pressure deficit and dew point, with what they mean.
 * @param {Features} f
 */
export function climateCard(f) {
  const vpd = f.vpd_kpa;
  if (vpd == null) return null;
  const kind = vpd < 0.4 ? "wet" : vpd <= 1.2 ? "good" : vpd <= 1.6 ? "dry" : "very_dry";
  const temperature = f.temperature_mean_10m ?? f.temperature_last;
  const spread = temperature == null || f.dew_point_c == null ? null : temperature - f.dew_point_c;
  return h("section", { class: "card" }, h("h2", null, t("climate.title")),
    h("p", { class: "lead" }, t(/** @type {any} */ (`climate.${kind}`))),
    spread != null && spread < 1.5 && h("p", null, t("climate.condensation", { spread: quantity(Math.max(0, spread), "°C", { isDifference: true, digits: 1 }) })),
    facts([
      [t("climate.vpd"), quantity(vpd, "kPa"), t("climate.vpd_band")],
      f.dew_point_c != null && [t("climate.dew_point"), quantity(f.dew_point_c, "°C")],
      f.humidity_mean_10m != null && [named("metric", "humidity"), quantity(f.humidity_mean_10m, "%RH")],
      f.reference_evapotranspiration_mm_d != null && [t("climate.evapotranspiration"), `${number(f.reference_evapotranspiration_mm_d)} mm/d`],
    ]));
}

/**
 * Light of day and night, the integral against what the crop wants, hours of lamps.
 * @param {Features} f
 * @param {Record<string, number>} limits
 * @param {Map<string, Prediction>} predictions
 */
export function lightCard(f, limits, predictions) {
  if (f.light_last == null) return null;
  const integral = f.light_integral_24h_mol_m2;
  const target = limits.dli_target || null;
  const lamps = predictions.get("light-supplement");
  const share = integral != null && target ? integral / target : null;
  return h("section", { class: "card" }, h("h2", null, t("light.title")),
    integral != null && h("p", { class: "lead" }, target
      ? t("light.of_target", { value: number(integral, 1), target: number(target, 0) })
      : t("light.integral", { value: number(integral, 1) })),
    share != null && h("div", { class: "meter", role: "meter", "aria-label": t("light.share"), "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.min(100, Math.round(share * 100)) },
      h("i", { style: { width: percentWidth(share) } })),
    lamps && target && lamps.value > 0.2 && h("p", null, t("light.lamps", { hours: number(lamps.value, 1) })),
    facts([
      f.light_day_mean_24h != null && [t("light.day"), quantity(f.light_day_mean_24h, "lux"), t("light.mean_24h")],
      f.light_night_mean_24h != null && [t("light.night"), quantity(f.light_night_mean_24h, "lux"), t("light.mean_24h")],
      f.light_night_max_24h != null && [t("light.night_max"), quantity(f.light_night_max_24h, "lux")],
      f.light_max_24h != null && [t("light.brightest"), quantity(f.light_max_24h, "lux"), t("light.last_24h")],
    ]));
}

/** @param {number} share */
const percentWidth = (share) => `${Math.min(100, Math.max(0, share * 100))}%`;

/**
 * Comfort and data quality of the last days.
 * @param {any[]} kpis newest first
 */
export function comfortCard(kpis) {
  const days = kpis.filter((day) => day.comfort != null || day.quality != null).slice(0, 8);
  if (!days.length) return null;
  const score = (/** @type {number | null} */ value) => value == null ? "–" : percent(value / 100);
  return h("section", { class: "card" }, h("h2", null, t("comfort.title")), h("p", { class: "note" }, t("comfort.more")),
    h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("comfort.title") }, h("table", { class: "compact" },
      h("thead", null, h("tr", null, h("th", { scope: "col" }, t("comfort.day")), h("th", { scope: "col" }, t("comfort.temperature")),
        h("th", { scope: "col", class: "number" }, `${t("comfort.range")}, ${shownUnit("°C")}`), h("th", { scope: "col", class: "number" }, t("comfort.quality")))),
      h("tbody", null, days.map((day) => {
        const temperature = day.metrics.temperature;
        return h("tr", null, h("th", { scope: "row", class: "day" }, weekday(day.period.start_ms)),
          h("td", null, temperature?.comfort == null ? score(day.comfort) : h("span", null, score(temperature.comfort),
            h("span", { class: "meter", style: { display: "block" }, "aria-hidden": "true" }, h("i", { style: { width: percentWidth(temperature.comfort / 100) } })))),
          h("td", { class: "number day" }, temperature ? rangeText(temperature) : "–"),
          h("td", { class: "number" }, score(day.quality)));
      })))));
}

/** @param {{ min: number, max: number }} temperature °C */
const rangeText = ({ min, max }) =>
  `${fixed(converted(min, "°C"), 1)} – ${fixed(converted(max, "°C"), 1)}`;
