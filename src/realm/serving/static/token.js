// Which token lets this reader in, and how is it asked for?
//
// Kept for as long as the tab is open, and apart for reading and for editing: a server may give
// out one without the other.

import { element, newId } from "./dom.js";

/** @typedef {"read" | "edit"} Purpose */

/** @type {Promise<boolean> | null} */
let asking = null;

/**
 * @param {Purpose} purpose
 * @returns {string | null}
 */
export function tokenFor(purpose) {
  const other = purpose === "read" ? "edit" : "read";
  return sessionStorage.getItem(`realm-${purpose}`) ?? sessionStorage.getItem(`realm-${other}`);
}

/**
 * Ask for a token; all who ask meanwhile share the answer.
 * @param {Purpose} purpose
 * @param {string} reason what the server said
 * @returns {Promise<boolean>} whether one was given
 */
export function askForToken(purpose, reason) {
  asking ??= dialogue(purpose, reason).finally(() => (asking = null));
  return asking;
}

/**
 * @param {Purpose} purpose
 * @param {string} reason
 * @returns {Promise<boolean>}
 */
function dialogue(purpose, reason) {
  const [field, title, why] = [newId(), newId(), newId()];
  const input = element("input", {
    id: field, type: "password", autocomplete: "off", required: true, "aria-describedby": why,
    pattern: "\\s*[!-~]+\\s*", title: "letters, digits and signs without spaces",
  });
  const form = element(
    "form",
    { class: "stack" },
    element("h2", { id: title }, "A token is needed"),
    element("p", { id: why, class: "soft" }, reason),
    element("label", { for: field }, purpose === "edit" ? "Token for editing documents" : "Token"),
    input,
    element("p", { class: "soft small" }, "It is kept until this tab is closed."),
    element(
      "div",
      { class: "row" },
      element("button", { type: "submit", class: "main" }, "Continue"),
      element("button", { type: "button", onclick: () => box.close() }, "Cancel"),
    ),
  );
  const box = element("dialog", { "aria-labelledby": title }, form);
  return new Promise((settle) => {
    let isGiven = false;
    form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      sessionStorage.setItem(`realm-${purpose}`, input.value.trim());
      isGiven = true;
      box.close();
    });
    box.addEventListener("close", () => {
      box.remove();
      settle(isGiven);
    });
    document.body.append(box);
    box.showModal();
    input.focus();
  });
}
