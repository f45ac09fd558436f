// What do the documents answer, and where does it stand?

import { answer, retrieve } from "./api.js";
import { bar, element } from "./dom.js";
import { createQuestionForm, GAP, questionAddress, questionOf } from "./forms.js";
import { count, inWords, percent } from "./format.js";
import { inquiryView } from "./inquiry.js";
import { unavailable } from "./notices.js";
import { passage, source } from "./passages.js";
import { address } from "./routes.js";

/** @typedef {import("./forms.js").Question} Question */

export const TITLE = "Ask the documents";
export const LABEL = "Your question";

/** @param {import("./page.js").App} app */
export function askView(app) {
  const { can, examples } = app.info;
  const { form, fill } = createQuestionForm(LABEL, can.answer ? "Ask" : "Search",
    (question) => app.go(questionAddress("ask", question), true));
  return inquiryView(app, {
    title: TITLE,
    notice: !can.answer && noReader(can.retrieve),
    form: can.answer || can.retrieve ? form : null,
    read: questionOf,
    fill,
    ask: (question, signal) => can.answer ? answer(question.q, question, signal) : retrieve(question.q, question.topK, signal),
    show: (found, question) => can.answer ? answersOf(found, question, app) : passagesOf(found),
    examples: examples.filter((example) => !example.includes(GAP)),
    addressOf: (q) => address("ask", { q }),
  });
}

/**
 * @param {import("./api.js").Answered} answered
 * @param {Question} question
 * @param {import("./page.js").App} app
 * @returns {import("./inquiry.js").Shown}
 */
function answersOf(answered, question, app) {
  app.noteVersion(answered.corpus_version);
  const { answers } = answered;
  const [first] = answers;
  const link = element("a", { href: questionAddress("why", question) }, "Why?");
  const cards = element("ol", { class: "cards" }, answers.map(card));
  if (answered.abstained || !first) {
    return { content: [abstention(answered, question), first && nearest(answers.length, cards)], summary: ["No answer"], link };
  }
  // Who sees the page has the answer before the eyes; who listens hears it at once.
  const heard = element("span", { class: "unseen" }, `, the first: ${first.text}, ${percent(first.probability)}`);
  return { content: [cards], summary: [count(answers.length, "answer"), heard], link };
}

/**
 * @param {import("./api.js").Answered} answered
 * @param {Question} question
 */
export function abstention({ answers: [best], null_probability }, { minProbability }) {
  const asked = best && best.probability < minProbability ? `, and you asked for ${percent(minProbability)} at least` : "";
  const why = best
    ? `The best answer found has a probability of ${percent(best.probability)}${asked}.`
    : "No passage that was read holds an answer.";
  return element("div", { class: "notice" },
    element("h2", {}, "The documents do not seem to answer this"),
    element("p", {}, why, ` The probability that no passage answers it is ${percent(null_probability)}.`));
}

/**
 * @param {number} number
 * @param {HTMLElement} cards
 */
function nearest(number, cards) {
  const label = number === 1 ? "Show the nearest answer all the same" : `Show the ${number} nearest answers all the same`;
  return element("details", { class: "nearest" }, element("summary", {}, label), cards);
}

/**
 * @param {import("./api.js").Answer} answer
 * @param {number} place
 */
function card({ text, probability, document_id, start, end, passage: evidence }, place) {
  const { answer_start, answer_end } = evidence;
  return element("li", { class: place ? "card" : "card first" },
    element("h2", { class: "answer", dir: "auto" }, text),
    element("p", { class: "probability" }, bar(probability), element("strong", {}, percent(probability)), ` ${inWords(probability)}`),
    passage(evidence.text, answer_start, answer_end, place ? 130 : 320),
    source(document_id, evidence.title, { start, end, words: text }));
}

/**
 * @param {Awaited<ReturnType<typeof retrieve>>} found
 * @returns {import("./inquiry.js").Shown}
 */
function passagesOf({ results: [{ passages }] }) {
  const cards = passages.map((found) =>
    element("li", { class: "card" }, passage(found.text, null, null), source(found.document_id, found.title, found)));
  return { content: [element("ol", { class: "cards" }, cards)], summary: [`${count(passages.length, "passage")}, the nearest first`] };
}

/** @param {boolean} canRetrieve */
function noReader(canRetrieve) {
  const instead = canRetrieve ? " It can still find the passages that a question is about." : "";
  return unavailable("This run cannot answer questions", `It has no reader that was taught to answer.${instead}`, "realm finetune");
}
