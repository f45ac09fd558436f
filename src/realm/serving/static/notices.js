// How is it said that something went wrong, or cannot be done here?

import { element } from "./dom.js";
import { Refusal } from "./api.js";

/** @type {Record<number, string>} */
const HEADINGS = {
  0: "The server cannot be reached",
  401: "A token is needed",
  403: "This is not allowed",
  404: "There is no such document",
  413: "This is too long",
  500: "The server failed",
  503: "The server is busy",
  504: "This took too long",
};

/**
 * What was refused, and a button that tries it again.
 * @param {unknown} error
 * @param {() => void} retry
 */
export function problem(error, retry) {
  const { status, title, retryAfter } = error instanceof Refusal ? error : new Refusal(-1, {});
  const wait = retryAfter === 1 ? "Try again in a second." : `Try again in ${retryAfter} seconds.`;
  return element("div", { class: "notice problem", role: "alert" },
    element("h2", {}, HEADINGS[status] ?? (title || "Something went wrong")),
    element("p", { class: "said" }, messageOf(error)),
    retryAfter != null && element("p", {}, wait),
    element("button", { type: "button", onclick: retry }, "Try again"));
}

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Why a view is empty: this run cannot do what it shows.
 * @param {string} heading
 * @param {string} why
 * @param {string} command that would change it
 */
export function unavailable(heading, why, command) {
  return element("div", { class: "notice" },
    element("h2", {}, heading),
    element("p", {}, why),
    element("p", {}, "Whoever runs the server can change that with ", element("code", {}, command), "."));
}
