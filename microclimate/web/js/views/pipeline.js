// The readings' way from message to store: rates, lag, what was set aside, what is kept.

import { fetchCounts, fetchDeadLetters, fetchLedger, fetchMetrics, fetchReadiness, reinjectDeadLetters } from "../api.js";
import { ChartGroup } from "../chart.js";
import { fill, h, setText } from "../dom.js";
import { byteSize, dateTime, number, percent } from "../format.js";
import { named, t } from "../i18n.js";
import { errorPanel, facts, loadingPanel, stateLabel, table } from "../parts.js";

const POLL_MS = 5000;
/** Samples of the rate chart: ten minutes. */
const SAMPLES_MAX = 120;
/** Log records behind which the store is said to lag. */
const LAG_RECORDS = 10_000;

/** @typedef {{ ms: number, received: number, stored: number }} Sample */

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").ViewContext} context
 */
export async function show(root, { signal }) {
  const status = h("span", { role: "status" });
  const flow = h("ol", { class: "flow" });
  const rates = h("div", { class: "charts" });
  const balance = h("section", { class: "card" });
  const storage = h("section", { class: "card" });
  const letters = h("section", { class: "card" });
  const body = h("div", { style: { display: "grid", gap: "1.25rem" } }, loadingPanel());
  fill(root, h("div", { class: "page-head" }, h("h1", null, t("nav.pipeline")), status), body);
  const group = new ChartGroup(rates, () => {});
  signal.addEventListener("abort", () => group.destroy());
  /** @type {Sample[]} */
  const samples = [];
  let isShown = false;

  async function poll() {
    if (document.hidden && isShown) return;
    try {
      const [ledger, counts, metrics, problem] = await Promise.all([
        fetchLedger(signal), fetchCounts(signal), fetchMetrics(signal), fetchReadiness()]);
      if (signal.aborted) return;
      samples.push({ ms: Date.now(), received: ledger.totals.received, stored: counts.readings });
      if (samples.length > SAMPLES_MAX) samples.shift();
      if (!isShown) {
        fill(body, h("section", { class: "card" }, flow, rates), h("div", { class: "columns" }, balance, storage), letters);
        isShown = true;
        void showDeadLetters();
      }
      draw(ledger, counts, metrics, problem);
    } catch (error) {
      if (!signal.aborted && !isShown) fill(body, errorPanel(error, () => void poll()));
    }
  }

  /**
   * @param {any} ledger
   * @param {any} counts
   * @param {Map<string, number>} metrics
   * @param {string} problem
   */
  function draw(ledger, counts, metrics, problem) {
    const store = (/** @type {string} */ name) => metrics.get(`microclimate_feature_store_${name}`);
    const lag = store("log_lag_records") ?? null;
    fill(status, problem ? stateLabel("alarm", t("pipeline.not_ready", { why: problem }))
      : lag != null && lag > LAG_RECORDS ? stateLabel("warning", t("pipeline.lagging", { n: number(lag) }))
        : stateLabel("ok", t("pipeline.ready")));
    const rate = rateOf(samples);
    const step = (/** @type {string} */ name, /** @type {string} */ value, /** @type {string} */ more) =>
      h("li", null, h("span", null, name), h("b", null, value), h("span", null, more));
    fill(flow,
      step(t("pipeline.devices"), number(ledger.devices.length, 0), t("pipeline.connections", { n: metrics.get("microclimate_gateway_connections") ?? 0 })),
      step(t("pipeline.received"), number(ledger.totals.received, 0), rate ? t("pipeline.rate", { n: number(rate.received) }) : t("pipeline.measuring")),
      step(t("pipeline.stored"), number(counts.readings, 0), lag == null ? "" : lag === 0 ? t("pipeline.no_lag") : t("pipeline.lag", { n: number(lag, 0) })),
      step(t("pipeline.features"), number(counts.rows, 0), t("pipeline.columns", { n: counts.columns })),
      step(t("pipeline.predictions"), number(sumOf(metrics, "microclimate_trainer_predictions_total{"), 0), t("pipeline.since_start")));
    drawRates();
    drawBalance(ledger, metrics);
    drawStorage(ledger);
  }

  function drawRates() {
    if (samples.length < 3 || rates.matches(":hover")) return;
    const points = samples.slice(1).map((own, i) => ({ ms: own.ms, received: perSecond(samples[i], own, "received"), stored: perSecond(samples[i], own, "stored") }));
    void group.show([{
      title: t("pipeline.rates"), unit: "", times: points.map(({ ms }) => ms), flags: [], limits: [], forecast: [], earlier: [], unusualSinceMs: null,
      fromMs: points[0].ms, toMs: points[points.length - 1].ms,
      lines: [
        { name: t("pipeline.received"), color: "--chart-1", values: points.map(({ received }) => received) },
        { name: t("pipeline.stored"), color: "--chart-2", values: points.map(({ stored }) => stored) },
      ],
    }]);
  }

  /**
   * @param {any} ledger
   * @param {Map<string, number>} metrics
   */
  function drawBalance(ledger, metrics) {
    const { totals } = ledger;
    const isEven = totals.unaccounted === 0;
    const quantile = acknowledgementP99(metrics);
    fill(balance, h("header", null, h("h2", null, t("pipeline.balance")), stateLabel(isEven ? "ok" : "alarm", isEven ? t("pipeline.nothing_lost") : t("pipeline.unaccounted", { n: number(totals.unaccounted, 0) }))),
      h("p", { class: "note" }, t("pipeline.balance_more", { time: dateTime(ledger.since_ms) })),
      facts([
        [t("pipeline.received"), number(totals.received, 0)], [t("pipeline.logged"), number(totals.logged, 0)],
        [t("pipeline.dead_lettered"), number(totals.dead_lettered, 0)], [t("pipeline.duplicates"), number(totals.duplicates, 0)],
        [t("pipeline.dropped"), number(totals.dropped, 0)], [t("pipeline.in_flight"), number(totals.in_flight, 0)],
        quantile != null && [t("pipeline.acknowledged_in"), t("pipeline.milliseconds", { n: number(quantile * 1000, 0) }), t("pipeline.p99")],
        ledger.lost_sessions > 0 && [t("pipeline.lost_sessions"), number(ledger.lost_sessions, 0)],
      ]));
  }

  /** @param {any} ledger */
  function drawStorage(ledger) {
    if (storage.contains(document.activeElement)) return;
    const topics = Object.entries(ledger.topics ?? {});
    const spools = Object.entries(ledger.spools ?? {});
    fill(storage, h("h2", null, t("pipeline.storage")),
      topics.length > 0 && table(t("pipeline.storage"), [t("pipeline.topic"), { text: t("pipeline.size"), isNumber: true }, { text: t("pipeline.of_limit"), isNumber: true }, { text: t("pipeline.retention"), isNumber: true }],
        topics.map(([name, own]) => h("tr", null, h("th", { scope: "row" }, name, own.is_full && stateLabel("alarm", t("pipeline.full"))),
          h("td", { class: "number" }, byteSize(own.bytes)),
          h("td", { class: "number" }, own.retention?.bytes_max ? percent(own.bytes / own.retention.bytes_max) : "–"),
          h("td", { class: "number" }, number(own.retention?.age_days, 0))))),
      spools.length > 0 && table(t("pipeline.spool"), [t("pipeline.topic"), { text: t("pipeline.records"), isNumber: true }, { text: t("pipeline.size"), isNumber: true }, t("pipeline.state")],
        spools.map(([name, own]) => h("tr", null, h("th", { scope: "row" }, name), h("td", { class: "number" }, number(own.records, 0)), h("td", { class: "number" }, byteSize(own.bytes ?? 0)),
          h("td", null, own.is_full ? stateLabel("alarm", t("pipeline.full")) : own.records > 0 ? stateLabel("warning", t("pipeline.spooling")) : stateLabel("ok", t("pipeline.spool_empty")))))));
  }

  async function showDeadLetters() {
    fill(letters, h("h2", null, t("letters.title")), loadingPanel());
    try {
      const { dead_letters, by_reason, repeated } = await fetchDeadLetters(signal);
      const reasons = Object.entries(by_reason);
      const outcome = h("p", { role: "status", class: "note" });
      fill(letters, h("h2", null, t("letters.title")), h("p", { class: "note" }, t("letters.more")),
        reasons.length === 0 && h("p", null, stateLabel("ok", t("letters.none"))),
        reasons.length > 0 && h("ul", { class: "reasons" }, reasons.map(([reason, n]) => h("li", null,
          h("b", null, number(n, 0)), h("span", null, named("letter", reason),
            repeated[reason] > 0 && h("small", { class: "note" }, ` ${t("letters.repeated", { n: number(repeated[reason], 0) })}`)),
          h("button", { class: "button", type: "button", onclick: (/** @type {Event} */ event) => void tryAgain(reason, outcome, /** @type {HTMLButtonElement} */ (event.currentTarget)) }, t("letters.again"))))), outcome,
        dead_letters.length > 0 && table(t("letters.newest"), [t("letters.time"), t("letters.reason"), t("letters.topic"), t("letters.message")],
          dead_letters.slice(0, 20).map((/** @type {any} */ own) => h("tr", null, h("td", null, dateTime(own.received_ms)),
            h("td", null, named("letter", own.reason), h("small", null, own.detail)), h("td", null, own.topic),
            h("td", null, h("code", null, own.payload.slice(0, 120)), own.payload_bytes > 120 && h("small", null, byteSize(own.payload_bytes)))))));
    } catch (error) {
      if (!signal.aborted) fill(letters, h("h2", null, t("letters.title")), errorPanel(error, () => void showDeadLetters()));
    }
  }

  /**
   * Says first what would come of it; the second press does it.
   * @param {string} reason
   * @param {HTMLElement} outcome
   * @param {HTMLButtonElement} button
   */
  async function tryAgain(reason, outcome, button) {
    const isSure = button.dataset.sure === "yes";
    button.disabled = true;
    try {
      const result = await reinjectDeadLetters({ reason, dry_run: !isSure });
      if (isSure) {
        setText(outcome, t("letters.done", { n: number(result.reinjected, 0), still: number(result.selected - result.reinjected, 0) }));
        delete button.dataset.sure;
        setText(button, t("letters.again"));
      } else {
        const good = result.selected - Object.values(result.still_dead).reduce((sum, n) => sum + n, 0);
        setText(outcome, t("letters.would", { n: number(good, 0), selected: number(result.selected, 0) }));
        if (good > 0) {
          button.dataset.sure = "yes";
          setText(button, t("letters.sure"));
        }
      }
    } catch (error) {
      setText(outcome, error instanceof Error ? error.message : String(error));
    } finally {
      button.disabled = false;
    }
  }

  await poll();
  const polling = setInterval(() => void poll(), POLL_MS);
  signal.addEventListener("abort", () => clearInterval(polling));
}

/**
 * @param {Sample} a
 * @param {Sample} b
 * @param {"received" | "stored"} key
 */
const perSecond = (a, b, key) => Math.max(0, (b[key] - a[key]) / ((b.ms - a.ms) / 1000));

/** @param {Sample[]} samples */
function rateOf(samples) {
  if (samples.length < 2) return null;
  const first = samples[Math.max(0, samples.length - 13)];
  const last = samples[samples.length - 1];
  return { received: perSecond(first, last, "received"), stored: perSecond(first, last, "stored") };
}

/**
 * @param {Map<string, number>} metrics
 * @param {string} prefix
 */
function sumOf(metrics, prefix) {
  let sum = 0;
  for (const [name, value] of metrics) if (name.startsWith(prefix)) sum += value;
  return sum;
}

/**
 * The bound of the histogram's bucket that 99 % of acknowledgements lie below, seconds.
 * @param {Map<string, number>} metrics
 */
function acknowledgementP99(metrics) {
  const all = metrics.get("microclimate_gateway_acknowledgement_seconds_count");
  if (!all) return null;
  for (const [name, value] of metrics) {
    const bound = name.match(/^microclimate_gateway_acknowledgement_seconds_bucket\{le="([\d.]+)"\}$/);
    if (bound && value >= 0.99 * all) return Number(bound[1]);
  }
  return null;
}
