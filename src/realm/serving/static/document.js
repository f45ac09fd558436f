// What does a whole document say, with the answer in view?

import { readDocument } from "./api.js";
import { element } from "./dom.js";
import { count } from "./format.js";
import { createInquiry } from "./inquiry.js";
import { highlighted, placeOf } from "./passages.js";
import { address } from "./routes.js";

/**
 * @param {import("./page.js").App} app
 * @returns {import("./page.js").View}
 */
export function documentView(app) {
  const inquiry = createInquiry();
  const heading = element("h1", { tabindex: -1, dir: "auto" });
  const back = element("a", { href: "#/ask", onclick: goBack }, "← Back");
  const view = element("div", { class: "stack" }, element("p", {}, back), heading, inquiry.element);

  /**
   * @param {import("./routes.js").Route} route
   * @param {boolean} isForced
   */
  function enter({ id, query }, isForced) {
    const key = JSON.stringify([id, query, app.info.corpus_version]);
    if (inquiry.isShown(key) && !isForced) return;
    heading.textContent = id;
    inquiry.reset(key, []);
    heading.focus({ preventScroll: true });
    inquiry.run(key, (signal) => readDocument(id, signal), (found) => {
      heading.textContent = found.title || id;
      document.title = `${heading.textContent} – REALM`;
      queueMicrotask(pointOut); // once the text stands on the page
      return shownDocument(found, offset(query.start), offset(query.end), query.words);
    });
  }

  /** Go to the words that are marked: who reads on by keyboard or by ear begins there. */
  function pointOut() {
    const mark = view.querySelector("mark");
    if (!mark) return;
    mark.scrollIntoView({ block: "center" });
    mark.tabIndex = -1;
    const isWhereItWas = [heading, document.body].includes(/** @type {HTMLElement} */ (document.activeElement));
    if (isWhereItWas) mark.focus({ preventScroll: true });
  }

  /** @param {Event} event */
  function goBack(event) {
    if (!app.canGoBack()) return; // opened by its address: the link leads to the questions
    event.preventDefault();
    history.back();
  }

  const name = () => heading.textContent ?? "";
  return { element: view, heading, input: null, enter, leave: inquiry.stop, name, escape: () => back.click() };
}

/** @param {string | undefined} text */
function offset(text) {
  const value = Number.parseInt(text ?? "", 10);
  return value >= 0 ? value : null;
}

/**
 * @param {Awaited<ReturnType<typeof readDocument>>} found
 * @param {number | null} start
 * @param {number | null} end
 * @param {string} [words] that stood there when the address was made
 * @returns {import("./inquiry.js").Shown}
 */
function shownDocument({ id, text, origin, num_passages }, start, end, words) {
  const there = start == null || end == null ? "" : [...text].slice(start, end).join("");
  const isChanged = words && there.replace(/\s+/g, " ") !== words.replace(/\s+/g, " ");
  if (isChanged) [start, end] = placeOf(text, words);
  const where = start == null ? "its words are no longer there" : "its words stand elsewhere now";
  const notice = isChanged && element("p", { class: "notice" }, `This document was changed since it was cited: ${where}.`);
  const facts = element("p", { class: "source" },
    element("code", { dir: "auto" }, id),
    element("span", {}, count(num_passages, "passage")),
    origin === "edited" && element("span", { class: "badge" }, "added here"));
  const article = element("article", { class: "card document", dir: "auto" }, highlighted(text, start, end));
  const link = element("a", { href: address("documents") }, "All documents");
  return { content: notice ? [facts, notice, article] : [facts, article], summary: [count([...text].length, "character")], link };
}
