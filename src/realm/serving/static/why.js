// Why is this the answer: which passages were read, and what did each say?

import { answer } from "./api.js";
import { element } from "./dom.js";
import { evidenceTable } from "./evidence_table.js";
import { percent } from "./format.js";
import { createInquiry } from "./inquiry.js";
import { unavailable } from "./notices.js";
import { createQuestionForm, exampleButtons, queryOf, questionOf } from "./question_form.js";
import { address } from "./routes.js";

const ABOUT_NULL =
  "It holds no words. Its p(z|x) is the belief that no passage helps; no answer can stand in it.";

/** @param {import("./page.js").App} app */
export function whyView(app) {
  const { can, examples } = app.info;
  const form = createQuestionForm({
    label: "Question to explain",
    submit: "Explain",
    onask: (question) => app.go(address("why", queryOf(question)), true),
  });
  const inquiry = createInquiry(form);
  const heading = element("h1", { tabindex: -1 }, "Why this answer?");
  const view = element("div", { class: "wide" }, heading);
  if (can.answer) view.append(element("p", { class: "lead" }, LEAD), form.element, inquiry.element);
  else view.append(unavailable("This run cannot answer questions", "So there is no answer to explain: it has no reader that was fine-tuned on questions.", "realm finetune"));
  let shown = "";

  /** @param {import("./routes.js").Route} route */
  function enter({ query }, isForced = false) {
    if (!can.answer) return;
    const question = questionOf(query);
    form.fill(question);
    const key = JSON.stringify([question, app.info.corpus_version]);
    if (key === shown && !isForced) return;
    shown = key;
    if (question.q) {
      const options = { ...question, candidates: true };
      inquiry.run((signal) => answer(question.q, options, signal), (answered) => candidatesOf(answered, question, app));
      return;
    }
    const choose = (/** @type {string} */ q) => {
      form.input.focus();
      app.go(address("why", { q }));
    };
    inquiry.reset([exampleButtons(examples.filter((example) => !example.includes("[MASK]")).slice(0, 6), choose)]);
  }

  const name = (/** @type {import("./routes.js").Route} */ { query }) => `Why? ${query.q ?? ""}`.trim();
  return { element: view, heading, input: can.answer ? form.input : null, enter, leave: inquiry.stop, name };
}

const LEAD =
  "The model reads several passages z for a question x. Each counts for as much as it is believed " +
  "to help, p(z|x), times how surely the answer y is read from it, p(y|z,x).";

/**
 * @param {import("./api.js").Answered} answered
 * @param {import("./question_form.js").Question} question
 * @param {import("./page.js").App} app
 * @returns {import("./inquiry.js").Shown}
 */
function candidatesOf(answered, question, app) {
  app.noteVersion(answered.corpus_version);
  const [first] = answered.answers;
  const rows = (answered.candidates ?? []).map((candidate) => ({
    documentId: candidate.passage_id === null ? null : candidate.document_id ?? "",
    title: candidate.title,
    text: candidate.text,
    start: candidate.answer_start,
    end: candidate.answer_end,
    believed: candidate.retrieval_probability,
    read: candidate.reading_probability,
  }));
  const link = element("a", { href: address("ask", queryOf(question)) }, "All answers");
  const none = `that there is none: ${percent(answered.null_probability)}`;
  const summary = first ? `y is “${first.text}”, ${percent(first.probability)}; ${none}` : `No answer was found; ${none}`;
  const caption = first
    ? `What each passage that was read does for “${first.text}”`
    : "The passages that were read";
  const notice = answered.abstained &&
    element("div", { class: "notice abstained" },
      element("h2", {}, "The documents do not seem to answer this"),
      element("p", {}, first ? "Below stands what speaks for the nearest answer." : "Nothing in these passages was read as an answer."));
  return { content: [notice, evidenceTable(caption, rows, ABOUT_NULL)], summary, link };
}
