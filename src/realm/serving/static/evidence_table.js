// What does each candidate passage do to the prediction? (REALM, table 3)

import { bar, element } from "./dom.js";
import { percent } from "./format.js";
import { passage, source } from "./passages.js";

/**
 * @typedef {object} Row
 * @property {string | null} documentId `null` is the null passage
 * @property {string} title
 * @property {string} text
 * @property {{start?: number, end?: number}} place the passage's characters in its document
 * @property {number | null} start of the answer in the text
 * @property {number | null} end
 * @property {number} believed p(z|x)
 * @property {number} read p(y|z,x)
 * @property {number} contributed to p(y|x)
 * @property {number} [utility] log p(y|z,x) - log p(y|null,x)
 */

/**
 * What either way of asking says of a candidate, with what only one of them does.
 * @param {import("./api.js").Read} candidate
 * @param {Pick<Row, "start" | "end" | "read" | "contributed" | "utility">} said
 * @returns {Row}
 */
export function rowOf({ document_id, title, text, start, end, retrieval_probability }, said) {
  const place = { start: start ?? undefined, end: end ?? undefined };
  return { documentId: document_id, title, text, place, believed: retrieval_probability, ...said };
}

/**
 * The candidates by what they contribute, the null passage last. Roles are written out because
 * a table that a narrow window shows as cards would lose its own.
 * @param {string} caption
 * @param {Row[]} rows
 * @param {string} aboutNull what the null passage means here
 */
export function evidenceTable(caption, rows, aboutNull) {
  const columns = ["Passage z", "p(z|x)", "p(y|z,x)", "contributes"];
  if (rows.some((row) => row.utility !== undefined)) columns.push("utility");
  const headers = columns.map((name) => element("th", { role: "columnheader", scope: "col" }, name));
  const ordered = [...rows].sort((a, b) => rank(b) - rank(a));
  return element("table", { class: "evidence", role: "table" },
    element("caption", {}, caption),
    element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, headers)),
    element("tbody", { role: "rowgroup" }, ordered.map((row) => tableRow(row, columns, aboutNull))));
}

/** @param {Row} row */
function rank({ documentId, believed, contributed }) {
  return documentId === null ? -1 : contributed + believed * 1e-9; // ties by p(z|x)
}

/**
 * @param {Row} row
 * @param {string[]} columns
 * @param {string} aboutNull
 */
function tableRow({ documentId, title, text, place, start, end, believed, read, contributed, utility }, [, ...columns], aboutNull) {
  const isNull = documentId === null;
  const what = isNull
    ? [element("strong", {}, "The null passage"), element("p", { class: "soft" }, aboutNull)]
    : [source(documentId, title, place), passage(text, start, end, 130)];
  const shares = [believed, read, contributed].map((share) => [element("span", { class: "number" }, percent(share)), bar(share)]);
  const cells = [...shares, element("span", { class: "number" }, isNull ? "–" : signed(utility ?? 0))];
  return element("tr", { role: "row", class: isNull ? "null" : null },
    element("th", { role: "rowheader", scope: "row" }, what),
    columns.map((name, number) => element("td", { role: "cell", "data-name": name }, cells[number])));
}

/** @param {number} number */
function signed(number) {
  return `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(2)}`;
}
