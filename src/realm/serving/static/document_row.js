// How does one document leave the list, and come back?

import { isThere, putDocuments, readDocument, removeDocument } from "./api.js";
import { announce, element } from "./dom.js";
import { count } from "./format.js";
import { messageOf } from "./notices.js";
import { source } from "./passages.js";

// What a document from a file may have, and one that is sent may not.
const CONTROLS = /[\x00-\x08\x0e-\x1f\x7f]/;
const LONGEST_TITLE = 2_000; // characters

/**
 * One document, that can be removed and put back.
 * @param {import("./api.js").Summary} summary
 * @param {import("./page.js").App} app
 * @param {(row: Element) => void} onchange is told when it was removed or put back
 * @returns {Element}
 */
export function documentRow(summary, app, onchange) {
  const { id, title } = summary;
  const name = title || id;
  const wrong = element("p", { class: "wrong said", role: "alert" });
  const row = element("li");

  /** @param {import("./api.js").Summary} now */
  function present({ num_passages, origin }) {
    const isEdited = origin === "edited" && element("span", { class: "badge" }, "added here");
    const remove = button(`Remove ${name}`, "Remove", takeAway);
    row.className = "";
    row.replaceChildren(
      element("div", { class: "what" }, source(id, title, {}, element("span", {}, count(num_passages, "passage")), isEdited)),
      app.info.can.edit ? remove : "", wrong);
    return remove;
  }

  async function takeAway() {
    const found = await readDocument(id);
    const obstacle = app.info.can.add ? obstacleTo(found) : "this run has nothing that embeds it";
    if (!obstacle) return remove(found);
    const forGood = button(`Remove ${name} for good`, "Remove for good", () => remove(null));
    row.querySelector("button").replaceWith(forGood);
    forGood.focus();
    wrong.textContent = `Once removed it cannot be put back from here: ${obstacle}.`;
  }

  /** @param {{title: string, text: string} | null} found what Undo puts back, if it can */
  async function remove(found) {
    const { corpus_version } = await removeDocument(id);
    app.noteVersion(corpus_version);
    const dismiss = element("button", { type: "button", "aria-label": `Dismiss ${name}`, onclick: leave }, "✕");
    const undo = found === null ? "" : button(`Put ${name} back`, "Undo", () => putBack(found));
    const until = undo && ": it can be put back until this page is closed";
    row.className = "removed";
    row.replaceChildren(element("p", { class: "what soft" }, "Removed ", element("bdi", {}, name), until), undo, dismiss, wrong);
    (undo || dismiss).focus();
    announce(`${name} was removed.${undo && " Undo puts it back."}`);
    onchange(row);
  }

  /** @param {{title: string, text: string}} found */
  async function putBack({ title, text }) {
    if (await isThere(id)) throw new Error("A document with this id is there again, and would be replaced.");
    const { edits, corpus_version } = await putDocuments([{ id, title, text }]);
    app.noteVersion(corpus_version);
    present({ ...summary, origin: "edited", num_passages: edits[0].num_passages }).focus();
    announce(`${name} is back.`);
    onchange(row);
  }

  function leave() {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    const focus = next?.querySelector("a, button") ?? document.querySelector("h1");
    if (focus instanceof HTMLElement) focus.focus();
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

/**
 * What would keep a document of the corpus from being put back, or nothing.
 * @param {{title: string, text: string}} document
 */
function obstacleTo({ title, text }) {
  if (CONTROLS.test(title + text)) return "it has control characters";
  if (!text.trim()) return "it has no text";
  return [...title].length > LONGEST_TITLE ? "its title is too long" : "";
}
