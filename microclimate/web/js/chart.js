// Charts of measurements over time: axes, tooltip, zoom, gaps, flagged readings, limits and
// forecasts, drawn by uPlot.

import { h, setText } from "./dom.js";
import { clockSecond, clockTime, converted, dateTime, dayMonth, nearTime, number, quantity, shownUnit, timeZone } from "./format.js";
import { named, t } from "./i18n.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {string} color a custom property of the style sheet, as in `--chart-1`
 * @property {(number | null)[]} values in the metric's unit; null where nothing was measured
 * @property {boolean} [isStepped] a switch, which holds its value
 *
 * @typedef {object} Flag a reading that was set aside
 * @property {number} at_ms
 * @property {number | null} value
 * @property {string} quality
 *
 * @typedef {object} ForecastPoint
 * @property {number} at_ms
 * @property {number} value
 * @property {number | null} low
 * @property {number | null} high
 *
 * @typedef {object} Panel
 * @property {string} title
 * @property {string} unit
 * @property {number[]} times UTC ms
 * @property {Line[]} lines
 * @property {Flag[]} flags
 * @property {{ value: number, label: string }[]} limits
 * @property {ForecastPoint[]} forecast beginning at the newest measurement
 * @property {ForecastPoint[]} earlier what was forecast a day ago of the time that is shown
 * @property {number | null} unusualSinceMs since when the sensor has behaved unusually
 * @property {number} fromMs
 * @property {number} toMs
 */

/** @type {Promise<void> | undefined} */
let loading;

/** Loads the chart library, once, when the first chart is drawn. */
function loadLibrary() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(
      h("link", { rel: "stylesheet", href: "/vendor/uplot/uPlot.min.css" }),
      h("script", { src: "/vendor/uplot/uPlot.iife.min.js", onload: () => resolve(), onerror: reject }));
  });
  return loading;
}

/**
 * A colour of the style sheet as the canvas understands it.
 * @param {string} name a custom property
 */
function color(name) {
  const probe = h("i", { style: { color: `var(${name})`, display: "none" } });
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}

/**
 * The same colour, so faint that lines show through.
 * @param {string} rgb as in `rgb(31, 107, 67)`
 */
const faint = (rgb) => rgb.replace(/^rgb\((.*)\)$/, "rgba($1, 0.18)");

/** A group of panels over the same time: one cursor, one zoom. */
export class ChartGroup {
  /**
   * @param {HTMLElement} target
   * @param {(fromMs: number, toMs: number) => void} onZoom
   */
  constructor(target, onZoom) {
    this.target = target;
    this.onZoom = onZoom;
    /** @type {{ plot: uPlot, panel: Panel }[]} */
    this.plots = [];
    this.key = `zone-${Math.random()}`;
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(target);
    this.redraw = () => void this.show(this.panels);
    this.colours = matchMedia("(prefers-color-scheme: dark)");
    this.colours.addEventListener("change", this.redraw);
    /** @type {Panel[]} */
    this.panels = [];
  }

  /**
   * Shows panels in place of those before.
   * @param {Panel[]} panels
   */
  async show(panels) {
    await loadLibrary();
    this.panels = panels;
    this.clear();
    this.target.replaceChildren();
    for (const panel of panels) this.plots.push({ plot: this.draw(panel), panel });
  }

  clear() {
    for (const { plot } of this.plots) plot.destroy();
    this.plots = [];
  }

  destroy() {
    this.clear();
    this.resizing.disconnect();
    this.colours.removeEventListener("change", this.redraw);
  }

  resize() {
    for (const { plot } of this.plots) {
      const width = this.target.clientWidth;
      if (width > 0) plot.setSize({ width, height: heightFor(width) });
    }
  }

  /** @param {Panel} whole */
  draw(whole) {
    const panel = { ...whole, forecast: cutForecast(whole.forecast, whole.toMs) };
    const legend = h("p", { class: "chart-legend", "aria-hidden": "true" });
    const canvas = h("div", { class: "chart-canvas", role: "img", "aria-label": describe(panel) });
    this.target.append(h("figure", { class: "chart" },
      h("figcaption", null, h("span", { class: "chart-title" }, panel.title), legend), canvas));
    const width = this.target.clientWidth || 600;
    const { data, series, bands } = seriesOf(panel);
    const grid = { stroke: color("--line"), width: 1 };
    const axis = { stroke: color("--soft"), grid, ticks: { ...grid, size: 4 }, font: "12px system-ui, sans-serif" };
    const plot = new uPlot({
      width, height: heightFor(width), series, bands,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), timeZone()),
      padding: [8, 26, 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: this.key, setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
      },
      scales: {
        x: { range: () => [panel.fromMs / 1000, panel.toMs / 1000] },
        y: { range: (/** @type {uPlot} */ _, /** @type {number} */ low, /** @type {number} */ high) => padded(panel, low, high) },
      },
      axes: [
        { ...axis, space: 64, values: (/** @type {uPlot} */ _, /** @type {number[]} */ splits) => timeLabels(splits) },
        { ...axis, size: 52, values: (/** @type {uPlot} */ _, /** @type {number[]} */ splits) => valueLabels(splits, panel.unit) },
      ],
      hooks: {
        drawClear: [(u) => drawFuture(u, panel), (u) => drawUnusual(u, panel)],
        draw: [(u) => drawLimits(u, panel), (u) => drawFlags(u, panel)],
        setCursor: [(u) => showValues(u, panel, legend)],
        setSelect: [(u) => this.zoomTo(u)],
      },
    }, data, canvas);
    showValues(plot, panel, legend);
    return plot;
  }

  /** @param {uPlot} plot */
  zoomTo(plot) {
    const { left, width } = plot.select;
    if (width < 8) return;
    const at = (/** @type {number} */ position) => plot.posToVal(position, "x") * 1000;
    const [from, to] = [at(left), at(left + width)];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (to - from > 120_000) this.onZoom(from, to);
  }
}

/** A forecast of more times than this is a line without points. */
const POINTS_SHOWN_MAX = 8;

/** @param {number} width */
const heightFor = (width) => (width < 500 ? 180 : 220);

/**
 * A forecast as far as it is shown: what lies beyond is cut on the line that leads there.
 * @param {ForecastPoint[]} points
 * @param {number} toMs
 */
function cutForecast(points, toMs) {
  const beyond = points.findIndex(({ at_ms }) => at_ms > toMs);
  if (beyond < 1) return beyond === 0 ? [] : points;
  const [a, b] = [points[beyond - 1], points[beyond]];
  const share = (toMs - a.at_ms) / (b.at_ms - a.at_ms);
  const between = (/** @type {number | null} */ x, /** @type {number | null} */ y) =>
    x == null || y == null ? null : x + (y - x) * share;
  const cut = { at_ms: toMs, value: a.value + (b.value - a.value) * share, low: between(a.low, b.low), high: between(a.high, b.high) };
  return [...points.slice(0, beyond), cut];
}

/** @param {Panel} panel */
function seriesOf(panel) {
  const times = [...panel.times];
  const { forecast } = panel;
  const measured = times.length;
  for (const { at_ms } of forecast) times.push(at_ms);
  const unit = panel.unit;
  const before = Array(measured).fill(null);
  const after = Array(forecast.length).fill(null);
  /** @type {(number | null | undefined)[][]} */
  const data = [times.map((ms) => ms / 1000)];
  /** @type {UplotSeries[]} */
  const series = [{}];
  for (const line of panel.lines) {
    data.push([...line.values.map((value) => converted(value, unit)), ...after]);
    series.push({
      label: line.name, stroke: color(line.color), width: 1.75, spanGaps: false, points: { show: false },
      paths: line.isStepped ? uPlot.paths.stepped?.({ align: 1 }) : undefined,
    });
  }
  if (panel.earlier.length) {
    const values = Array(times.length).fill(null);
    for (const point of panel.earlier) {
      const index = nearestIndex(panel, point.at_ms);
      if (index >= 0) values[index] = converted(point.value, unit);
    }
    data.push(values);
    series.push({ label: t("chart.earlier"), stroke: color("--soft"), width: 1.25, dash: [2, 4], spanGaps: true, points: { show: false } });
  }
  /** @type {{ series: [number, number], fill: string }[]} */
  const bands = [];
  if (forecast.length > 1) {
    const of = (/** @type {"value" | "low" | "high"} */ name) =>
      [...before, ...forecast.map((point) => converted(point[name] ?? point.value, unit))];
    const stroke = color(panel.lines[0]?.color ?? "--chart-1");
    data.push(of("value"), of("high"), of("low"));
    series.push(
      { label: t("chart.forecast"), stroke, width: 1.75, dash: [5, 4], spanGaps: true, points: { show: forecast.length <= POINTS_SHOWN_MAX, size: 6, fill: stroke } },
      { stroke: "transparent", spanGaps: true, points: { show: false } },
      { stroke: "transparent", spanGaps: true, points: { show: false } });
    bands.push({ series: [series.length - 2, series.length - 1], fill: faint(stroke) });
  }
  return { data, series, bands };
}

/**
 * The index of the shown time that is nearest to another, below 0 where that is not shown.
 * @param {Panel} panel
 * @param {number} ms
 */
function nearestIndex({ times }, ms) {
  const step = times.length > 1 ? times[1] - times[0] : 1;
  const index = Math.round((ms - times[0]) / step);
  return index < times.length ? index : -1;
}

/**
 * The range of values, with room around it; limits near what was measured are shown, and a flat
 * line does not look like a mountain range.
 * @param {Panel} panel
 * @param {number | null} low
 * @param {number | null} high
 * @returns {[number, number]}
 */
function padded(panel, low, high) {
  if (panel.unit === "0/1") return [-0.1, 1.1];
  if (low == null || high == null) return [0, 1];
  for (const { value } of panel.limits) {
    const shown = converted(value, panel.unit) ?? value;
    const reach = Math.max(high - low, Math.abs(high) * 0.1, 1) * 1.5;
    if (shown < low && low - shown < reach) low = shown;
    if (shown > high && shown - high < reach) high = shown;
  }
  const least = panel.unit === "°C" ? 1 : Math.abs(high) * 0.02 || 1;
  const extra = Math.max((high - low) * 0.08, (least - (high - low)) / 2);
  const floor = low >= 0 ? 0 : -Infinity;
  return [Math.max(floor, low - extra), high + extra];
}

/** @param {number[]} splits seconds */
function timeLabels(splits) {
  const step = splits.length > 1 ? splits[1] - splits[0] : 0;
  let day = "";
  return splits.map((seconds) => {
    const ms = seconds * 1000;
    const own = dayMonth(ms);
    if (step >= 86_400) return own;
    if (step >= 43_200) return dayMonth(ms - 1) === own ? clockTime(ms) : own;
    if (step < 60) return clockSecond(ms);
    const label = own === day || day === "" && step < 3600 ? clockTime(ms) : `${clockTime(ms)}\n${own}`;
    day = own;
    return label;
  });
}

/**
 * @param {number[]} splits
 * @param {string} unit
 */
function valueLabels(splits, unit) {
  if (unit === "0/1") return splits.map((v) => (v === 1 ? t("value.on") : v === 0 ? t("value.off") : ""));
  const step = splits.length > 1 ? Math.abs(splits[1] - splits[0]) : 1;
  const digits = Number.isInteger(step) ? 0 : Number.isInteger(Math.round(step * 1000) / 100) ? 1 : 2;
  return splits.map((value) => number(value, digits));
}

/**
 * Marks what has not come yet.
 * @param {uPlot} u
 * @param {Panel} panel
 */
function drawFuture(u, panel) {
  const nowMs = panel.forecast[0]?.at_ms;
  if (!nowMs || nowMs >= panel.toMs) return;
  const { left, top, width, height } = u.bbox;
  const x = u.valToPos(nowMs / 1000, "x", true);
  u.ctx.save();
  u.ctx.fillStyle = color("--future");
  u.ctx.fillRect(x, top, left + width - x, height);
  u.ctx.restore();
}

/**
 * Marks the time in which the sensor behaves unusually.
 * @param {uPlot} u
 * @param {Panel} panel
 */
function drawUnusual(u, panel) {
  if (panel.unusualSinceMs == null) return;
  const { left, top, width, height } = u.bbox;
  const from = Math.max(left, u.valToPos(panel.unusualSinceMs / 1000, "x", true));
  const to = Math.min(left + width, u.valToPos(panel.times[panel.times.length - 1] / 1000, "x", true));
  if (to <= from) return;
  u.ctx.save();
  u.ctx.fillStyle = color("--warning-back");
  u.ctx.fillRect(from, top, to - from, height);
  u.ctx.restore();
}

/**
 * @param {uPlot} u
 * @param {Panel} panel
 */
function drawLimits(u, panel) {
  const { left, top, width, height } = u.bbox;
  for (const { value, label } of panel.limits) {
    const y = u.valToPos(converted(value, panel.unit) ?? value, "y", true);
    if (y < top || y > top + height) continue;
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = color("--alarm");
    ctx.lineWidth = uPlot.pxRatio;
    ctx.setLineDash([6, 4]);
    ctx.beginPath();
    ctx.moveTo(left, y);
    ctx.lineTo(left + width, y);
    ctx.stroke();
    ctx.font = `${11 * uPlot.pxRatio}px system-ui, sans-serif`;
    ctx.textAlign = "right";
    // A halo keeps the words apart from lines that cross them.
    const at = /** @type {const} */ ([left + width - 4, y > top + 20 * uPlot.pxRatio ? y - 4 : y + 13 * uPlot.pxRatio]);
    ctx.setLineDash([]);
    ctx.strokeStyle = color("--card");
    ctx.lineWidth = 4 * uPlot.pxRatio;
    ctx.strokeText(label, ...at);
    ctx.fillText(label, ...at);
    ctx.restore();
  }
}

/**
 * Marks flagged readings: at their value, or at the edge where that is out of the picture.
 * @param {uPlot} u
 * @param {Panel} panel
 */
function drawFlags(u, panel) {
  const { left, top, width, height } = u.bbox;
  const size = 4 * uPlot.pxRatio;
  for (const { at_ms, value } of panel.flags) {
    const x = u.valToPos(at_ms / 1000, "x", true);
    if (x < left || x > left + width) continue;
    const at = value == null ? top + height : u.valToPos(converted(value, panel.unit) ?? value, "y", true);
    const y = Math.min(Math.max(at, top + size), top + height - size);
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = color("--alarm");
    ctx.lineWidth = 1.5 * uPlot.pxRatio;
    ctx.beginPath();
    ctx.moveTo(x - size, y - size);
    ctx.lineTo(x + size, y + size);
    ctx.moveTo(x + size, y - size);
    ctx.lineTo(x - size, y + size);
    ctx.stroke();
    ctx.restore();
  }
}

/**
 * Writes the values under the cursor, or the newest ones, above the chart.
 * @param {uPlot} u
 * @param {Panel} panel
 * @param {HTMLElement} legend
 */
function showValues(u, panel, legend) {
  const index = u.cursor.idx;
  const isAway = index == null || u.cursor.left < 0;
  const place = isAway ? lastIndex(panel) : index;
  const seconds = u.data[0][place];
  if (seconds == null) {
    setText(legend, t("chart.no_values"));
    return;
  }
  const isForecast = place >= panel.times.length;
  const parts = [h("time", null, isAway ? nearTime(seconds * 1000) : dateTime(seconds * 1000))];
  for (const line of isForecast ? [] : panel.lines) {
    const value = line.values[place];
    parts.push(h("span", { class: "chart-value" },
      h("i", { class: "swatch", style: { background: `var(${line.color})` } }),
      panel.lines.length > 1 ? `${line.name} ` : "",
      h("b", null, value == null ? t("chart.gap") : quantity(value, panel.unit))));
  }
  const before = isAway || isForecast ? undefined : panel.earlier.find(({ at_ms }) => nearestIndex(panel, at_ms) === place);
  if (before) {
    parts.push(h("span", { class: "chart-value" }, `${t("chart.earlier")} `, h("b", null, quantity(before.value, panel.unit))));
  }
  if (isForecast) {
    const { value, low, high } = panel.forecast[place - panel.times.length];
    const range = low == null || high == null ? "" :
      ` (${quantity(low, panel.unit)} – ${quantity(high, panel.unit)})`;
    parts.push(h("span", { class: "chart-value" }, `${t("chart.forecast")} `, h("b", null, quantity(value, panel.unit)), range));
  }
  const flag = isAway ? undefined : panel.flags.find(({ at_ms }) => Math.abs(u.valToPos(at_ms / 1000, "x") - u.cursor.left) < 6);
  if (flag) {
    parts.push(h("span", { class: "chart-flag" },
      `✕ ${quantity(flag.value, panel.unit)}: ${named("quality", flag.quality)}`));
  }
  legend.replaceChildren(...parts);
}

/** @param {Panel} panel */
function lastIndex(panel) {
  for (let i = panel.times.length - 1; i >= 0; i -= 1) {
    if (panel.lines.some((line) => line.values[i] != null)) return i;
  }
  return -1;
}

/**
 * The chart in words, for who does not see it.
 * @param {Panel} panel
 */
function describe(panel) {
  const lines = panel.lines.map((line) => {
    const known = /** @type {number[]} */ (line.values.filter((value) => value != null));
    if (!known.length) return `${line.name}: ${t("chart.no_values")}`;
    const low = known.reduce((a, b) => Math.min(a, b));
    const high = known.reduce((a, b) => Math.max(a, b));
    return t("chart.summary", {
      name: line.name, low: quantity(low, panel.unit), high: quantity(high, panel.unit),
      last: quantity(known[known.length - 1], panel.unit),
    });
  });
  return `${panel.title}, ${dateTime(panel.fromMs)} – ${dateTime(panel.toMs)}. ${lines.join(". ")}`;
}

/** The unit of a chart's title, where it has one. @param {string} unit */
export const titleUnit = (unit) => {
  const shown = shownUnit(unit);
  return shown ? ` (${shown})` : "";
};
