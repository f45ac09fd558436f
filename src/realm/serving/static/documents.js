// Which documents are there, and how do they come and go?

import { listDocuments, putDocuments, readDocument, removeDocument } from "./api.js";
import { createAdding } from "./add_documents.js";
import { announce, element, newId } from "./dom.js";
import { count } from "./format.js";
import { problem } from "./notices.js";
import { address, documentAddress } from "./routes.js";

const WAIT_FOR_TYPING = 200; // milliseconds

/** @typedef {import("./api.js").Summary} Summary */

/** @param {import("./page.js").App} app */
export function documentsView(app) {
  const canEdit = app.info.can.edit;
  const list = createList(app, canEdit);
  const heading = element("h1", { tabindex: -1 }, "Documents");
  const field = newId();
  const input = element("input", { id: field, type: "text", autocomplete: "off", dir: "auto", enterkeyhint: "search", "aria-keyshortcuts": "/" });
  const search = element(
    "form",
    { role: "search", class: "question" },
    element("label", { for: field }, "Search the documents"),
    element("div", { class: "box" }, input, element("button", { type: "submit" }, "Search")),
  );
  const adding = canEdit
    ? createAdding((edits) => {
        void app.refreshInfo();
        if (!edits.every((edit) => list.has(edit.id))) list.load(input.value.trim());
      })
    : element("p", { class: "notice" }, "The documents of this server can be read here, not changed.");
  const view = element("div", { class: "narrow" }, heading, adding, search, list.element);
  let shown = "";
  let typing = 0;

  search.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    look();
  });
  input.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(look, WAIT_FOR_TYPING);
  });

  function look() {
    clearTimeout(typing);
    const text = input.value.trim();
    app.rename(address("documents", { text }));
    shown = keyOf(text);
    list.load(text);
  }

  const keyOf = (/** @type {string} */ text) => JSON.stringify([text, app.info.corpus_version]);

  /** @param {import("./routes.js").Route} route */
  function enter({ query }, isForced = false) {
    const text = (query.text ?? "").trim();
    if (input.value.trim() !== text) input.value = text;
    if (keyOf(text) === shown && !isForced) return;
    shown = keyOf(text);
    list.load(text);
  }

  const name = () => "Documents";
  return { element: view, heading, input, enter, leave: () => clearTimeout(typing), name };
}

/**
 * @param {import("./page.js").App} app
 * @param {boolean} canEdit
 */
function createList(app, canEdit) {
  const status = element("p", { class: "status", role: "status" });
  const rows = element("ul", { class: "documents" });
  const more = element("button", { type: "button", hidden: true, onclick: () => void page(true) }, "More");
  const failure = element("div");
  /** @type {Set<string>} */
  const ids = new Set();
  let text = "";
  let after = "";
  /** @type {AbortController | null} */
  let running = null;

  /** @param {string} wanted */
  function load(wanted) {
    text = wanted;
    after = "";
    void page(false);
  }

  /** @param {boolean} isNext whether the list goes on, or begins anew */
  async function page(isNext) {
    running?.abort();
    const own = new AbortController();
    running = own;
    rows.setAttribute("aria-busy", "true");
    try {
      const { documents, next } = await listDocuments(text, after, own.signal);
      if (running !== own) return;
      show(documents, next, isNext);
    } catch (error) {
      if (running !== own) return;
      failure.replaceChildren(problem(error, () => void page(isNext)));
    }
    rows.removeAttribute("aria-busy");
  }

  /**
   * @param {Summary[]} documents
   * @param {string | null} next
   * @param {boolean} isNext
   */
  function show(documents, next, isNext) {
    failure.replaceChildren();
    if (!isNext) ids.clear();
    for (const { id } of documents) ids.add(id);
    const made = documents.map((summary) => documentRow(summary, app, canEdit));
    if (isNext) rows.append(...made);
    else rows.replaceChildren(...made);
    if (isNext) made[0]?.querySelector("a")?.focus();
    after = next ?? "";
    more.hidden = next === null;
    status.textContent = summaryOf(rows.children.length, next !== null);
  }

  /**
   * @param {number} number
   * @param {boolean} hasMore
   */
  function summaryOf(number, hasMore) {
    if (!number) return text ? `No document matches “${text}”.` : "There are no documents yet.";
    if (text) return hasMore ? `The first ${number} that match` : `${count(number, "document")} that match${number === 1 ? "es" : ""}`;
    return hasMore ? `The first ${number} of ${count(app.info.num_documents, "document")}` : count(number, "document");
  }

  const view = element("section", { "aria-label": "List of documents" }, status, rows, failure, more);
  return { element: view, load, has: (/** @type {string} */ id) => ids.has(id) };
}

/**
 * One document, that can be removed and put back.
 * @param {Summary} summary
 * @param {import("./page.js").App} app
 * @param {boolean} canEdit
 */
function documentRow(summary, app, canEdit) {
  const { id, title } = summary;
  const row = element("li", { "data-id": id });
  const wrong = element("p", { class: "wrong", role: "alert" });

  /** @param {Summary} now */
  function present(now) {
    const remove = element("button", { type: "button", class: "plain", "aria-label": `Remove ${title || id}`, onclick: () => edit(remove, takeAway) }, "Remove");
    row.replaceChildren(
      element("div", { class: "what" },
        element("a", { href: documentAddress(id), dir: "auto" }, title || id),
        element("p", { class: "source" }, element("code", { dir: "auto" }, id), element("span", {}, count(now.num_passages, "passage")),
          now.origin === "edited" && element("span", { class: "badge" }, "added here"))),
      canEdit ? remove : "",
      wrong,
    );
    return remove;
  }

  async function takeAway() {
    const { text } = await readDocument(id);
    await removeDocument(id);
    const undo = element("button", { type: "button", "aria-label": `Put ${title || id} back`, onclick: () => edit(undo, putBack) }, "Undo");
    async function putBack() {
      const { edits } = await putDocuments([{ id, title, text }]);
      present({ ...summary, origin: "edited", num_passages: edits[0].num_passages }).focus();
      announce(`${title || id} is back.`);
    }
    row.replaceChildren(element("p", { class: "what soft" }, "Removed ", element("span", { dir: "auto" }, title || id), "."), undo, wrong);
    undo.focus();
    announce(`${title || id} was removed. Undo puts it back.`);
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {() => Promise<void>} change
   */
  async function edit(button, change) {
    button.disabled = true;
    wrong.textContent = "";
    try {
      await change();
      await app.refreshInfo();
    } catch (error) {
      wrong.textContent = error instanceof Error ? error.message : String(error);
      button.disabled = false;
      button.focus();
    }
  }

  present(summary);
  return row;
}
