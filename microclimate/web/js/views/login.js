// The way in where a token is set.

import { ApiError, session, signIn } from "../api.js";
import { fill, h, setText } from "../dom.js";
import { t } from "../i18n.js";

/** @param {HTMLElement} root */
export function show(root) {
  const problem = h("p", { class: "error-text", role: "alert", id: "login-problem" });
  const token = h("input", {
    type: "password", name: "token", autocomplete: "current-password", required: true, id: "login-token",
    "aria-describedby": "login-problem login-hint",
  });
  const button = h("button", { class: "button primary", type: "submit" }, t("login.button"));
  const form = h("form", { onsubmit: enter },
    h("label", { class: "field", for: "login-token" }, t("login.token"), token), problem, button,
    h("p", { class: "note", id: "login-hint" }, t("login.hint")));
  fill(root, h("section", { class: "card login" }, h("h1", null, t("login.title")), h("p", null, t("login.more")), form));
  token.focus();

  /** @param {Event} event */
  async function enter(event) {
    event.preventDefault();
    button.disabled = true;
    setText(problem, "");
    try {
      await signIn(token.value.trim());
      session.dispatchEvent(new Event("signed-in"));
    } catch (error) {
      setText(problem, textOf(error));
      token.select();
    } finally {
      button.disabled = false;
    }
  }
}

/** @param {unknown} error */
function textOf(error) {
  if (error instanceof ApiError) {
    if (error.status === 401) return t("login.wrong");
    if (error.status === 429) return t("login.wait");
    if (error.isOffline) return t("error.offline_more");
  }
  return error instanceof Error ? error.message : String(error);
}
