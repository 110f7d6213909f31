// What is predicted, by which model, how well: beside what one would do anyway, and as served.

import { fetchDecisions, fetchModels, fetchScores, fetchTasks, fetchVersions } from "../api.js";
import { fill, h } from "../dom.js";
import { byteSize, dateTime, number, percent, quantity } from "../format.js";
import { named, t } from "../i18n.js";
import { emptyPanel, facts, loadingPanel, showWhenLoaded, stateLabel, table } from "../parts.js";
import { inputName } from "./zone_cards.js";

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").ViewContext} context
 */
export async function show(root, { signal, name: task, setTitle }) {
  if (task) {
    setTitle(named("task", task));
    return showTask(root, task, signal);
  }
  const body = h("div", null, loadingPanel());
  fill(root, h("div", { class: "page-head" }, h("h1", null, t("nav.models")), h("p", null, t("models.more"))), body);
  await showWhenLoaded(body, signal, async () => {
    const [{ tasks }, { scores }] = await Promise.all([fetchTasks(signal), fetchScores(signal)]);
    if (!tasks.some(({ champion }) => champion)) {
      return emptyPanel(t("models.empty"), h("p", null, t("models.empty_more")), h("pre", { tabIndex: 0 }, `trainer compare --set source.url=${location.origin}`));
    }
    return h("section", { class: "card" }, tasksTable(tasks, scores));
  });
}

/**
 * @param {any[]} tasks
 * @param {any[]} scores
 */
function tasksTable(tasks, scores) {
  const heads = [t("models.predicts"), t("models.model"), { text: t("models.error"), isNumber: true }, t("models.skill"), t("models.served")];
  return table(t("nav.models"), heads, tasks.map(({ task, unit, champion, not_applicable }) => {
    const link = h("th", { scope: "row" }, champion ? h("a", { href: `#/models/${task}` }, named("task", task)) : named("task", task));
    if (!champion) return h("tr", null, link, h("td", { colSpan: 4, class: "note" }, not_applicable ? t("models.not_applicable", { why: not_applicable }) : t("models.none_yet")));
    const { metrics } = champion;
    const score = scores.find((own) => own.task === task && own.version === champion.version);
    return h("tr", null, link, h("td", null, champion.model, h("small", null, t("models.version", { n: champion.version }))),
      h("td", { class: "number" }, errorText(task, metrics, unit)), h("td", null, skillText(metrics)), h("td", null, servedText(score, unit)));
  }));
}

/**
 * @param {string} task
 * @param {Record<string, number>} metrics
 * @param {string} unit
 */
function errorText(task, metrics, unit) {
  if (task === "anomaly" && metrics.pr_auc != null) return h("span", null, number(metrics.pr_auc, 2), h("small", null, t("models.pr_auc")));
  if (metrics.rmse == null) return "–";
  const isShare = unit.startsWith("0 ") || unit === "probability";
  return isShare ? number(metrics.rmse, 3) : quantity(metrics.rmse, unit, { isDifference: true });
}

/** @param {Record<string, number>} metrics */
function skillText(metrics) {
  const skill = metrics.skill ?? (metrics.rmse != null && metrics.rmse_baseline ? 1 - metrics.rmse / metrics.rmse_baseline : null);
  if (skill == null) return "–";
  if (Math.abs(skill) < 0.005) return t("models.skill_same");
  return stateLabel(skill > 0 ? "ok" : "warning", t(skill > 0 ? "models.skill_better" : "models.skill_worse", { share: percent(Math.abs(skill)) }));
}

/**
 * @param {any} score
 * @param {string} unit
 */
function servedText(score, unit) {
  if (!score) return "–";
  if (!score.scored) return h("span", { class: "note" }, t("models.waiting", { n: score.waiting }));
  return h("span", null, `±${quantity(score.mae, unit, { isDifference: true })}`,
    h("small", null, t("models.served_more", { n: number(score.scored), coverage: percent(score.coverage), level: percent(score.level) })));
}

/**
 * @param {HTMLElement} root
 * @param {string} task
 * @param {AbortSignal} signal
 */
async function showTask(root, task, signal) {
  const body = h("div", { style: { display: "grid", gap: "1.25rem" } }, loadingPanel());
  fill(root, h("div", { class: "page-head" }, h("h1", null, h("a", { href: "#/models" }, t("nav.models")), " / ", named("task", task))), body);
  await showWhenLoaded(body, signal, async () => {
    const [{ models }, versions, { log }, { scores }] = await Promise.all([
      fetchModels(signal), fetchVersions(task, signal), fetchDecisions(task, signal), fetchScores(signal)]);
    const model = models.find((own) => own.task === task);
    const score = scores.find((own) => own.task === task);
    return [model && championCard(model, score), versionsCard(versions, model?.unit ?? ""), decisionsCard(log), model && inputsCard(model)];
  });
}

/**
 * @param {any} model
 * @param {any} score
 */
function championCard(model, score) {
  const range = model.metric_intervals?.rmse;
  return h("section", { class: "card" }, h("h2", null, t("models.champion", { model: model.model, n: model.version })),
    model.refused && h("p", { class: "error-text" }, t("models.refused", { why: model.refused })),
    h("p", null, skillText(model.metrics)),
    facts([
      [t("models.error"), errorText(model.task, model.metrics, model.unit), range ? t("models.range", { low: number(range[0]), high: number(range[1]) }) : ""],
      model.metrics.coverage != null && [t("models.coverage"), percent(model.metrics.coverage)],
      [t("models.served"), servedText(score, model.unit)],
      [t("models.trained_on"), number(model.rows), t("models.trained_span", { from: dateTime(model.trained_ms[0]), to: dateTime(model.trained_ms[1]) })],
      score?.outside_share != null && [t("models.outside"), percent(score.outside_share), t("models.outside_more")],
    ]));
}

/**
 * @param {any} listed
 * @param {string} unit
 */
function versionsCard(listed, unit) {
  const { aliases, versions } = listed;
  const role = (/** @type {number} */ version) =>
    aliases.champion?.version === version ? stateLabel("ok", t("models.is_champion"))
      : aliases.challenger?.version === version ? stateLabel("notice", t("models.is_challenger")) : "";
  return h("section", { class: "card" }, h("h2", null, t("models.versions")),
    versions.length === 0 ? h("p", { class: "note" }, t("models.none_yet")) : table(t("models.versions"), [t("models.version_head"), t("models.model"), { text: t("models.error"), isNumber: true }, t("models.gate"), { text: t("models.size"), isNumber: true }],
      [...versions].reverse().map((own) => own.refused
        ? h("tr", null, h("th", { scope: "row" }, own.version), h("td", { colSpan: 4, class: "error-text" }, own.refused))
        : h("tr", null, h("th", { scope: "row" }, own.version, " ", role(own.version)), h("td", null, own.model),
          h("td", { class: "number" }, errorText(listed.task, own.metrics, unit)),
          h("td", null, !own.verdict ? "–" : own.verdict.passed ? t("models.passed") : h("span", null, t("models.held"), h("small", null, (own.verdict.reasons ?? []).join("; ")))),
          h("td", { class: "number" }, byteSize(own.size_bytes))))));
}

/** @param {any[]} log */
function decisionsCard(log) {
  return h("section", { class: "card" }, h("h2", null, t("models.decisions")), log.length === 0 ? h("p", { class: "note" }, t("models.no_decisions"))
    : table(t("models.decisions"), [t("models.when"), t("models.what"), t("models.why"), t("models.who")], log.map((own) =>
      h("tr", null, h("td", null, dateTime(own.at_ms)), h("td", null, `${named("decision", own.what)} (${t("models.version", { n: own.version })})`),
        h("td", null, own.why), h("td", null, own.who)))));
}

/** @param {any} model */
function inputsCard(model) {
  return h("section", { class: "card" }, h("details", null, h("summary", null, t("models.inputs", { n: model.inputs.length })),
    table(t("models.inputs", { n: model.inputs.length }), [t("models.input"), { text: t("models.low"), isNumber: true }, { text: t("models.median"), isNumber: true }, { text: t("models.high"), isNumber: true }, { text: t("models.missing"), isNumber: true }],
      model.inputs.map((/** @type {any} */ own) => h("tr", null, h("th", { scope: "row" }, inputName(own.name), h("small", null, own.name)),
        ["low", "median", "high"].map((key) => h("td", { class: "number" }, own.range ? quantity(own.range[key], own.unit ?? "", { isDifference: own.name.includes(" - ") }) : "–")),
        h("td", { class: "number" }, own.range ? percent(own.range.missing) : "–"))))));
}
