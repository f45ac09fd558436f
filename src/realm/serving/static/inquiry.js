// How does a view ask, show that it waits, what came back and what went wrong?

import { element } from "./dom.js";
import { Refusal } from "./api.js";
import { duration } from "./format.js";
import { problem } from "./notices.js";

/** @typedef {{content: import("./dom.js").Child[], summary: import("./dom.js").Child[], link?: Node}} Shown */

/**
 * A line that tells how things stand, above the place where results appear. Old results stay,
 * dimmed, until new ones replace them, so that nothing jumps.
 * @param {(message: string) => void} [refuse] shows what is wrong with the words that were asked
 */
export function createInquiry(refuse) {
  const status = element("p", { class: "status", role: "status" });
  const links = element("p", { class: "links" });
  const results = element("div", { class: "results stack" });
  /** @type {AbortController | null} */
  let running = null;
  let shown = ""; // which question it is whose answer is shown, or being asked for

  /**
   * Ask, and show what comes; a question before it is given up.
   * @template T
   * @param {string} key of the question
   * @param {(signal: AbortSignal) => Promise<T>} ask
   * @param {(answer: T) => Shown} show
   */
  async function run(key, ask, show) {
    stop();
    shown = key;
    const own = new AbortController();
    running = own;
    results.setAttribute("aria-busy", "true");
    status.textContent = "Reading…";
    links.replaceChildren();
    const begun = performance.now();
    try {
      const answer = await ask(own.signal);
      const took = duration(performance.now() - begun);
      if (running !== own) return;
      const { content, summary, link } = show(answer);
      present(content, [...summary, ` · ${took}`], link);
    } catch (error) {
      if (running !== own) return;
      const isOfWords = refuse && error instanceof Refusal && error.status === 422;
      present(isOfWords ? [] : [problem(error, () => run(key, ask, show))]);
      if (isOfWords) refuse(error.message);
    }
    running = null;
  }

  /** Give up what is being asked: it has not been shown, and is asked again by whoever comes back. */
  function stop() {
    if (running) status.textContent = shown = "";
    running?.abort();
    running = null;
    results.removeAttribute("aria-busy");
  }

  /**
   * @param {import("./dom.js").Child[]} content
   * @param {import("./dom.js").Child[]} [summary]
   * @param {Node} [link]
   */
  function present(content, summary = [], link) {
    results.replaceChildren(...element("div", {}, content).childNodes);
    status.replaceChildren(...element("p", {}, summary).childNodes);
    links.replaceChildren(...(link ? [link] : []));
    results.removeAttribute("aria-busy");
  }

  /**
   * Show what needs no asking.
   * @param {string} key
   * @param {import("./dom.js").Child[]} content
   */
  function reset(key, content) {
    stop();
    shown = key;
    present(content);
  }

  /** @param {string} key */
  const isShown = (key) => key === shown;
  const line = element("div", { class: "row spread" }, status, links);
  return { element: element("section", { "aria-label": "Results" }, line, results), run, stop, reset, isShown };
}

/**
 * A view with a form that asks. What an address asks is shown once, until the corpus changes.
 * @template Asked
 * @param {import("./page.js").App} app
 * @param {object} parts
 * @param {string} parts.title
 * @param {string} [parts.lead]
 * @param {Node | false} [parts.notice] what this run cannot do
 * @param {ReturnType<typeof import("./forms.js").createForm> | null} parts.form none if nothing can be asked
 * @param {(query: Record<string, string>) => Asked} parts.read what an address asks
 * @param {(asked: Asked) => string} parts.fill puts it into the form; returns the words asked, or nothing
 * @param {(asked: Asked, signal: AbortSignal) => Promise<any>} parts.ask
 * @param {(answer: any, asked: Asked) => Shown} parts.show
 * @param {string[]} parts.examples
 * @param {(words: string) => string} parts.addressOf an example
 * @returns {import("./page.js").View}
 */
export function inquiryView(app, { title, lead, notice, form, read, fill, ask, show, examples, addressOf }) {
  const inquiry = createInquiry(form?.refuse);
  const heading = element("h1", { tabindex: -1 }, title);
  const view = element("div", { class: "stack" },
    heading, notice, form && [lead && element("p", { class: "soft" }, lead), form.element, inquiry.element]);
  const input = form?.input ?? null;

  const choose = (/** @type {string} */ example) => {
    input?.focus();
    app.go(addressOf(example));
  };
  const button = (/** @type {string} */ example) =>
    element("li", {}, element("button", { type: "button", class: "example", dir: "auto", onclick: () => choose(example) }, example));

  /**
   * @param {import("./routes.js").Route} route
   * @param {boolean} isForced
   */
  function enter({ query }, isForced) {
    if (!form) return;
    const asked = read(query);
    const words = fill(asked);
    const key = JSON.stringify([asked, app.info.corpus_version]);
    if (inquiry.isShown(key) && !isForced) return;
    if (words) inquiry.run(key, (signal) => ask(asked, signal), (answer) => show(answer, asked));
    else if (!examples.length) inquiry.reset(key, []);
    else inquiry.reset(key, [element("h2", { class: "soft small" }, "For example"), element("ul", { class: "examples" }, examples.slice(0, 6).map(button))]);
  }

  const name = (/** @type {import("./routes.js").Route} */ { query }) => query.q || query.text || title;
  return { element: view, heading, input, enter, leave: inquiry.stop, name };
}
