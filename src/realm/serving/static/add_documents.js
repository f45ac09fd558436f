// How does a person add documents: pasted, or as files?

import { isThere, putDocuments } from "./api.js";
import { element, newId } from "./dom.js";
import { count } from "./format.js";
import { messageOf } from "./notices.js";
import { KNOWN, readFile, slug } from "./read_files.js";
import { documentAddress } from "./routes.js";

const AT_ONCE = 100; // documents of one file that are sent together
const CHARACTERS_AT_ONCE = 200_000;

/** @typedef {import("./api.js").NewDocument} NewDocument */
/** @typedef {import("./api.js").Edit} Edit */
/** @typedef {{say: (kind: "" | "good" | "bad", ...said: (Node | string)[]) => void}} Line */
/** @typedef {(name: string) => Line} Report */

/** @param {(version: string) => void} onadded is told the corpus's new version, before a person is */
export function createAdding(onadded) {
  const outcomes = element("ul", { class: "outcomes", "aria-live": "polite", "aria-label": "What was added" });

  /** @type {Report} how one document or file fares; the newest stands first */
  const report = (name) => {
    const outcome = element("span", {}, "waiting…");
    const line = element("li", {}, element("strong", { dir: "auto" }, name), " ", outcome);
    outcomes.prepend(line);
    return {
      say(kind, ...said) {
        line.className = kind;
        outcome.replaceChildren(...said);
      },
    };
  };

  return element("details", { class: "card adding" },
    element("summary", {}, "Add documents"),
    element("div", { class: "columns" }, pasteForm(report, onadded), uploadForm(report, onadded)),
    outcomes);
}

/**
 * @param {Line} line
 * @param {Edit[]} edits
 */
function sayAdded(line, edits) {
  const [{ id, action, num_passages }] = edits;
  if (edits.length === 1) {
    const link = element("a", { href: documentAddress(id) }, "Open");
    line.say("good", `was ${action}: ${count(num_passages, "passage")}. `, link);
    return;
  }
  const replaced = edits.filter((edit) => edit.action === "replaced").length;
  line.say("good", `${count(edits.length - replaced, "document")} added${replaced ? `, ${replaced} replaced` : ""}`);
}

/**
 * @param {Report} report
 * @param {(version: string) => void} onadded
 */
function pasteForm(report, onadded) {
  const [titleId, textId, idId, hint, error] = [newId(), newId(), newId(), newId(), newId()];
  const title = element("input", { id: titleId, type: "text", autocomplete: "off", dir: "auto" });
  const text = element("textarea", { id: textId, rows: 7, dir: "auto", "aria-describedby": error });
  const id = element("input", { id: idId, type: "text", autocomplete: "off", "aria-describedby": hint });
  const wrong = element("p", { id: error, class: "wrong said", role: "alert" });
  const button = element("button", { type: "submit", class: "main" }, "Add");
  title.addEventListener("input", () => (id.placeholder = slug(title.value)));

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    const isWithout = !text.value.trim();
    wrong.textContent = isWithout ? "Paste or write the document's text." : "";
    if (isWithout) {
      text.setAttribute("aria-invalid", "true");
      text.focus();
      return;
    }
    text.removeAttribute("aria-invalid");
    button.disabled = true;
    try {
      const given = id.value.trim() || (await freeId(slug(title.value) || "document"));
      const { edits, corpus_version } = await putDocuments([{ id: given, title: title.value.trim(), text: text.value }]);
      onadded(corpus_version);
      sayAdded(report(title.value.trim() || given), edits);
      form.reset();
      id.placeholder = "";
    } catch (problem) {
      wrong.textContent = messageOf(problem);
    }
    button.disabled = false;
    button.focus();
  }

  const form = element("form", { class: "stack", novalidate: true, onsubmit: submit },
    element("h2", {}, "Paste"),
    element("div", {}, element("label", { for: titleId }, "Title"), title),
    element("div", {}, element("label", { for: textId }, "Text"), text, wrong),
    element("div", {}, element("label", { for: idId }, "Id (optional)"), id,
      element("p", { id: hint, class: "soft small" }, "Left empty, it is made from the title. An id that is there already replaces its document.")),
    element("div", {}, button));
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
    if (!(await isThere(candidate))) return candidate;
  }
}

/**
 * @param {Report} report
 * @param {(version: string) => void} onadded
 */
function uploadForm(report, onadded) {
  const [field, hint] = [newId(), newId()];
  const input = element("input", { id: field, type: "file", multiple: true, accept: KNOWN.join(","), "aria-describedby": hint });
  const progress = element("progress", { max: 1, value: 0, hidden: true, "aria-label": "Files read" });
  const zone = element("div", { class: "drop stack" },
    element("label", { for: field }, "Choose files, or drop them here"),
    input,
    element("p", { id: hint, class: "soft small" }, "Text, Markdown and web pages become one document each, with the file's name as its id. JSON lines hold one document a line, with id, title and text."),
    progress);

  /** @param {Iterable<File>} files */
  async function addFiles(files) {
    const lines = [...files].map((file) => /** @type {[File, Line]} */ ([file, report(file.name)]));
    progress.max = Math.max(1, lines.length);
    progress.value = 0;
    progress.hidden = false;
    for (const [file, line] of lines) {
      try {
        sayAdded(line, await addAll(await readFile(file), line, onadded));
      } catch (error) {
        line.say("bad", `was not added: ${messageOf(error)}`);
      }
      progress.value += 1;
    }
    progress.hidden = true;
  }

  input.addEventListener("change", () => {
    void addFiles([...input.files]);
    input.value = "";
  });
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (/** @type {DragEvent} */ event) => {
    zone.classList.remove("over");
    void addFiles(event.dataTransfer?.files ?? []);
  });
  return element("section", { class: "stack" }, element("h2", {}, "Upload"), zone);
}

/**
 * @param {NewDocument[]} documents
 * @param {Line} line
 * @param {(version: string) => void} onadded
 */
async function addAll(documents, line, onadded) {
  /** @type {Edit[]} */
  const edits = [];
  for (const batch of batches(documents)) {
    line.say("", `adding ${edits.length + batch.length} of ${documents.length}…`);
    try {
      const made = await putDocuments(batch);
      edits.push(...made.edits);
      onadded(made.corpus_version);
    } catch (error) {
      if (!edits.length) throw error;
      throw new Error(`${messageOf(error)} (the first ${count(edits.length, "document")} were added)`);
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
