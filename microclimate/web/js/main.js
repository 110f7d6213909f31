// The page's frame: which view is shown, what the page says of its connection, and the way in
// where a token is needed.

import { fetchSession, session, signOut } from "./api.js";
import { fill, h, setText } from "./dom.js";
import { duration, nearTime } from "./format.js";
import { loadLanguage, t } from "./i18n.js";
import { live } from "./live.js";
import { applyTheme } from "./preferences.js";

/**
 * @typedef {object} View
 * @property {(root: HTMLElement, context: ViewContext) => void | Promise<void>} show
 *
 * @typedef {object} ViewContext
 * @property {AbortSignal} signal aborted when the reader goes on to another view
 * @property {string} name what the address names: a zone, a task
 * @property {URLSearchParams} query
 * @property {(title: string) => void} setTitle
 */

const VIEWS = /** @type {const} */ (["overview", "alerts", "sensors", "models", "pipeline", "settings"]);

/** @type {AbortController | undefined} */
let leaving;
const main = /** @type {HTMLElement} */ (document.querySelector("#main"));
const top_ = /** @type {HTMLElement} */ (document.querySelector("#top"));
const linkState = h("p", { class: "link-state", role: "status", "aria-live": "polite" });
const alertBadge = h("span", { class: "badge", hidden: true });
const banner = h("p", { class: "banner lost", role: "status", hidden: true });
const signOutButton = h("button", { class: "button", type: "button", hidden: true, onclick: leave });
let isSignedOut = false;

/** The view and what it is about, as in `#/zone/farm/bay-1?range=24h`. */
function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/");
  return { view: view || "overview", name: decodeURIComponent(rest.join("/")), query: new URLSearchParams(query) };
}

/**
 * @param {string} view
 * @returns {Promise<View>}
 */
function loadView(view) {
  switch (view) {
    case "zone": return import("./views/zone.js");
    case "alerts": return import("./views/alerts.js");
    case "sensors": return import("./views/sensors.js");
    case "models": return import("./views/models.js");
    case "pipeline": return import("./views/pipeline.js");
    case "settings": return import("./views/settings.js");
    case "login": return import("./views/login.js");
    default: return import("./views/overview.js");
  }
}

async function showView() {
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const { view, name, query } = isSignedOut ? { view: "login", name: "", query: new URLSearchParams() } : readAddress();
  drawFrame(view);
  setTitle(view === "login" ? t("login.title") : name || titleOf(view));
  try {
    const { show } = await loadView(view);
    if (signal.aborted) return;
    const root = h("div", { class: "view", style: { display: "contents" } });
    fill(main, banner, root);
    await show(root, { signal, name, query, setTitle });
    if (!live.path && !isSignedOut && !signal.aborted) live.open("/v1/overview/events");
  } catch (error) {
    if (signal.aborted) return;
    const { errorPanel } = await import("./parts.js");
    fill(main, banner, h("h1", { class: "hidden" }, titleOf(view)), errorPanel(error, () => void showView()));
  }
}

/** @param {string} view */
function titleOf(view) {
  const known = VIEWS.find((own) => own === view);
  return t(known ? `nav.${known}` : "nav.overview");
}

/** @param {string} title */
function setTitle(title) {
  document.title = `${title} · Microclimate`;
}

/** @param {string} current */
function drawFrame(current) {
  const shown = current === "zone" ? "overview" : current;
  const links = VIEWS.map((view) =>
    h("li", null, h("a", { href: view === "overview" ? "#/" : `#/${view}`, "aria-current": view === shown && "page" }, t(`nav.${view}`), view === "alerts" && alertBadge)));
  fill(top_, h("div", { class: "bar" },
    h("a", { class: "brand", href: "#/" }, h("img", { src: "/icon.svg", alt: "" }), "Microclimate"),
    !isSignedOut && h("nav", { "aria-label": t("nav.label") }, h("ul", null, links)),
    linkState, signOutButton));
  setText(/** @type {Element} */ (document.querySelector("#skip")), t("nav.skip"));
  setText(signOutButton, t("action.sign_out"));
  showLink();
  showBadge();
}

/** Says how many alerts fire. */
function showBadge() {
  const { firing } = live;
  alertBadge.hidden = !firing;
  fill(alertBadge, h("span", { "aria-hidden": "true" }, firing > 99 ? "99+" : firing), h("span", { class: "hidden" }, t("alerts.firing", { n: firing })));
}

/** Says what the page's data is: live, of the past, or without a connection. */
function showLink() {
  const { link, newestMs } = live;
  const now = live.nowMs();
  const ageS = (now - newestMs) / 1000;
  const newest = newestMs ? nearTime(newestMs, now) : "";
  let [kind, text] = ["", ""];
  if (isSignedOut) text = "";
  else if (link === "connecting") text = t("link.connecting");
  else if (link === "lost") [kind, text] = ["lost", t(navigator.onLine ? "link.lost" : "link.offline")];
  else if (!newestMs) text = t("link.no_readings");
  else if (ageS > live.staleAfterS) [kind, text] = ["stale", t("link.stale", { ago: duration(ageS) })];
  else [kind, text] = ["live", t("link.live", { ago: duration(ageS) })];
  linkState.hidden = isSignedOut;
  linkState.className = `link-state ${kind}`;
  // Seconds go by without being read out each time.
  linkState.setAttribute("aria-live", kind === "live" ? "off" : "polite");
  setText(linkState, text);
  banner.hidden = link !== "lost" || isSignedOut;
  if (!banner.hidden) setText(banner, newest ? t("link.banner", { time: newest }) : t("link.banner_empty"));
}

async function leave() {
  await signOut();
  live.close();
  isSignedOut = true;
  signOutButton.hidden = true;
  await showView();
}

async function showSession() {
  try {
    const { is_required, is_signed_in } = await fetchSession();
    signOutButton.hidden = !(is_required && is_signed_in);
  } catch {
    signOutButton.hidden = true; // Without an answer there is nothing to sign out of.
  }
}

session.addEventListener("signed-out", () => {
  if (isSignedOut) return;
  isSignedOut = true;
  live.close();
  signOutButton.hidden = true;
  void showView();
});
session.addEventListener("signed-in", () => {
  isSignedOut = false;
  void showView().then(showSession);
});
addEventListener("hashchange", () => {
  void showView();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
addEventListener("microclimate:preferences", () => void loadLanguage().then(showView));
document.querySelector("#skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
live.addEventListener("link", showLink);
live.addEventListener("alerts", showBadge);
live.addEventListener("recovered", () => {
  // What could not be shown is tried again; a sign-in form is left alone.
  if (!isSignedOut && main.querySelector(".empty[role=alert]")) void showView();
});
setInterval(showLink, 1000);

applyTheme();
await loadLanguage();
await showView();
void showSession();
