// Which token lets this reader in, and how is it asked for?

import { element, newId } from "./dom.js";

const KEY = "realm-token"; // kept for as long as the tab is open

/** @type {Promise<boolean> | null} */
let asking = null;

export function token() {
  return sessionStorage.getItem(KEY);
}

/**
 * Ask for a token; all who ask meanwhile share the answer.
 * @param {string} reason what the server said
 * @returns {Promise<boolean>} whether one was given
 */
export function askForToken(reason) {
  asking ??= dialogue(reason).finally(() => (asking = null));
  return asking;
}

/**
 * @param {string} reason
 * @returns {Promise<boolean>}
 */
function dialogue(reason) {
  const [field, title, why] = [newId(), newId(), newId()];
  const input = element("input", {
    id: field, type: "password", autocomplete: "off", required: true, "aria-describedby": why,
    pattern: "\\s*[!-~]+\\s*", title: "letters, digits and signs without spaces",
  });
  const form = element("form", { class: "stack" },
    element("h2", { id: title }, "A token is needed"),
    element("p", { id: why, class: "said" }, reason),
    element("div", {}, element("label", { for: field }, "Token"), input,
      element("p", { class: "soft small" }, "It is kept until this tab is closed.")),
    element("div", { class: "row" },
      element("button", { type: "submit", class: "main" }, "Continue"),
      element("button", { type: "button", onclick: () => box.close() }, "Cancel")));
  const box = element("dialog", { "aria-labelledby": title }, form);
  return new Promise((settle) => {
    let isGiven = false;
    form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, input.value.trim());
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
