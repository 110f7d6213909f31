// What the reader chose: language, colours, time zone, unit of temperature. Kept in this browser.

/**
 * @typedef {object} Preferences
 * @property {"en" | "fr" | "de" | ""} language empty: as the browser
 * @property {"light" | "dark" | ""} theme empty: as the system
 * @property {"local" | "site" | "utc"} clock
 * @property {"celsius" | "fahrenheit"} temperature
 */

const KEY = "microclimate.preferences";

/** @type {Preferences} */
const DEFAULTS = { language: "", theme: "", clock: "local", temperature: "celsius" };

/** @type {Preferences} */
export const preferences = { ...DEFAULTS, ...stored() };

function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {}; // No storage, or another program's text: defaults will do.
  }
}

/**
 * Keeps a choice.
 * @param {Partial<Preferences>} changes
 */
export function choose(changes) {
  Object.assign(preferences, changes);
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    // Without storage the choice holds until the page is closed.
  }
  applyTheme();
}

/** Shows the chosen colours; without a choice those of the system. */
export function applyTheme() {
  const root = document.documentElement;
  if (preferences.theme) root.dataset.theme = preferences.theme;
  else delete root.dataset.theme;
}
