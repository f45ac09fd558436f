// How is a question put?

import { element, newId } from "./dom.js";

/** @typedef {{q: string, topK: number, minProbability: number}} Question */

const DEFAULTS = { topK: 5, minProbability: 0 };

/**
 * A box, a button and two options.
 * @param {{label: string, submit: string, onask: (question: Question) => void}} options
 */
export function createQuestionForm({ label, submit, onask }) {
  const [box, error, howMany, least] = [newId(), newId(), newId(), newId()];
  const input = element("input", {
    id: box, type: "text", name: "q", autocomplete: "off", enterkeyhint: "search", dir: "auto",
    "aria-describedby": error, "aria-keyshortcuts": "/",
  });
  const wrong = element("p", { id: error, class: "wrong", role: "alert" });
  const topK = element("input", { id: howMany, type: "number", min: 1, max: 20, required: true });
  const minimum = element("input", { id: least, type: "number", min: 0, max: 100, step: "any", required: true });
  const options = element(
    "details",
    { class: "options" },
    element("summary", {}, "Options"),
    element(
      "div",
      { class: "row" },
      element("label", { for: howMany }, "Answers to show"), topK,
      element("label", { for: least }, "Stay silent below (%)"), minimum,
    ),
  );
  const form = element(
    "form",
    { role: "search", class: "question", novalidate: true },
    element("label", { for: box }, label),
    element("div", { class: "box" }, input, element("button", { type: "submit", class: "main" }, submit)),
    wrong,
    options,
  );

  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const q = input.value.trim();
    if (!q) return refuse("Write a question first.");
    if (!topK.checkValidity()) return refuse("Answers to show: a number from 1 to 20.");
    if (!minimum.checkValidity()) return refuse("Stay silent below: a number from 0 to 100.");
    refuse("");
    onask({ q, topK: Number(topK.value), minProbability: Number(minimum.value) / 100 });
  });

  /** @param {string} message what is wrong with the question; nothing clears it */
  function refuse(message) {
    wrong.textContent = message;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    if (message) input.focus();
  }

  /** @param {Question} question */
  function fill({ q, topK: number, minProbability }) {
    refuse("");
    if (input.value.trim() !== q) input.value = q;
    topK.value = String(number);
    minimum.value = String(Math.round(minProbability * 1e4) / 100);
    options.open ||= number !== DEFAULTS.topK || minProbability !== DEFAULTS.minProbability;
  }

  return { element: form, input, fill, refuse };
}

/**
 * The question that an address asks.
 * @param {Record<string, string>} query
 * @returns {Question}
 */
export function questionOf(query) {
  const topK = Math.min(20, Math.max(1, Number.parseInt(query.answers, 10) || DEFAULTS.topK));
  const least = Number.parseFloat(query.least) || DEFAULTS.minProbability;
  return { q: (query.q ?? "").trim(), topK, minProbability: Math.min(1, Math.max(0, least)) };
}

/**
 * What an address says of a question; what is as usual is left out.
 * @param {Question} question
 */
export function queryOf({ q, topK, minProbability }) {
  return {
    q,
    answers: topK === DEFAULTS.topK ? "" : topK,
    least: minProbability === DEFAULTS.minProbability ? "" : minProbability,
  };
}

/**
 * Buttons that ask what others have asked.
 * @param {string[]} examples
 * @param {(example: string) => void} onchoose
 */
export function exampleButtons(examples, onchoose) {
  if (!examples.length) return null;
  const buttons = examples.map((example) =>
    element("li", {}, element("button", { type: "button", class: "example", dir: "auto", onclick: () => onchoose(example) }, example)),
  );
  return [element("h2", { class: "soft small" }, "For example"), element("ul", { class: "examples" }, buttons)];
}
