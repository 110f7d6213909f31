// The reader's own choices, kept in this browser.

import { fill, h } from "../dom.js";
import { exactTime, quantity, timeZone } from "../format.js";
import { LANGUAGES, currentLanguage, t } from "../i18n.js";
import { live } from "../live.js";
import { choose, preferences } from "../preferences.js";

/** @param {HTMLElement} root */
export function show(root) {
  fill(root, h("h1", null, t("nav.settings")),
    h("section", { class: "card" }, h("p", { class: "note" }, t("settings.more")),
      h("div", { class: "columns" },
        field("language", t("settings.language"), { "": t("settings.as_browser"), ...LANGUAGES }),
        field("theme", t("settings.theme"), { "": t("settings.as_system"), light: t("settings.light"), dark: t("settings.dark") }),
        field("clock", t("settings.clock"), { local: t("settings.clock_local"), site: t("settings.clock_site"), utc: "UTC" }),
        field("temperature", t("settings.temperature"), { celsius: "°C", fahrenheit: "°F" })),
      h("p", null, t("settings.example", { time: exactTime(live.nowMs()), zone: timeZone(), temperature: quantity(21.5, "°C") }))),
    h("section", { class: "card" }, h("h2", null, t("settings.data")), h("ul", { class: "reasons" },
      [["/docs", t("settings.docs")], ["/openapi.json", "OpenAPI"], ["/metrics", "Prometheus"]].map(([href, text]) =>
        h("li", null, h("a", { href, hrefLang: "en" }, text))))));
}

/**
 * @param {"language" | "theme" | "clock" | "temperature"} key
 * @param {string} text
 * @param {Record<string, string>} options
 */
function field(key, text, options) {
  const select = h("select", {
    name: key,
    onchange: () => {
      choose({ [key]: select.value });
      dispatchEvent(new Event("microclimate:preferences"));
    },
  }, Object.entries(options).map(([value, name]) =>
    h("option", { value, lang: key === "language" && value ? value : currentLanguage() }, name)));
  select.value = preferences[key];
  return h("label", { class: "field" }, text, select);
}
