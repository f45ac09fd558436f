// Which view does an address name, and with what in it?

/** @typedef {{view: string, id: string, query: Record<string, string>}} Route */

/**
 * `#/document/a%2Fb?start=3` is the view "document" of the id "a/b".
 * @param {string} hash
 * @returns {Route}
 */
export function parseRoute(hash) {
  const [path, search = ""] = split(hash.replace(/^#\/?/, ""), "?");
  const [view, id = ""] = split(path, "/");
  return { view: view || "ask", id: decoded(id), query: Object.fromEntries(new URLSearchParams(search)) };
}

/**
 * @param {string} view
 * @param {Record<string, string | number | null | undefined>} [query] empty values are left out
 * @param {string} [id]
 */
export function address(view, query = {}, id = "") {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  const path = id ? `${view}/${encodeURIComponent(id.toWellFormed?.() ?? id)}` : view;
  return `#/${path}${search ? `?${search}` : ""}`;
}

/**
 * The address of a document, with the characters that are to be seen in it.
 * @param {string} id
 * @param {number | null} [start]
 * @param {number | null} [end]
 * @param {string} [words] that stand there
 */
export function documentAddress(id, start, end, words) {
  return address("document", { start, end, words }, id);
}

/**
 * @param {string} text
 * @param {string} mark
 * @returns {[string, string?]}
 */
function split(text, mark) {
  const place = text.indexOf(mark);
  return place < 0 ? [text] : [text.slice(0, place), text.slice(place + 1)];
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // written by hand, with a lone percent sign
  }
}
