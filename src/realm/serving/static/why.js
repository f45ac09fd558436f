// Why is this the answer: which passages were read, and what did each say?

import { answer } from "./api.js";
import { abstention } from "./ask.js";
import { element } from "./dom.js";
import { evidenceTable, rowOf } from "./evidence_table.js";
import { createQuestionForm, GAP, questionAddress, questionOf } from "./forms.js";
import { percent } from "./format.js";
import { inquiryView } from "./inquiry.js";
import { unavailable } from "./notices.js";
import { address } from "./routes.js";

const LEAD =
  "The model reads several passages z for a question x: p(z|x) is how much each is believed to help, " +
  "p(y|z,x) how surely the answer y is read from it alone. The words of all passages compete: where they " +
  "score high, a passage contributes more to the probability of y than the product of the two.";
const ABOUT_NULL =
  "It holds no words. Its p(z|x) is the belief that no passage helps; no answer can stand in it.";

/** @param {import("./page.js").App} app */
export function whyView(app) {
  const { can, examples } = app.info;
  const { form, fill } = createQuestionForm("Question to explain", "Explain",
    (question) => app.go(questionAddress("why", question), true));
  return inquiryView(app, {
    title: "Why this answer?",
    lead: LEAD,
    notice: !can.answer && unavailable("This run cannot answer questions",
      "So there is no answer to explain: it has no reader that was taught to answer.", "realm finetune"),
    form: can.answer ? form : null,
    read: questionOf,
    fill,
    ask: (question, signal) => answer(question.q, { ...question, candidates: true }, signal),
    show: (answered, question) => candidatesOf(answered, question, app),
    examples: examples.filter((example) => !example.includes(GAP)),
    addressOf: (q) => address("why", { q }),
  });
}

/**
 * @param {import("./api.js").Answered} answered
 * @param {import("./forms.js").Question} question
 * @param {import("./page.js").App} app
 * @returns {import("./inquiry.js").Shown}
 */
function candidatesOf(answered, question, app) {
  app.noteVersion(answered.corpus_version);
  const [first] = answered.answers;
  const rows = (answered.candidates ?? []).map((candidate) => rowOf(candidate, {
    start: candidate.answer_start, end: candidate.answer_end,
    read: candidate.reading_probability, contributed: candidate.contribution,
  }));
  const link = element("a", { href: questionAddress("ask", question) }, "All answers");
  const none = `that there is none: ${percent(answered.null_probability)}`;
  const summary = first ? `y is “${first.text}”, ${percent(first.probability)}; ${none}` : `No answer; ${none}`;
  const caption = first ? `What each passage does for “${first.text}”` : "The passages that were read";
  return {
    content: [answered.abstained && abstention(answered, question), evidenceTable(caption, rows, ABOUT_NULL)],
    summary: [summary],
    link,
  };
}
