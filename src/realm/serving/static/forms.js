// How is a question put, or a sentence with a gap?

import { element, newId } from "./dom.js";
import { address } from "./routes.js";

/** @typedef {{q: string, topK: number, minProbability: number}} Question */

export const GAP = "[MASK]";
const DEFAULTS = { topK: 5, minProbability: 0 };

/**
 * A box with a button, below it what is wrong with its words, and `more`.
 * @param {object} parts
 * @param {string} parts.label
 * @param {string} parts.button
 * @param {(words: string) => string | void} parts.onsubmit returns what is wrong, if anything is
 * @param {import("./dom.js").Child[]} [parts.more]
 */
export function createForm({ label, button, onsubmit, more = [] }) {
  const [box, error] = [newId(), newId()];
  const input = element("input", {
    id: box, type: "text", autocomplete: "off", enterkeyhint: "search", dir: "auto",
    "aria-describedby": error, "aria-keyshortcuts": "/",
  });
  const wrong = element("p", { id: error, class: "wrong said", role: "alert" });
  const form = element("form", { role: "search", class: "question", novalidate: true },
    element("label", { for: box }, label),
    element("div", { class: "box" }, input, element("button", { type: "submit", class: "main" }, button)),
    wrong, more);

  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    refuse(onsubmit(input.value.trim()) ?? "");
  });

  /** @param {string} message what is wrong; nothing clears it */
  function refuse(message) {
    wrong.textContent = message;
    if (message) {
      input.setAttribute("aria-invalid", "true");
      input.focus();
    } else input.removeAttribute("aria-invalid");
  }

  /** @param {string} words */
  function fill(words) {
    refuse("");
    if (input.value.trim() !== words) input.value = words;
    return words;
  }

  return { element: form, input, fill, refuse };
}

/**
 * A question and its two options.
 * @param {string} label
 * @param {string} button
 * @param {(question: Question) => void} onask
 */
export function createQuestionForm(label, button, onask) {
  const [howMany, least] = [newId(), newId()];
  const topK = element("input", { id: howMany, type: "number", min: 1, max: 20, required: true });
  const minimum = element("input", { id: least, type: "number", min: 0, max: 100, step: "any", required: true });
  const options = element("details", { class: "options" },
    element("summary", {}, "Options"),
    element("div", { class: "row" },
      element("label", { for: howMany }, "Answers to show"), topK,
      element("label", { for: least }, "Stay silent below (%)"), minimum));
  const form = createForm({ label, button, more: [options], onsubmit(q) {
    if (!q) return "Write a question first.";
    if (!topK.checkValidity()) return "Answers to show: give a number from 1 to 20.";
    if (!minimum.checkValidity()) return "Stay silent below: give a number from 0 to 100.";
    onask({ q, topK: Number(topK.value), minProbability: Number(minimum.value) / 100 });
  } });

  /** @param {Question} question */
  function fill(question) {
    topK.value = String(question.topK);
    minimum.value = String(Math.round(question.minProbability * 1e4) / 100);
    options.open ||= questionAddress("", question) !== questionAddress("", { ...question, ...DEFAULTS });
    return form.fill(question.q);
  }

  return { form, fill };
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
 * The address of a question; what is as usual is left out.
 * @param {string} view
 * @param {Question} question
 */
export function questionAddress(view, { q, topK, minProbability }) {
  const answers = topK === DEFAULTS.topK ? "" : topK;
  return address(view, { q, answers, least: minProbability === DEFAULTS.minProbability ? "" : minProbability });
}

/**
 * A sentence with a gap, and a filling of it that is to be looked into.
 * @param {(sentence: {text: string, filling: string}) => void} onask
 */
export function createSentenceForm(onask) {
  const wanted = newId();
  const filling = element("input", { id: wanted, type: "text", autocomplete: "off", dir: "auto" });
  const insert = element("button", { type: "button", onclick: insertGap }, `Insert ${GAP}`);
  const more = [element("div", { class: "row" }, insert, element("label", { for: wanted }, "Look into this filling (optional)"), filling)];
  const form = createForm({ label: `A sentence with ${GAP}`, button: "Fill", more, onsubmit(text) {
    if (!text.includes(GAP)) return `Write ${GAP} where words are missing.`;
    onask({ text, filling: filling.value.trim() });
  } });

  function insertGap() {
    const { input } = form;
    input.setRangeText(GAP, input.selectionStart, input.selectionEnd, "end");
    input.focus();
  }

  /** @param {{text: string, filling: string}} sentence */
  function fill(sentence) {
    filling.value = sentence.filling;
    return form.fill(sentence.text);
  }

  return { form, fill };
}
