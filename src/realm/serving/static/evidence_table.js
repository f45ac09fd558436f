// What does each candidate passage do to the prediction? (REALM, table 3)

import { element } from "./dom.js";
import { percent } from "./format.js";
import { passage } from "./passages.js";
import { documentAddress } from "./routes.js";

/**
 * @typedef {object} Row
 * @property {string | null} documentId `null` is the null passage
 * @property {string} title
 * @property {string} text
 * @property {number | null} start
 * @property {number | null} end
 * @property {number} believed p(z|x)
 * @property {number} read p(y|z,x)
 * @property {number} [utility] log p(y|z,x) - log p(y|null,x)
 */

/**
 * The candidates by what they contribute, the null passage last. Roles are written out because
 * a table that a narrow window shows as cards would lose its own.
 * @param {string} caption
 * @param {Row[]} rows
 * @param {string} aboutNull what the null passage means here
 */
export function evidenceTable(caption, rows, aboutNull) {
  const hasUtility = rows.some((row) => row.utility !== undefined);
  const columns = ["Passage z", "p(z|x)", "p(y|z,x)", "product"];
  if (hasUtility) columns.push("utility");
  const order = [...rows].sort((a, b) => rank(b) - rank(a));
  return element(
    "table",
    { class: "evidence", role: "table" },
    element("caption", {}, caption),
    element(
      "thead",
      { role: "rowgroup" },
      element("tr", { role: "row" }, columns.map((name) => element("th", { role: "columnheader", scope: "col" }, name))),
    ),
    element("tbody", { role: "rowgroup" }, order.map((row) => tableRow(row, columns, aboutNull))),
  );
}

/** @param {Row} row */
function rank({ documentId, believed, read }) {
  return documentId === null ? -1 : believed * read + believed * 1e-9; // ties by p(z|x)
}

/**
 * @param {Row} row
 * @param {string[]} columns
 * @param {string} aboutNull
 */
function tableRow(row, columns, aboutNull) {
  const isNull = row.documentId === null;
  const what = isNull
    ? [element("strong", {}, "The null passage"), element("p", { class: "soft" }, aboutNull)]
    : [
        element("a", { href: documentAddress(/** @type {string} */ (row.documentId)), dir: "auto" }, row.title || row.documentId),
        passage(row.text, row.start, row.end, 130),
      ];
  const shares = [row.believed, row.read, row.believed * row.read];
  const cells = shares.map((share, place) => shareCell(columns[place + 1], share));
  if (columns.length > 4) cells.push(utilityCell(columns[4], isNull ? null : row.utility));
  return element(
    "tr",
    { role: "row", class: isNull ? "null" : null },
    element("th", { role: "rowheader", scope: "row" }, what),
    cells,
  );
}

/**
 * @param {string} name
 * @param {number} share
 */
function shareCell(name, share) {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(Math.min(1, share)));
  return element("td", { role: "cell", "data-name": name }, element("span", { class: "number" }, percent(share)), bar);
}

/**
 * @param {string} name
 * @param {number | null | undefined} utility
 */
function utilityCell(name, utility) {
  const text = utility == null ? "–" : `${utility < 0 ? "−" : "+"}${Math.abs(utility).toFixed(2)}`;
  return element("td", { role: "cell", "data-name": name }, element("span", { class: "number" }, text));
}
