// How does a view show that it waits, what came back, and what went wrong?

import { element } from "./dom.js";
import { Refusal } from "./api.js";
import { duration } from "./format.js";
import { problem } from "./notices.js";

/** @typedef {{content: import("./dom.js").Child[], summary: string, link?: Node}} Shown */

/**
 * A line that tells how things stand, above the place where results appear. Old results stay,
 * dimmed, until new ones replace them, so that nothing jumps.
 * @param {{refuse: (message: string) => void}} form that shows what is wrong with its own input
 */
export function createInquiry(form) {
  const status = element("p", { class: "status", role: "status" });
  const links = element("p", { class: "status" });
  const results = element("div", { class: "results" });
  /** @type {AbortController | null} */
  let running = null;

  /** @param {import("./dom.js").Child[]} content */
  function replace(content) {
    results.replaceChildren(element("div", { class: "stack" }, content));
  }

  /**
   * Ask, and show what comes; a question before it is given up.
   * @template T
   * @param {(signal: AbortSignal) => Promise<T>} ask
   * @param {(answer: T) => Shown} show
   */
  async function run(ask, show) {
    stop();
    const own = new AbortController();
    running = own;
    results.setAttribute("aria-busy", "true");
    status.textContent = "Reading…";
    const begun = performance.now();
    try {
      const answer = await ask(own.signal);
      const took = performance.now() - begun;
      if (running !== own) return;
      const { content, summary, link } = show(answer);
      replace(content);
      links.replaceChildren(...(link ? [link] : []));
      status.replaceChildren(summary, element("span", { class: "soft" }, ` · ${duration(took)}`));
    } catch (error) {
      if (running === own) fail(error, () => run(ask, show));
    } finally {
      if (running === own) stop();
    }
  }

  /**
   * @param {unknown} error
   * @param {() => void} retry
   */
  function fail(error, retry) {
    status.textContent = "";
    links.replaceChildren();
    if (error instanceof Refusal && error.status === 422) {
      replace([]);
      form.refuse(error.message);
    } else {
      replace([problem(error, retry)]);
    }
  }

  function stop() {
    if (running && results.getAttribute("aria-busy") === "true" && status.textContent === "Reading…") {
      status.textContent = "";
    }
    running?.abort();
    running = null;
    results.removeAttribute("aria-busy");
  }

  /** @param {import("./dom.js").Child[]} content */
  function reset(content) {
    stop();
    status.textContent = "";
    links.replaceChildren();
    replace(content);
  }

  const element_ = element("section", { "aria-label": "Results" }, element("div", { class: "row spread" }, status, links), results);
  return { element: element_, run, stop, reset };
}
