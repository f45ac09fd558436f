// How is it said that something went wrong, or cannot be done here?

import { element } from "./dom.js";
import { Refusal } from "./api.js";

/** @type {Record<number, string>} */
const HEADINGS = {
  0: "The server cannot be reached",
  401: "A token is needed",
  403: "This token does not allow that",
  404: "There is no such document",
  413: "That is too long",
  422: "That cannot be read",
  429: "Too many requests",
  500: "The server failed",
  503: "The server is busy",
};

/**
 * What was refused, and a button that tries it again.
 * @param {unknown} error
 * @param {() => void} [retry]
 */
export function problem(error, retry) {
  const status = error instanceof Refusal ? error.status : -1;
  const heading = HEADINGS[status] ?? (error instanceof Refusal && error.title ? error.title : "Something went wrong");
  const wait = error instanceof Refusal ? error.retryAfter : null;
  const said = error instanceof Error ? error.message : String(error);
  return element(
    "div",
    { class: "notice problem", role: "alert" },
    element("h2", {}, heading),
    element("p", {}, said),
    wait != null && element("p", {}, wait === 1 ? "Try again in a second." : `Try again in ${wait} seconds.`),
    retry && element("button", { type: "button", onclick: retry }, "Try again"),
  );
}

/**
 * Why a view is empty: this run cannot do what it shows.
 * @param {string} heading
 * @param {string} why
 * @param {string} command that would change it
 */
export function unavailable(heading, why, command) {
  return element(
    "div",
    { class: "notice" },
    element("h2", {}, heading),
    element("p", {}, why),
    element("p", {}, "The operator can change that with ", element("code", {}, command), "."),
  );
}
