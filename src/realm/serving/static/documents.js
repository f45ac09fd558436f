// Which documents are there, and how do they come and go?

import { listDocuments, putDocuments, readDocument, removeDocument } from "./api.js";
import { createAdding } from "./add_documents.js";
import { announce, element } from "./dom.js";
import { createForm } from "./forms.js";
import { count } from "./format.js";
import { messageOf, problem } from "./notices.js";
import { source } from "./passages.js";
import { address } from "./routes.js";

const WAIT_FOR_TYPING = 200; // milliseconds

/** @typedef {import("./api.js").Summary} Summary */

/**
 * @param {import("./page.js").App} app
 * @returns {import("./page.js").View}
 */
export function documentsView(app) {
  const heading = element("h1", { tabindex: -1 }, "Documents");
  const list = createList(app);
  const search = createForm({ label: "Search titles, texts and ids", button: "Search", onsubmit: look });
  const { input } = search;
  const adding = app.info.can.edit
    ? createAdding((version) => {
        app.noteVersion(version);
        list.load(input.value.trim());
      })
    : element("p", { class: "notice" }, "The documents of this server can be read here, not changed.");
  const view = element("div", { class: "stack" }, heading, adding, search.element, list.element);
  let shown = "";
  let typing = 0;

  /** @param {string} text */
  function look(text) {
    clearTimeout(typing);
    app.rename(address("documents", { text }));
    enter({ query: { text } }, true);
  }

  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => look(input.value.trim()), WAIT_FOR_TYPING);
  });

  /**
   * @param {{query: Record<string, string>}} route
   * @param {boolean} isForced
   */
  function enter({ query: { text = "" } }, isForced) {
    search.fill(text);
    const key = JSON.stringify([text, app.info.corpus_version]);
    if (key === shown && !isForced) return;
    shown = key;
    list.load(text);
  }

  return { element: view, heading, input, enter, leave: () => clearTimeout(typing), name: () => "Documents" };
}

/** @param {import("./page.js").App} app */
function createList(app) {
  const status = element("p", { class: "status", role: "status" });
  const rows = element("ul", { class: "documents" });
  const more = element("button", { type: "button", hidden: true, onclick: () => void page(true) }, "More");
  const failure = element("div");
  let text = "";
  let after = "";
  /** @type {AbortController | null} */
  let running = null;

  /** @param {boolean} isNext whether the list goes on, or begins anew */
  async function page(isNext) {
    running?.abort();
    const own = new AbortController();
    running = own;
    rows.setAttribute("aria-busy", "true");
    failure.replaceChildren();
    try {
      const { documents, next } = await listDocuments(text, isNext ? after : "", own.signal);
      if (running !== own) return;
      const made = documents.map((summary) => documentRow(summary, app));
      if (!isNext) rows.replaceChildren();
      rows.append(...made);
      if (isNext) made[0]?.querySelector("a")?.focus();
      after = next ?? "";
      more.hidden = !next;
      status.textContent = told(rows.children.length);
    } catch (error) {
      if (running !== own) return;
      failure.replaceChildren(problem(error, () => void page(isNext)));
    }
    rows.removeAttribute("aria-busy");
  }

  /** @param {number} number */
  function told(number) {
    if (!number) return text ? `No document matches “${text}”.` : "There are no documents yet.";
    const of = text ? " that match" : ` of ${app.info.num_documents.toLocaleString("en-GB")}`;
    return after ? `The first ${count(number, "document")}${of}` : count(number, "document");
  }

  /** @param {string} wanted */
  function load(wanted) {
    text = wanted;
    void page(false);
  }

  return { element: element("section", { "aria-label": "List of documents" }, status, rows, failure, more), load };
}

/**
 * One document, that can be removed and put back.
 * @param {Summary} summary
 * @param {import("./page.js").App} app
 */
function documentRow(summary, app) {
  const { id, title } = summary;
  const name = title || id;
  const wrong = element("p", { class: "wrong said", role: "alert" });
  const row = element("li", { "data-id": id });

  /** @param {Summary} now */
  function present({ num_passages, origin }) {
    const isEdited = origin === "edited" && element("span", { class: "badge" }, "added here");
    const remove = button(`Remove ${name}`, "Remove", takeAway);
    row.replaceChildren(
      element("div", { class: "what" }, source(id, title, {}, element("span", {}, count(num_passages, "passage")), isEdited)),
      app.info.can.edit ? remove : "", wrong);
    return remove;
  }

  async function takeAway() {
    const { text } = await readDocument(id);
    const { corpus_version } = await removeDocument(id);
    app.noteVersion(corpus_version);
    const undo = button(`Put ${name} back`, "Undo", () => putBack(text));
    row.replaceChildren(element("p", { class: "what soft" }, "Removed ", element("bdi", {}, name)), undo, wrong);
    undo.focus();
    announce(`${name} was removed. Undo puts it back.`);
  }

  /** @param {string} text */
  async function putBack(text) {
    const { edits, corpus_version } = await putDocuments([{ id, title, text }]);
    app.noteVersion(corpus_version);
    present({ ...summary, origin: "edited", num_passages: edits[0].num_passages }).focus();
    announce(`${name} is back.`);
  }

  /**
   * @param {string} label
   * @param {string} text
   * @param {() => Promise<void>} change
   */
  function button(label, text, change) {
    const made = element("button", { type: "button", "aria-label": label, async onclick() {
      made.disabled = true;
      wrong.textContent = "";
      try {
        await change();
      } catch (error) {
        wrong.textContent = messageOf(error);
        made.disabled = false;
        made.focus();
      }
    } }, text);
    return made;
  }

  present(summary);
  return row;
}
