// Which documents are there, and how do they come and go?

import { listDocuments } from "./api.js";
import { createAdding } from "./add_documents.js";
import { documentRow } from "./document_row.js";
import { element } from "./dom.js";
import { createForm } from "./forms.js";
import { count } from "./format.js";
import { problem } from "./notices.js";
import { address } from "./routes.js";

const WAIT_FOR_TYPING = 200; // milliseconds

/**
 * @param {import("./page.js").App} app
 * @returns {import("./page.js").View}
 */
export function documentsView(app) {
  const heading = element("h1", { tabindex: -1 }, "Documents");
  const list = createList(app);
  const search = createForm({ label: "Search titles, texts and ids", button: "Search", onsubmit: look });
  const { input } = search;
  const adding = app.info.can.add
    ? createAdding((version) => {
        app.noteVersion(version);
        list.load(input.value.trim());
      })
    : element("p", { class: "notice" }, app.info.can.edit
      ? "Documents can be removed here, but not added: this run has nothing that embeds them."
      : "The documents of this server can be read here, not changed.");
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

  return { element: view, heading, input, enter, leave: () => clearTimeout(typing), name: () => "Documents", retell: list.retell };
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
      const made = documents.map((summary) => documentRow(summary, app, keep));
      if (!isNext) for (const row of there()) row.remove(); // the others hold Undo
      rows.append(...made);
      if (isNext) made[0]?.querySelector("a")?.focus();
      after = next ?? "";
      more.hidden = !next;
      tell();
    } catch (error) {
      if (running !== own) return;
      failure.replaceChildren(problem(error, () => void page(isNext)));
    }
    rows.removeAttribute("aria-busy");
  }

  const there = () => rows.querySelectorAll(":scope > :not(.removed)");
  const tell = () => (status.textContent = told(there().length));

  /** @param {number} number */
  function told(number) {
    if (!number) return text ? `No document matches “${text}”.` : "There are no documents yet.";
    const of = text ? " that match" : ` of ${app.info.num_documents.toLocaleString("en-GB")}`;
    return after ? `The first ${count(number, "document")}${of}` : count(number, "document");
  }

  /** @param {Element} row whose document was removed or put back, perhaps while the list was read anew */
  function keep(row) {
    if (!rows.contains(row)) rows.prepend(row);
    tell();
  }

  /** @param {string} wanted */
  function load(wanted) {
    text = wanted;
    after = "";
    more.hidden = true; // what is there goes on behind another text
    void page(false);
  }

  const shown = element("section", { "aria-label": "List of documents" }, status, rows, failure, more);
  return { element: shown, load, retell: () => void (status.textContent && tell()) };
}

