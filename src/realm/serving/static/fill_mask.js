// What fills a gap in a sentence, and how much of that comes from the passages?

import { fillMask } from "./api.js";
import { element, newId } from "./dom.js";
import { evidenceTable } from "./evidence_table.js";
import { percent } from "./format.js";
import { createInquiry } from "./inquiry.js";
import { unavailable } from "./notices.js";
import { exampleButtons } from "./question_form.js";
import { address } from "./routes.js";

const GAP = "[MASK]";
const LEAD = `Write a sentence with ${GAP} where words are missing. The model fills it twice: with the passages that it finds, and from what it remembers alone.`;
const ABOUT_NULL = "It holds no words. Its p(y|z,x) is what the model says without reading anything.";

/** @param {import("./page.js").App} app */
export function fillMaskView(app) {
  const { can, examples } = app.info;
  const form = createSentenceForm((sentence) => app.go(address("fill-mask", sentence), true));
  const inquiry = createInquiry(form);
  const heading = element("h1", { tabindex: -1 }, "Fill a gap");
  const view = element("div", { class: "wide" }, heading);
  if (can.fill_mask) view.append(element("p", { class: "lead" }, LEAD), form.element, inquiry.element);
  else view.append(unavailable("This run cannot fill gaps", "It has no pre-trained reader that predicts missing words.", "realm pretrain"));
  let shown = "";

  /** @param {import("./routes.js").Route} route */
  function enter({ query }, isForced = false) {
    if (!can.fill_mask) return;
    const sentence = { text: (query.text ?? "").trim(), filling: (query.filling ?? "").trim() };
    form.fill(sentence);
    const key = JSON.stringify([sentence, app.info.corpus_version]);
    if (key === shown && !isForced) return;
    shown = key;
    if (sentence.text) {
      inquiry.run((signal) => fillMask(sentence.text, sentence.filling, signal), fillingsOf);
      return;
    }
    const choose = (/** @type {string} */ text) => {
      form.input.focus();
      app.go(address("fill-mask", { text }));
    };
    inquiry.reset([exampleButtons(examples.filter((example) => example.includes(GAP)).slice(0, 6), choose)]);
  }

  const name = () => "Fill a gap";
  return { element: view, heading, input: can.fill_mask ? form.input : null, enter, leave: inquiry.stop, name };
}

/** @param {(sentence: {text: string, filling: string}) => void} onask */
function createSentenceForm(onask) {
  const [box, error, wanted] = [newId(), newId(), newId()];
  const input = element("input", {
    id: box, type: "text", autocomplete: "off", enterkeyhint: "go", dir: "auto",
    "aria-describedby": error, "aria-keyshortcuts": "/",
  });
  const filling = element("input", { id: wanted, type: "text", autocomplete: "off", dir: "auto" });
  const wrong = element("p", { id: error, class: "wrong", role: "alert" });
  const insert = element("button", { type: "button", onclick: insertGap }, `Insert ${GAP}`);
  const form = element(
    "form",
    { class: "question", novalidate: true },
    element("label", { for: box }, `A sentence with ${GAP}`),
    element("div", { class: "box" }, input, element("button", { type: "submit", class: "main" }, "Fill")),
    wrong,
    element("div", { class: "row" }, insert, element("label", { for: wanted }, "Look into this filling (optional)"), filling),
  );

  function insertGap() {
    const [from, to] = [input.selectionStart ?? input.value.length, input.selectionEnd ?? input.value.length];
    input.setRangeText(GAP, from, to, "end");
    input.focus();
  }

  form.addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!text.includes(GAP)) return refuse(`Write ${GAP} where words are missing.`);
    refuse("");
    onask({ text, filling: filling.value.trim() });
  });

  /** @param {string} message */
  function refuse(message) {
    wrong.textContent = message;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    if (message) input.focus();
  }

  /** @param {{text: string, filling: string}} sentence */
  function fill(sentence) {
    refuse("");
    if (input.value.trim() !== sentence.text) input.value = sentence.text;
    filling.value = sentence.filling;
  }

  return { element: form, input, fill, refuse };
}

/**
 * @param {import("./api.js").Filled} filled
 * @returns {import("./inquiry.js").Shown}
 */
function fillingsOf(filled) {
  const { query, answer, candidates } = filled;
  const rows = candidates.map((candidate) => ({
    documentId: candidate.passage_id === null ? null : candidate.document_id ?? "",
    title: candidate.title,
    text: candidate.text,
    start: null,
    end: null,
    believed: candidate.retrieval_probability,
    read: candidate.answer_probability,
    utility: candidate.retrieval_utility,
  }));
  const content = [
    element("p", { class: "filled", dir: "auto" }, withFilling(query, answer.text)),
    element(
      "div",
      { class: "columns" },
      fillingList("With retrieval", query, filled.fillings, (f) => f.probability),
      fillingList("Without retrieval", query, filled.fillings_without_retrieval, (f) => f.probability_without_retrieval),
    ),
    evidenceTable(`What each passage does for “${answer.text}”`, rows, ABOUT_NULL),
  ];
  const summary =
    `“${answer.text}”: ${percent(answer.probability)} with retrieval, ` +
    `${percent(answer.probability_without_retrieval)} without`;
  return { content, summary };
}

/**
 * @param {string} heading
 * @param {string} query
 * @param {import("./api.js").Filling[]} fillings
 * @param {(filling: import("./api.js").Filling) => number} shareOf
 */
function fillingList(heading, query, fillings, shareOf) {
  const items = fillings.map((filling) => {
    const bar = element("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(shareOf(filling)));
    const href = address("fill-mask", { text: query, filling: filling.text.replaceAll(" ... ", " ") });
    return element(
      "li",
      {},
      element("a", { href, dir: "auto" }, filling.text),
      bar,
      element("span", { class: "number" }, percent(shareOf(filling))),
    );
  });
  return element("section", { class: "card" }, element("h2", {}, heading), element("ol", { class: "fillings" }, items));
}

/**
 * The sentence with its gaps filled; several gaps' words come with " ... " between them.
 * @param {string} query
 * @param {string} filling
 */
function withFilling(query, filling) {
  const parts = query.split(GAP);
  const words = filling.split(" ... ");
  const isEach = words.length === parts.length - 1;
  return parts.map((part, place) => [
    place > 0 && element("mark", {}, isEach ? words[place - 1] : filling),
    part,
  ]);
}
