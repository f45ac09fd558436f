// What fills a gap in a sentence, and how much of that comes from the passages?

import { fillMask } from "./api.js";
import { bar, element } from "./dom.js";
import { evidenceTable, rowOf } from "./evidence_table.js";
import { createSentenceForm, GAP } from "./forms.js";
import { percent } from "./format.js";
import { inquiryView } from "./inquiry.js";
import { unavailable } from "./notices.js";
import { placeOf } from "./passages.js";
import { address } from "./routes.js";

/** @typedef {import("./api.js").Filling} Filling */

const LEAD =
  `Write a sentence with ${GAP} where words are missing. The model fills it twice: with the ` +
  "passages that it finds, and from what it remembers alone.";
const ABOUT_NULL = "It holds no words. Its p(y|z,x) is what the model says without reading anything.";
const ABOUT_UTILITY = "Utility is log p(y|z,x) − log p(y|null,x): above zero where a passage makes the words likelier than reading nothing.";
const BETWEEN_GAPS = " ... "; // how the server joins the words of several gaps

/** @param {import("./page.js").App} app */
export function fillMaskView(app) {
  const { can, examples } = app.info;
  const { form, fill } = createSentenceForm((sentence) => app.go(address("fill-mask", sentence), true));
  return inquiryView(app, {
    title: "Fill a gap",
    lead: LEAD,
    notice: !can.fill_mask && unavailable("This run cannot fill gaps",
      "It has no pre-trained reader that predicts missing words.", "realm pretrain"),
    form: can.fill_mask ? form : null,
    read: ({ text = "", filling = "" }) => ({ text: text.trim(), filling: filling.trim() }),
    fill,
    ask: ({ text, filling }, signal) => fillMask(text, filling, signal),
    show: fillingsOf,
    examples: examples.filter((example) => example.includes(GAP)),
    addressOf: (text) => address("fill-mask", { text }),
  });
}

/**
 * @param {import("./api.js").Filled} filled
 * @returns {import("./inquiry.js").Shown}
 */
function fillingsOf({ query, answer, candidates, fillings, fillings_without_retrieval }) {
  const rows = candidates.map((candidate) => {
    const [start, end] = placeOf(candidate.text, answer.text);
    const read = candidate.answer_probability, contributed = candidate.retrieval_probability * read;
    return rowOf(candidate, { start, end, read, contributed, utility: candidate.retrieval_utility });
  });
  const content = [
    element("p", { class: "filled", dir: "auto" }, withFilling(query, answer.text)),
    element("div", { class: "columns" },
      fillingList("With retrieval", query, fillings, (filling) => filling.probability),
      fillingList("Without retrieval", query, fillings_without_retrieval, (filling) => filling.probability_without_retrieval)),
    evidenceTable(`What each passage does for “${answer.text}”`, rows, ABOUT_NULL),
    element("p", { class: "soft small" }, ABOUT_UTILITY),
  ];
  const [withIt, without] = [percent(answer.probability), percent(answer.probability_without_retrieval)];
  return { content, summary: [`“${answer.text}”: ${withIt} with retrieval, ${without} without`] };
}

/**
 * Fillings, each of which can be looked into.
 * @param {string} heading
 * @param {string} query
 * @param {Filling[]} fillings
 * @param {(filling: Filling) => number} shareOf
 */
function fillingList(heading, query, fillings, shareOf) {
  const items = fillings.map((filling) => {
    const href = address("fill-mask", { text: query, filling: filling.text.replaceAll(BETWEEN_GAPS, " ") });
    const share = shareOf(filling);
    // A part of a word would be asked for as other wordpieces than it is.
    const isOfWords = !filling.text.split(BETWEEN_GAPS).some((words) => words.startsWith("##"));
    const text = isOfWords ? element("a", { href, dir: "auto" }, filling.text) : element("span", { dir: "auto" }, filling.text);
    return element("li", {}, text, bar(share), element("span", { class: "number" }, percent(share)));
  });
  return element("section", { class: "card" }, element("h2", {}, heading), element("ol", { class: "fillings" }, items));
}

/**
 * The sentence with its gaps filled.
 * @param {string} query
 * @param {string} filling
 */
function withFilling(query, filling) {
  const parts = query.split(GAP);
  const words = filling.split(BETWEEN_GAPS);
  const isEach = words.length === parts.length - 1;
  return parts.map((part, place) => [place > 0 && element("mark", {}, isEach ? words[place - 1] : filling), part]);
}
