// Alerts: what fires and what to do, what has passed, and the rules.

import { acknowledgeAlert, fetchAlertHistory, fetchAlertRules, fetchAlerts, unacknowledgeAlert } from "../api.js";
import { fill, h, setText } from "../dom.js";
import { duration, multiple, nearTime, number, quantity } from "../format.js";
import { named, t } from "../i18n.js";
import { live } from "../live.js";
import { emptyPanel, errorPanel, loadingPanel, severityLabel, stateLabel, table } from "../parts.js";

/** @typedef {import("../api.js").Alert} Alert */

const REFRESH_MS = 10_000;
const PAGE_ALERTS = 50;
/** From so many alerts of one rule in one site on, they are shown together. */
const GROUP_MIN = 4;

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").ViewContext} context
 */
export async function show(root, { signal, query }) {
  const summary = h("p", { role: "status" });
  const active = h("div", { style: { display: "grid", gap: "1.25rem" } }, loadingPanel());
  const history = h("section", { class: "card" });
  const rules = h("section", { class: "card" });
  const zone = query.get("zone") ?? "";
  const zoneNote = zone && h("p", null, h("span", null, zone, " "), h("a", { href: "#/alerts" }, t("alerts.all_zones")));
  fill(root, h("div", { class: "page-head" }, h("h1", null, t("nav.alerts")), summary), zoneNote, active, history, rules);
  let page = 0;
  let shown = "";

  async function loadActive() {
    try {
      const answer = await fetchAlerts({ zone, limit: 1000 }, signal);
      live.synchronise(answer.now_ms);
      const { firing, acknowledged, pending } = answer.counts;
      setText(summary, firing ? t("alerts.firing", { n: firing }) : acknowledged || pending ? t("alerts.none_firing") : "");
      // A button that somebody is about to press stays where it is.
      const key = JSON.stringify(answer.alerts.map(({ id, state, value, is_muted }) => [id, state, value, is_muted]));
      if (key === shown || (active.contains(document.activeElement) && shown)) return;
      shown = key;
      drawActive(answer.alerts, answer.refused);
    } catch (error) {
      if (!signal.aborted && !shown) fill(active, errorPanel(error, () => void loadActive()));
    }
  }

  /**
   * @param {Alert[]} alerts
   * @param {number} refused
   */
  function drawActive(alerts, refused) {
    if (!alerts.length) {
      fill(active, emptyPanel(t("alerts.empty"), h("p", null, t("alerts.empty_more"))));
      return;
    }
    /** @type {Map<string, Alert[]>} */
    const groups = new Map();
    for (const alert of alerts) {
      const key = [alert.state === "pending", alert.rule, alert.zone?.split("/")[0] ?? ""].join(" ");
      groups.set(key, [...(groups.get(key) ?? []), alert]);
    }
    fill(active, refused > 0 && h("p", { class: "banner" }, t("alerts.refused", { n: refused })),
      h("ul", { class: "alerts" }, [...groups.values()].flatMap((own) =>
        own.length < GROUP_MIN ? own.map(alertItem) : [h("li", null, h("details", { class: "card" },
          h("summary", null, severityLabel(own[0].severity), " ", t("alerts.group", { rule: ruleTitle(own[0]), n: own.length })),
          h("ul", { class: "alerts" }, own.map(alertItem))))])));
  }

  /** @param {Alert} alert */
  function alertItem(alert) {
    const now = live.nowMs();
    const problem = h("span", { role: "status", class: "error-text" });
    const { state, acknowledged } = alert;
    return h("li", { class: `alert card ${state === "firing" ? levelOf(alert) : ""}` },
      h("header", null, severityLabel(alert.severity), h("h2", null, ruleTitle(alert)),
        state !== "firing" && h("span", { class: "tag" }, t(state === "pending" ? "alerts.pending" : "alerts.acknowledged")),
        alert.is_muted && h("span", { class: "tag" }, t("alerts.muted"))),
      h("p", null, place(alert), ": ", foundText(alert)),
      h("p", { class: "note" }, t("alerts.since", { time: nearTime(alert.started_ms, now), ago: duration((now - alert.started_ms) / 1000) }),
        acknowledged && ` ${acknowledgedText(acknowledged, now)}`),
      state !== "pending" && h("div", { class: "tools" },
        h("button", {
          class: state === "firing" ? "button primary" : "button", type: "button",
          "aria-label": `${t(state === "firing" ? "alerts.acknowledge" : "alerts.unacknowledge")}: ${ruleTitle(alert)}, ${alert.zone ?? "Microclimate"}`,
          onclick: (/** @type {Event} */ event) => void acknowledge(alert, /** @type {HTMLButtonElement} */ (event.currentTarget), problem),
        }, t(state === "firing" ? "alerts.acknowledge" : "alerts.unacknowledge")), problem));
  }

  /**
   * @param {Alert} alert
   * @param {HTMLButtonElement} button
   * @param {HTMLElement} problem
   */
  async function acknowledge(alert, button, problem) {
    button.disabled = true;
    try {
      await (alert.state === "firing" ? acknowledgeAlert(alert.id) : unacknowledgeAlert(alert.id));
      button.blur();
      await loadActive();
    } catch (error) {
      button.disabled = false;
      setText(problem, error instanceof Error ? error.message : String(error));
    }
  }

  async function loadHistory() {
    try {
      const { alerts, has_more } = await fetchAlertHistory({ zone, page, limit: PAGE_ALERTS }, signal);
      if (signal.aborted) return;
      const now = live.nowMs();
      const turn = (/** @type {number} */ by) => () => { page += by; void loadHistory(); };
      fill(history, h("h2", null, t("alerts.history")), h("p", { class: "note" }, t("alerts.history_more")),
        alerts.length === 0 ? h("p", { class: "note" }, t("alerts.history_empty"))
          : table(t("alerts.history"), [t("alerts.rule"), t("alerts.place"), t("alerts.found"), t("alerts.began"), { text: t("alerts.lasted"), isNumber: true }, t("alerts.end")],
            alerts.map((alert) => h("tr", null, h("th", { scope: "row" }, severityLabel(alert.severity), " ", ruleTitle(alert)),
              h("td", null, place(alert)), h("td", null, foundText({ ...alert, value: alert.peak ?? alert.value })),
              h("td", null, nearTime(alert.started_ms, now)),
              h("td", { class: "number" }, duration(((alert.resolved_ms ?? alert.observed_ms) - alert.started_ms) / 1000)),
              h("td", null, named("alerts.outcome", alert.outcome ?? "cleared"), alert.acknowledged && h("small", null, acknowledgedText(alert.acknowledged, now)))))),
        (page > 0 || has_more) && h("nav", { class: "pager", "aria-label": t("alerts.history_pages") },
          h("button", { class: "button", type: "button", disabled: page === 0, onclick: turn(-1) }, t("overview.page_before")),
          h("button", { class: "button", type: "button", disabled: !has_more, onclick: turn(1) }, t("overview.page_next"))));
    } catch (error) {
      if (!signal.aborted) fill(history, h("h2", null, t("alerts.history")), errorPanel(error, () => void loadHistory()));
    }
  }

  async function loadRules() {
    try {
      const answer = await fetchAlertRules(signal);
      if (signal.aborted) return;
      const ordered = [...answer.rules].sort((a, b) => Number(b.is_enabled) - Number(a.is_enabled));
      fill(rules, h("h2", null, t("alerts.rules")), h("p", { class: "note" }, t("alerts.rules_more")),
        h("p", null, t("alerts.receivers", { names: answer.receivers.map((name) => named("alerts.receiver", name)).join(", ") || t("alerts.nobody") })),
        answer.mute.length > 0 && h("p", null, t("alerts.mute", { times: answer.mute.join("; ") })),
        table(t("alerts.rules"), [t("alerts.rule"), t("alerts.condition"), { text: t("alerts.for"), isNumber: true }, t("alerts.zones"), t("alerts.state")],
          ordered.map((rule) => h("tr", null,
            h("th", { scope: "row" }, severityLabel(rule.severity), " ", ruleTitle({ rule: rule.name, summary: rule.summary }), h("small", null, rule.name)),
            h("td", null, h("code", null, rule.condition), rule.mute.length > 0 && h("small", null, t("alerts.mute", { times: rule.mute.join("; ") }))),
            h("td", { class: "number" }, rule.for_s ? duration(rule.for_s) : t("alerts.at_once")),
            h("td", null, rule.zones.join(", ") || t("alerts.all")),
            h("td", null, !rule.is_enabled ? t("alerts.off") : rule.firing ? stateLabel("alarm", number(rule.firing)) : stateLabel("ok", t("alerts.on")))))));
    } catch (error) {
      if (!signal.aborted) fill(rules, h("h2", null, t("alerts.rules")), errorPanel(error, () => void loadRules()));
    }
  }

  live.addEventListener("alerts", () => { void loadActive(); void loadHistory(); }, { signal });
  live.addEventListener("recovered", () => void loadActive(), { signal });
  const refreshing = setInterval(() => { if (!document.hidden) void loadActive(); }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(refreshing));
  await Promise.all([loadActive(), loadHistory(), loadRules()]);
}

/** @param {Alert} alert */
const levelOf = ({ severity }) => (severity === "critical" ? "alarm" : severity === "warning" ? "warning" : "notice");

/** @param {Alert} alert */
const place = ({ zone }) => (zone ? h("a", { href: `#/zone/${encodeURI(zone)}` }, zone) : "Microclimate");

/**
 * The rule in the reader's words; one of the site's own in those of its author.
 * @param {{ rule: string, summary: string }} alert
 */
export function ruleTitle({ rule, summary }) {
  const text = named("alert.rule", rule);
  const isKnown = text !== rule.replaceAll("_", " ");
  return isKnown ? text : summary || text;
}

/**
 * What was found, in a sentence.
 * @param {Alert} alert
 */
export function foundText(alert) {
  const { kind, subject, unit, detail } = alert;
  const value = alert.value ?? 0;
  const [metric, fault] = detail.split(" ");
  const values = {
    metric: named("metric", subject), value: quantity(alert.value, unit), limit: quantity(alert.limit, unit),
    subject, n: number(value, 0), hours: number(value, 1), time: duration(value),
    fault: fault ? named("fault", fault) : t("fault.unknown"), times: multiple(value),
  };
  switch (kind) {
    case "threshold": return t("alert.found.threshold", values);
    case "battery": return t("alert.found.threshold", { ...values, metric: named("metric", "battery") });
    case "forecast": return unit === "h" ? t("alert.found.soil_forecast", values) : t("alert.found.forecast", { ...values, metric: named("task.short", subject) });
    case "silent_sensor": return t("alert.found.silent_sensor", values);
    case "silent_zone": return t("alert.found.silent_zone", values);
    case "anomaly": return t("alert.found.anomaly", { ...values, metric: metric ? named("metric", metric) : "" });
    case "clock_offset": return t("alert.found.clock_offset", values);
    case "pipeline_lag": return t("alert.found.pipeline_lag", values);
    case "spool": return t("alert.found.spool", values);
    case "disk": return t("alert.found.disk", values);
    default: return alert.message;
  }
}

/**
 * @param {{ at_ms: number, by: string, note: string }} acknowledged
 * @param {number} now
 */
function acknowledgedText({ at_ms, by, note }, now) {
  const time = nearTime(at_ms, now);
  return (by ? t("alerts.acknowledged_by", { by, time }) : t("alerts.acknowledged_at", { time })) + (note && ` ${note}`);
}
