// Words in the reader's language. Each language is a module of its own, loaded when it is needed.

import { english } from "./lang/en.js";
import { preferences } from "./preferences.js";

/** @typedef {import("./lang/en.js").Messages} Messages */
/** @typedef {keyof Messages} MessageKey */

export const LANGUAGES = /** @type {const} */ ({ en: "English", fr: "Français", de: "Deutsch" });

/** @type {Messages} */
let messages = english;
let language = "en";
let plurals = new Intl.PluralRules("en");

/** The language of the words that are shown. */
export const currentLanguage = () => language;

/** Loads the reader's language: the chosen one, or the first of the browser's that exists. */
export async function loadLanguage() {
  const wanted = [preferences.language, ...navigator.languages.map((tag) => tag.slice(0, 2))];
  const found = wanted.find((tag) => tag in LANGUAGES) ?? "en";
  if (found === "fr") messages = (await import("./lang/fr.js")).french;
  else if (found === "de") messages = (await import("./lang/de.js")).german;
  else messages = english;
  language = found;
  plurals = new Intl.PluralRules(found);
  document.documentElement.lang = found;
}

/**
 * The message of a key, with `{name}` replaced by what is given. A message may have a form for
 * `one` and one for `other`, chosen by `n`.
 * @param {MessageKey} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const message = /** @type {string | { one: string, other: string }} */ (messages[key]);
  const text =
    typeof message === "string"
      ? message
      : plurals.select(Number(values.n)) === "one" ? message.one : message.other;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * The message of a key that is made at run time, or what it is made from where there is none, as
 * for a metric of the site's own.
 * @param {string} prefix
 * @param {string} name
 * @returns {string}
 */
export function named(prefix, name) {
  const key = `${prefix}.${name}`;
  if (key in messages) return t(/** @type {MessageKey} */ (key));
  return name.replaceAll("_", " ").replaceAll("-", " ");
}
