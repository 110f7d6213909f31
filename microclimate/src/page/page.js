// The first page: zones with their latest values, a day's course of each, and
// what the champions predict. Rows come as server-sent events; predictions and
// the ledger are asked for every ten seconds.

const token = new URLSearchParams(location.search).get("token");
const get = async (path) => {
  const answer = await fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error?.message ?? answer.statusText);
  return body;
};

const h = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};

const digits = (value) => (Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
const number = (value) => (value == null ? "–" : value.toLocaleString(undefined, { maximumFractionDigits: digits(value) }));
const ago = (seconds) =>
  seconds < 90 ? `${Math.max(0, Math.round(seconds))} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` :
  seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
const words = (name) => name.replaceAll("_", " ").replaceAll("-", " ");

const state = document.querySelector("#state");
const say = (text, lost = false) => {
  state.textContent = text;
  state.classList.toggle("lost", lost);
};

const cards = new Map(); // zone → { readings, predictions, age, at }

function card(zone) {
  if (!cards.has(zone)) {
    const readings = h("tbody"), predictions = h("tbody"), age = h("span", { className: "age" });
    const article = h("article", {}, h("header", {}, h("h2", {}, zone), age),
      h("table", {}, readings), h("h3", {}, "Predictions"), h("table", {}, predictions));
    document.querySelector("#zones").append(article);
    cards.set(zone, { readings, predictions, age, rows: new Map() });
  }
  return cards.get(zone);
}

function spark(values) {
  const known = values.filter((v) => v != null);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  if (known.length > 1) {
    const low = Math.min(...known), span = Math.max(...known) - low || 1;
    const points = values.map((v, i) => v == null ? null : `${(i / (values.length - 1)) * 100},${95 - ((v - low) / span) * 90}`);
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points.filter(Boolean).join(" "));
    svg.append(line);
  }
  return svg;
}

function showLatest(zone, metrics, row) {
  const place = card(zone);
  place.at = row.at_ms;
  for (const { metric, unit } of metrics) {
    const value = row.features[`${metric}_last`];
    if (!place.rows.has(metric)) {
      const cell = h("td", { className: "value" }), line = h("td", { className: "spark" });
      place.readings.append(h("tr", {}, h("td", {}, words(metric)), line, cell));
      place.rows.set(metric, { cell, line, unit });
    }
    place.rows.get(metric).cell.replaceChildren(number(value), h("span", { className: "unit" }, ` ${unit}`));
  }
  showAge(place);
}

function showAge(place) {
  const seconds = (Date.now() - place.at) / 1000;
  place.age.textContent = `${ago(seconds)} ago`;
  place.age.classList.toggle("stale", seconds > 600);
}

async function showDay(zone, metrics) {
  const place = card(zone);
  const names = metrics.map(({ metric }) => `${metric}_last`);
  const from = place.at - 86_400_000;
  const history = await get(`/v1/features/history?zone=${encodeURIComponent(zone)}&from=${from}&step_s=900&names=${names}&limit=100`);
  for (const { metric } of metrics) {
    place.rows.get(metric)?.line.replaceChildren(spark(history.rows.map((row) => row.features[`${metric}_last`])));
  }
}

const likely = (p) => (p.probabilities ? `${Math.round(100 * p.probabilities[p.class])} %` : "");

async function showPredictions(zone, tasks) {
  const answers = await Promise.allSettled(
    tasks.map(({ task }) => get(`/v1/predict/${task}?zone=${encodeURIComponent(zone)}`)));
  const rows = answers.filter((a) => a.status === "fulfilled").map(({ value: p }) =>
    h("tr", { title: `${p.model} v${p.version}` }, h("td", {}, words(p.task)),
      h("td", { className: "value" }, p.class ?? number(p.value), h("span", { className: "unit" }, ` ${p.class ? likely(p) : p.unit}`),
        p.interval ? h("div", { className: "interval" }, `${p.task === "anomaly" ? "usually " : ""}${number(p.interval[0])} to ${number(p.interval[1])}`) : "")));
  card(zone).predictions.replaceChildren(...(rows.length ? rows : [h("tr", {}, h("td", {}, "none yet"))]));
}

async function showLedger() {
  const { totals } = await get("/ledger");
  document.querySelector("#ledger").replaceChildren(
    ...["received", "logged", "dead_lettered", "duplicates", "unaccounted"].map((key) =>
      h("div", {}, h("dt", {}, words(key)), h("dd", {}, number(totals[key])))));
}

async function refresh() {
  const { zones } = await get("/v1/zones");
  if (!zones.length) return say("no readings yet: publish one to sensors/<site>/<zone>/<device>/<metric>");
  const tasks = await get("/v1/tasks").then((all) => all.tasks).catch(() => []);
  const latest = await get("/v1/features/latest");
  for (const row of latest.rows) {
    const metrics = zones.find(({ zone }) => zone === row.zone)?.metrics ?? [];
    showLatest(row.zone, metrics, row);
    await Promise.all([showDay(row.zone, metrics), showPredictions(row.zone, tasks)]);
  }
  await showLedger();
  say("live");
  return zones;
}

let metricsOf = new Map();
const learn = (zones) => { metricsOf = new Map((zones ?? []).map(({ zone, metrics }) => [zone, metrics])); };
const keepFresh = () => refresh().then(learn).catch((error) => say(error.message, true));

await keepFresh();
setInterval(keepFresh, 10_000);
setInterval(() => cards.forEach((place) => place.at && showAge(place)), 1000);

const events = new EventSource(token ? `/v1/events?token=${encodeURIComponent(token)}` : "/v1/events");
events.addEventListener("row", ({ data }) => {
  const row = JSON.parse(data);
  if (metricsOf.has(row.zone)) showLatest(row.zone, metricsOf.get(row.zone), row);
});
events.addEventListener("error", () => say("connection lost, trying again", true));
events.addEventListener("open", () => say("live"));
