// What stands on the page until the server has said what it can do?

import { info } from "./api.js";
import { LABEL, TITLE } from "./ask.js";
import { element } from "./dom.js";
import { createQuestionForm, questionAddress, questionOf } from "./forms.js";
import { createInquiry } from "./inquiry.js";

/**
 * Show what goes wrong, and the box in which a question can be written and even asked meanwhile.
 * @param {HTMLElement} main
 * @param {Record<string, string> | null} query that fills the box; none if the address leads elsewhere
 * @param {(facts: import("./api.js").Info, input: HTMLInputElement) => void} onready
 */
export function opening(main, query, onready) {
  const inquiry = createInquiry();
  const { form, fill } = createQuestionForm(LABEL, "Ask", (question) => {
    location.hash = questionAddress("ask", question);
    void wait();
  });
  const wait = () => inquiry.run("", info, (facts) => {
    queueMicrotask(() => onready(facts, form.input)); // what fails there, the server has not refused
    return { content: [], summary: [] };
  });
  const box = query && [element("h1", {}, TITLE), form.element];
  fill(questionOf(query ?? {}));
  main.replaceChildren(element("div", { class: "stack" }, box, inquiry.element));
  if (query && !query.q) form.input.focus();
  void wait();
}
