// All zones, those that need attention first: state in words, newest values, what comes next.

import { fetchOverview } from "../api.js";
import { fill, h, setText } from "../dom.js";
import { duration, interval, number, quantity, setSiteZone } from "../format.js";
import { named, t } from "../i18n.js";
import { live } from "../live.js";
import { emptyPanel, errorPanel, loadingPanel, nextText, reasonText, stateLabel, trend } from "../parts.js";
import { ruleTitle } from "./alerts.js";

/**
 * @typedef {import("../api.js").ZoneState} ZoneState
 * @typedef {import("../api.js").Overview} Overview
 * @typedef {import("../api.js").Level} Level
 * @typedef {{ element: HTMLElement, state: ZoneState, update: (state: ZoneState) => void }} ZoneCard
 */

/** Zones of one request; with more there are pages. */
const PAGE_ZONES = 500;
/** From so many zones on, urgent ones are shown before their sites. */
const MANY_ZONES = 12;
/** @type {Level[]} */
const LEVELS = ["alarm", "stale", "warning", "notice", "ok"];
/** What a card shows first, where a zone has it. */
const SHOWN_METRICS = ["temperature", "humidity", "soil_moisture", "co2", "light"];
const SHOWN_MAX = 4;
/** What comes next, in the order of interest to who stands before the zone. */
const SHOWN_TASKS = ["watering", "heating-class", "temperature-10m", "watering-6h", "light-supplement"];
const TASKS_MAX = 2;
/** Alerts that say the same as a reason. */
const SAME_REASON = /** @type {Record<string, string>} */ ({
  soil_critical: "soil_critical", soil_critical_soon: "soil_critical_soon", sensor_silent: "metric_silent", zone_silent: "zone_silent",
  sensor_fault: "anomaly", sensor_spikes: "anomaly", too_cold: "too_cold", too_warm: "too_warm", stuffy_air: "co2_high",
});

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").ViewContext} context
 */
export async function show(root, { signal, query }) {
  const choice = {
    search: query.get("search") ?? "", states: query.get("states") ?? "",
    site: query.get("site") ?? "", sort: query.get("sort") ?? "attention", page: Number(query.get("page") ?? 0),
  };
  /** @type {Overview} */
  let overview;
  /** @type {Map<string, ZoneCard>} */
  const cards = new Map();
  const summary = h("p", { role: "status" });
  const filters = h("div", { class: "chips", role: "group", "aria-label": t("overview.filter") });
  const sites = h("div");
  const list = h("div", { style: { display: "grid", gap: "1.25rem" } }, loadingPanel());
  const pager = h("nav", { class: "pager", "aria-label": t("overview.pages"), hidden: true });
  const search = h("input", {
    type: "search", value: choice.search, placeholder: t("overview.search"), "aria-label": t("overview.search"),
    oninput: soon(() => change({ search: search.value, page: 0 })),
  });
  const sort = h("select", { "aria-label": t("overview.sort"), onchange: () => change({ sort: sort.value, page: 0 }) },
    h("option", { value: "attention" }, t("overview.sort_attention")), h("option", { value: "name" }, t("overview.sort_name")));
  sort.value = choice.sort;
  fill(root, h("div", { class: "page-head" }, h("h1", null, t("nav.overview")), summary),
    h("div", { class: "tools" }, search, sites, filters, h("span", { class: "grow" }), sort), list, pager);

  /** @param {Partial<typeof choice>} changes */
  function change(changes) {
    Object.assign(choice, changes);
    const kept = Object.entries(choice).filter(([key, value]) => value && !(key === "sort" && value === "attention"));
    const text = new URLSearchParams(kept.map(([key, value]) => [key, String(value)])).toString();
    history.replaceState(null, "", text ? `#/?${text}` : "#/");
    void load();
  }

  /** @type {AbortController | undefined} */
  let loading;
  async function load() {
    loading?.abort();
    loading = new AbortController();
    const own = AbortSignal.any([signal, loading.signal]);
    try {
      overview = await fetchOverview({ ...choice, limit: PAGE_ZONES }, own);
    } catch (error) {
      if (!own.aborted && (!cards.size || !isOffline(error))) fill(list, errorPanel(error, load));
      return;
    }
    setSiteZone(overview.time_zone);
    live.staleAfterS = overview.stale_after_s;
    live.synchronise(overview.now_ms);
    for (const { at_ms } of overview.zones) live.note(at_ms);
    draw();
    follow();
  }

  /** Follows the zones that are shown; those of other pages only as counts. */
  function follow() {
    const isWhole = overview.total <= PAGE_ZONES && !choice.search && !choice.states && !choice.site;
    const shown = overview.zones.map(({ zone }) => zone).join(",");
    const path = isWhole || shown.length > 6000 ? "/v1/overview/events" : `/v1/overview/events?zones=${encodeURIComponent(shown)}`;
    if (live.path !== path || live.link !== "open") live.open(path);
  }

  function draw() {
    drawSummary();
    drawSites();
    drawPager();
    cards.clear();
    if (!overview.zones.length) {
      const isFiltered = choice.search || choice.states || choice.site;
      fill(list, isFiltered ? nothingFound() : noZones());
      return;
    }
    drawZones();
  }

  function drawSummary() {
    const { counts } = overview;
    const zones = LEVELS.reduce((sum, level) => sum + counts[level], 0);
    const bad = counts.alarm + counts.warning + counts.stale;
    setText(summary, zones === 0 ? "" : bad ? t("overview.attention", { n: bad, zones: number(zones) }) : t("overview.all_well", { n: zones, zones: number(zones) }));
    const chosen = new Set(choice.states.split(",").filter(Boolean));
    const shown = LEVELS.filter((level) => counts[level] > 0 || chosen.has(level));
    fill(filters, shown.length < 2 && !chosen.size ? [] : shown.map((level) =>
      h("button", {
        type: "button", class: "chip", "aria-pressed": String(chosen.has(level)),
        onclick: () => {
          if (!chosen.delete(level)) chosen.add(level);
          change({ states: [...chosen].join(","), page: 0 });
        },
      }, h("span", { class: "count" }, number(counts[level])), t(`level.${level}`))));
  }

  function drawSites() {
    if (overview.sites.length < 2) return fill(sites);
    const select = h("select", { "aria-label": t("overview.site"), onchange: () => change({ site: select.value, page: 0 }) },
      h("option", { value: "" }, t("overview.all_sites")),
      overview.sites.map(({ site, zones }) => h("option", { value: site }, `${site} (${number(zones)})`)));
    select.value = choice.site;
    fill(sites, select);
  }

  function drawPager() {
    const pages = Math.ceil(overview.total / PAGE_ZONES);
    pager.hidden = pages < 2;
    if (pages < 2) return;
    const turn = (/** @type {number} */ page) => () => { change({ page }); scrollTo(0, 0); };
    fill(pager,
      h("button", { class: "button", type: "button", disabled: choice.page <= 0, onclick: turn(choice.page - 1) }, t("overview.page_before")),
      h("span", null, t("overview.page", { page: choice.page + 1, pages })),
      h("button", { class: "button", type: "button", disabled: choice.page + 1 >= pages, onclick: turn(choice.page + 1) }, t("overview.page_next")));
  }

  /**
   * Draws zones below their sites. Where there are many, those that need attention stand before
   * all others, whatever site they are of.
   */
  function drawZones() {
    const isUrgent = (/** @type {ZoneState} */ { state }) => state === "alarm" || state === "stale" || state === "warning";
    const urgent = choice.sort === "attention" && overview.zones.length > MANY_ZONES ? overview.zones.filter(isUrgent) : [];
    const apart = new Set(urgent);
    /** @type {Map<string, ZoneState[]>} */
    const bySite = new Map();
    for (const zone of overview.zones) {
      const site = zone.zone.split("/")[0];
      if (!apart.has(zone)) bySite.set(site, [...(bySite.get(site) ?? []), zone]);
    }
    fill(list, urgent.length > 0 && zonesSection(t("overview.urgent"), urgent, true),
      [...bySite].map(([site, zones]) => zonesSection(site, zones, false)));
  }

  /**
   * @param {string} title
   * @param {ZoneState[]} zones
   * @param {boolean} withSite whether cards name their sites
   */
  function zonesSection(title, zones, withSite) {
    const worst = LEVELS.find((level) => zones.some(({ state }) => state === level)) ?? "ok";
    return h("section", { class: "site", "aria-label": title },
      h("h2", null, title, h("small", null, t("overview.zones", { n: zones.length })), worst !== "ok" && stateLabel(worst)),
      h("ul", { class: "zones" }, zones.map((zone) => {
        const card = makeCard(zone, overview.units, withSite);
        cards.set(zone.zone, card);
        return card.element;
      })));
  }

  live.addEventListener("zones", (event) => {
    let isMoved = false;
    for (const state of /** @type {CustomEvent<ZoneState[]>} */ (event).detail) {
      const card = cards.get(state.zone);
      if (!card) {
        isMoved ||= Boolean(overview) && overview.total <= PAGE_ZONES && !choice.search && !choice.states && !choice.site;
        continue;
      }
      isMoved ||= card.state.state !== state.state;
      card.update(state);
    }
    // Cards change places only while nobody is about to press one.
    const isIdle = !list.matches(":hover") && !list.contains(document.activeElement);
    if (isMoved && isIdle && choice.sort === "attention") void load();
  }, { signal });
  live.addEventListener("counts", (event) => {
    if (!overview || choice.search || choice.site) return;
    overview.counts = /** @type {CustomEvent} */ (event).detail;
    drawSummary();
  }, { signal });
  live.addEventListener("recovered", () => void load(), { signal });
  const ticking = setInterval(() => cards.forEach((card) => card.update(card.state)), 10_000);
  signal.addEventListener("abort", () => clearInterval(ticking));
  await load();

  function nothingFound() {
    return emptyPanel(t("overview.nothing_found"), h("button", {
      class: "button", type: "button",
      onclick: () => { search.value = ""; change({ search: "", states: "", site: "", page: 0 }); },
    }, t("overview.show_all")));
  }
}

/** @param {unknown} error */
const isOffline = (error) => Boolean(/** @type {any} */ (error)?.isOffline);

/**
 * Calls after typing has paused.
 * @param {() => void} act
 */
function soon(act) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(act, 250);
  };
}

/** Before the first reading: how to send one. */
function noZones() {
  const host = location.hostname;
  return emptyPanel(t("overview.empty"), h("p", null, t("overview.empty_more")),
    h("pre", { tabIndex: 0 }, `mosquitto_pub -h ${host} -q 1 -t sensors/home/kitchen/probe-1/temperature -m 21.5`),
    h("p", { class: "note" }, t("overview.empty_topic")));
}

/**
 * A zone's card; it is made once and then only changed where something changed.
 * @param {ZoneState} first
 * @param {Record<string, string>} units
 * @param {boolean} withSite
 * @returns {ZoneCard}
 */
function makeCard(first, units, withSite) {
  const [site, ...rest] = first.zone.split("/");
  const name = withSite ? `${site} / ${rest.join("/")}` : rest.join("/");
  const label = h("span");
  const why = h("ul", { class: "why" });
  const alerts = h("p", { class: "zone-alerts" });
  const readings = h("dl", { class: "readings" });
  const next = h("p", { class: "next" });
  const age = h("p", { class: "age" });
  const element = h("li", null,
    h("div", { class: "zone-head" }, h("h3", null, h("a", { href: `#/zone/${encodeURI(first.zone)}` }, name)), label),
    why, alerts, readings, next, age);
  /** @type {ZoneCard} */
  const card = { element, state: first, update };
  let shown = "";

  /** @param {ZoneState} state */
  function update(state) {
    card.state = state;
    const now = live.nowMs();
    setText(age, state.at_ms == null ? "" : t("zone.age", { ago: duration((now - state.at_ms) / 1000) }));
    const key = JSON.stringify(state);
    if (key === shown) return;
    shown = key;
    element.className = `zone ${state.state}`;
    fill(label, stateLabel(state.state));
    fill(why, state.reasons.slice(0, 3).map((reason) => h("li", null, reasonText(reason, units, now))));
    why.hidden = !state.reasons.length;
    // Alerts whose condition is not among the reasons say themselves what they are about.
    const others = state.alerts.filter(({ rule }) => !state.reasons.some(({ kind }) => kind === SAME_REASON[rule]));
    fill(alerts, others.slice(0, 3).map((own) => h("span", null, h("b", null, t("alerts.one")), " ", ruleTitle({ rule: own.rule, summary: own.message }))));
    alerts.hidden = !others.length;
    fill(readings, shownMetrics(state).map((metric) => {
      const [value, , slope] = state.metrics[metric];
      const unit = units[metric] ?? "";
      return h("div", null, h("dt", null, named("metric", metric)), h("dd", null, quantity(value, unit), state.state !== "stale" && trend(slope, value, unit)));
    }));
    const coming = state.state === "stale" ? [] : shownTasks(state);
    fill(next, coming.flatMap((own, i) => [i > 0 && " · ", `${named("task.short", own.task)} `,
      h("b", { title: own.interval && !own.class ? interval(own.interval[0], own.interval[1], own.unit) : null }, nextText(own))]));
    next.hidden = !coming.length;
  }
  update(first);
  return card;
}

/** @param {ZoneState} state */
function shownMetrics(state) {
  const has = (/** @type {string} */ metric) => state.metrics[metric]?.[0] != null;
  const first = SHOWN_METRICS.filter(has);
  const others = Object.keys(state.metrics).filter((metric) => !SHOWN_METRICS.includes(metric) && has(metric));
  return [...first, ...others].slice(0, SHOWN_MAX);
}

/** @param {ZoneState} state */
function shownTasks(state) {
  const found = SHOWN_TASKS.map((task) => state.next.find((own) => own.task === task));
  // Lamps are of interest where something grows.
  const grows = state.metrics.soil_moisture !== undefined;
  return found.filter((own) => own !== undefined)
    .filter((own) => !own.fallback && own.class !== "hold" && (grows || own.task !== "light-supplement"))
    .slice(0, TASKS_MAX);
}
