// How does a person add documents: pasted, or as files?

import { putDocuments, readDocument, Refusal } from "./api.js";
import { element, newId } from "./dom.js";
import { count } from "./format.js";
import { KNOWN, readFile, slug } from "./read_files.js";
import { documentAddress } from "./routes.js";

const AT_ONCE = 100; // documents of one file that are sent together
const CHARACTERS_AT_ONCE = 200_000;

/** @typedef {import("./api.js").NewDocument} NewDocument */

/**
 * @param {(edits: import("./api.js").Edit[]) => void} onadded
 */
export function createAdding(onadded) {
  const results = element("ul", { class: "outcomes", "aria-live": "polite", "aria-label": "What was added" });
  const panel = element(
    "details",
    { class: "card adding" },
    element("summary", {}, "Add documents"),
    element("div", { class: "columns" }, pasteForm(report, onadded), uploadForm(report, onadded)),
    results,
  );

  /**
   * Show how one document or file fares; the newest stands first.
   * @param {string} name
   */
  function report(name) {
    const outcome = element("span", {}, "waiting…");
    const line = element("li", {}, element("strong", { dir: "auto" }, name), " ", outcome);
    results.prepend(line);
    return {
      /** @param {string} text */
      progress: (text) => outcome.replaceChildren(text),
      /** @param {import("./api.js").Edit[]} edits */
      done: (edits) => {
        line.className = "good";
        outcome.replaceChildren(...outcomeOf(edits));
      },
      /** @param {unknown} error */
      failed: (error) => {
        line.className = "bad";
        outcome.replaceChildren(`was not added: ${error instanceof Error ? error.message : error}`);
      },
    };
  }

  return panel;
}

/** @typedef {{progress: (text: string) => void, done: (edits: import("./api.js").Edit[]) => void, failed: (error: unknown) => void}} Report */

/**
 * @param {import("./api.js").Edit[]} edits
 * @returns {(Node | string)[]}
 */
function outcomeOf(edits) {
  if (edits.length === 1) {
    const [{ id, action, num_passages }] = edits;
    const link = element("a", { href: documentAddress(id) }, "Open");
    return [`was ${action}: ${count(num_passages, "passage")}. `, link];
  }
  const replaced = edits.filter((edit) => edit.action === "replaced").length;
  const added = `${count(edits.length - replaced, "document")} added`;
  return [replaced ? `${added}, ${replaced} replaced` : added];
}

/**
 * @param {(name: string) => Report} report
 * @param {(edits: import("./api.js").Edit[]) => void} onadded
 */
function pasteForm(report, onadded) {
  const [titleId, textId, idId, hint, error] = [newId(), newId(), newId(), newId(), newId()];
  const title = element("input", { id: titleId, type: "text", autocomplete: "off", dir: "auto" });
  const text = element("textarea", { id: textId, rows: 7, dir: "auto", "aria-describedby": error });
  const id = element("input", { id: idId, type: "text", autocomplete: "off", "aria-describedby": hint });
  const wrong = element("p", { id: error, class: "wrong", role: "alert" });
  const button = element("button", { type: "submit", class: "main" }, "Add");
  title.addEventListener("input", () => (id.placeholder = slug(title.value)));

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    const isWithout = !text.value.trim();
    wrong.textContent = isWithout ? "Paste or write the document's text." : "";
    text.toggleAttribute("aria-invalid", isWithout);
    if (isWithout) return text.focus();
    const line = report(title.value.trim() || id.value.trim() || "Document");
    button.disabled = true;
    try {
      const given = id.value.trim() || (await freeId(slug(title.value) || "document"));
      const { edits } = await putDocuments([{ id: given, title: title.value.trim(), text: text.value }]);
      line.done(edits);
      form.reset();
      id.placeholder = "";
      onadded(edits);
    } catch (problem) {
      line.failed(problem);
      wrong.textContent = problem instanceof Error ? problem.message : String(problem);
    }
    button.disabled = false;
  }

  const form = element(
    "form",
    { class: "stack", novalidate: true, onsubmit: submit },
    element("h2", {}, "Paste"),
    element("div", {}, element("label", { for: titleId }, "Title"), title),
    element("div", {}, element("label", { for: textId }, "Text"), text, wrong),
    element("div", {}, element("label", { for: idId }, "Id (optional)"), id,
      element("p", { id: hint, class: "soft small" }, "Made from the title if left empty. An id that is there already replaces its document.")),
    element("div", {}, button),
  );
  return form;
}

/**
 * The id, or the first of id-2, id-3, ... that no document has: what a person did not name
 * must not replace anything.
 * @param {string} id
 */
async function freeId(id) {
  for (let number = 1; ; number += 1) {
    const candidate = number === 1 ? id : `${id}-${number}`;
    try {
      await readDocument(candidate);
    } catch (error) {
      if (error instanceof Refusal && error.status === 404) return candidate;
      throw error;
    }
  }
}

/**
 * @param {(name: string) => Report} report
 * @param {(edits: import("./api.js").Edit[]) => void} onadded
 */
function uploadForm(report, onadded) {
  const [field, hint] = [newId(), newId()];
  const input = element("input", { id: field, type: "file", multiple: true, accept: KNOWN.join(","), "aria-describedby": hint });
  const bar = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Files read" });
  const zone = element(
    "div",
    { class: "drop stack" },
    element("label", { for: field }, "Choose files, or drop them here"),
    input,
    element("p", { id: hint, class: "soft small" }, "Text, Markdown and web pages become one document each, named as the file. JSON lines hold one document a line, with id, title and text."),
    bar,
  );
  input.addEventListener("change", () => {
    void addFiles([...input.files], report, bar, onadded);
    input.value = "";
  });
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (/** @type {DragEvent} */ event) => {
    zone.classList.remove("over");
    void addFiles([...(event.dataTransfer?.files ?? [])], report, bar, onadded);
  });
  return element("section", { class: "stack" }, element("h2", {}, "Upload"), zone);
}

/**
 * @param {File[]} files
 * @param {(name: string) => Report} report
 * @param {HTMLProgressElement} bar
 * @param {(edits: import("./api.js").Edit[]) => void} onadded
 */
async function addFiles(files, report, bar, onadded) {
  const lines = files.map((file) => report(file.name));
  bar.max = Math.max(1, files.length);
  bar.value = 0;
  bar.hidden = false;
  for (const [place, file] of files.entries()) {
    try {
      const edits = await addAll(await readFile(file), lines[place]);
      lines[place].done(edits);
      onadded(edits);
    } catch (error) {
      lines[place].failed(error);
    }
    bar.value = place + 1;
  }
  bar.hidden = true;
}

/**
 * @param {NewDocument[]} documents
 * @param {Report} line
 */
async function addAll(documents, line) {
  /** @type {import("./api.js").Edit[]} */
  const edits = [];
  for (const batch of batches(documents)) {
    line.progress(`adding ${edits.length + batch.length} of ${documents.length}…`);
    try {
      edits.push(...(await putDocuments(batch)).edits);
    } catch (error) {
      if (!edits.length) throw error;
      throw new Error(`${error instanceof Error ? error.message : error} (the first ${count(edits.length, "document")} were added)`);
    }
  }
  return edits;
}

/** @param {NewDocument[]} documents */
function batches(documents) {
  /** @type {NewDocument[][]} */
  const made = [];
  let room = 0;
  for (const document of documents) {
    const last = made.at(-1);
    if (last && last.length < AT_ONCE && room >= document.text.length) last.push(document);
    else {
      made.push([document]);
      room = CHARACTERS_AT_ONCE;
    }
    room -= document.text.length;
  }
  return made;
}
