// What do the documents answer, and where does it stand?

import { answer, retrieve } from "./api.js";
import { element } from "./dom.js";
import { count, inWords, percent } from "./format.js";
import { createInquiry } from "./inquiry.js";
import { unavailable } from "./notices.js";
import { passage } from "./passages.js";
import { createQuestionForm, exampleButtons, queryOf, questionOf } from "./question_form.js";
import { address, documentAddress } from "./routes.js";

/** @param {import("./page.js").App} app */
export function askView(app) {
  const { can, examples } = app.info;
  const form = createQuestionForm({
    label: "Your question",
    submit: can.answer ? "Ask" : "Search",
    onask: (question) => app.go(address("ask", queryOf(question)), true),
  });
  const inquiry = createInquiry(form);
  const heading = element("h1", { tabindex: -1 }, "Ask the documents");
  const view = element("div", { class: "narrow" }, heading);
  if (can.answer || can.retrieve) view.append(form.element);
  if (!can.answer) view.append(noReader(can.retrieve));
  view.append(inquiry.element);
  let shown = "";

  /** @param {import("./routes.js").Route} route */
  function enter({ query }, isForced = false) {
    const question = questionOf(query);
    form.fill(question);
    const key = JSON.stringify([question, app.info.corpus_version]);
    if (key === shown && !isForced) return;
    shown = key;
    if (!question.q || !(can.answer || can.retrieve)) {
      const choose = (/** @type {string} */ q) => {
        form.input.focus();
        app.go(address("ask", { q }));
      };
      const questions = examples.filter((example) => !example.includes("[MASK]"));
      inquiry.reset([can.answer || can.retrieve ? exampleButtons(questions.slice(0, 6), choose) : null]);
    } else if (can.answer) {
      inquiry.run((signal) => answer(question.q, question, signal), (answered) => answersOf(answered, question, app));
    } else {
      inquiry.run((signal) => retrieve(question.q, question.topK, signal), passagesOf);
    }
  }

  const name = (/** @type {import("./routes.js").Route} */ { query }) => query.q || "Ask";
  return { element: view, heading, input: form.input, enter, leave: inquiry.stop, name };
}

/**
 * @param {import("./api.js").Answered} answered
 * @param {import("./question_form.js").Question} question
 * @param {import("./page.js").App} app
 * @returns {import("./inquiry.js").Shown}
 */
function answersOf(answered, question, app) {
  app.noteVersion(answered.corpus_version);
  const { answers } = answered;
  const link = element("a", { href: address("why", queryOf(question)) }, "Why?");
  const cards = element("ol", { class: "cards" }, answers.map((one, place) => card(one, place)));
  if (!answered.abstained && answers.length) {
    const summary = `${count(answers.length, "answer")}, the first: ${answers[0].text}, ${percent(answers[0].probability)}`;
    return { content: [cards], summary, link };
  }
  const content = [abstention(answered, question), nearest(answers.length, cards)];
  return { content, summary: "The documents do not seem to answer this.", link };
}

/**
 * @param {import("./api.js").Answered} answered
 * @param {import("./question_form.js").Question} question
 */
function abstention({ answers, null_probability }, { minProbability }) {
  const best = answers.length ? answers[0].probability : 0;
  const why = answers.length
    ? `The best answer found has a probability of ${percent(best)}` +
      (minProbability > 0 ? `, and you asked for ${percent(minProbability)} at least.` : ".")
    : "No passage that was read holds an answer.";
  return element(
    "div",
    { class: "notice abstained" },
    element("h2", {}, "The documents do not seem to answer this"),
    element("p", {}, why, ` That none of the passages answers has ${percent(null_probability)}.`),
  );
}

/**
 * @param {number} number
 * @param {HTMLElement} cards
 */
function nearest(number, cards) {
  if (!number) return null;
  return element(
    "details",
    { class: "nearest" },
    element("summary", {}, `Show the nearest ${number === 1 ? "answer" : `${number} answers`} all the same`),
    cards,
  );
}

/**
 * @param {import("./api.js").Answer} answer
 * @param {number} place
 */
function card({ text, probability, document_id, start, end, passage: evidence }, place) {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(probability));
  return element(
    "li",
    { class: place ? "card" : "card first" },
    element("h2", { class: "answer", dir: "auto" }, text),
    element("p", { class: "probability" }, bar, element("strong", {}, percent(probability)), ` ${inWords(probability)}`),
    passage(evidence.text, evidence.answer_start, evidence.answer_end),
    source(document_id, evidence.title, start, end),
  );
}

/**
 * Where a passage comes from.
 * @param {string} id
 * @param {string} title
 * @param {number} start
 * @param {number} end
 */
function source(id, title, start, end) {
  return element(
    "p",
    { class: "source" },
    element("a", { href: documentAddress(id, start, end), dir: "auto" }, title || id),
    title && title !== id && element("code", { dir: "auto" }, id),
  );
}

/**
 * @param {Awaited<ReturnType<typeof retrieve>>} found
 * @returns {import("./inquiry.js").Shown}
 */
function passagesOf({ results }) {
  const { passages } = results[0];
  const cards = passages.map(({ document_id, title, text, start, end }) =>
    element("li", { class: "card" }, passage(text, null, null), source(document_id, title, start, end)),
  );
  return { content: [element("ol", { class: "cards" }, cards)], summary: `${count(passages.length, "passage")}, the nearest first` };
}

/** @param {boolean} canRetrieve */
function noReader(canRetrieve) {
  const why = "It has no reader that was fine-tuned on questions." +
    (canRetrieve ? " It can still find the passages that a question is about." : "");
  return unavailable("This run cannot answer questions", why, "realm finetune");
}
