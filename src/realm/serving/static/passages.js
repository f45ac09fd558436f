// Where in a text do the words stand that are to be seen?
//
// The server counts characters as Python does, in code points; a string of JavaScript counts
// UTF-16 units, two for an emoji. Every offset is turned here, and nowhere else.

import { element } from "./dom.js";
import { documentAddress } from "./routes.js";

/**
 * The place in a string that `points` code points come before.
 * @param {string} text
 * @param {number} points
 */
export function unitsBefore(text, points) {
  let units = 0;
  for (let seen = 0; seen < points && units < text.length; seen += 1) {
    units += /** @type {number} */ (text.codePointAt(units)) > 0xffff ? 2 : 1;
  }
  return units;
}

/**
 * A text with one part marked; the offsets count code points.
 * @param {string} text
 * @param {number | null | undefined} start
 * @param {number | null | undefined} end
 * @returns {(Node | string)[]}
 */
export function highlighted(text, start, end) {
  if (start == null || end == null || end <= start) return [text];
  const from = unitsBefore(text, start);
  const to = unitsBefore(text, end);
  if (from === to) return [text];
  return [text.slice(0, from), element("mark", {}, text.slice(from, to)), text.slice(to)];
}

/**
 * A passage with its answer marked; of a long one what stands around the answer, and a button
 * for the rest.
 * @param {string} text
 * @param {number | null} start
 * @param {number | null} end
 * @param {number} [around] UTF-16 units shown of a long passage on each side of the answer
 */
export function passage(text, start, end, around = 320) {
  const quote = element("blockquote", { class: "passage", dir: "auto" });
  const from = unitsBefore(text, start ?? 0);
  const to = unitsBefore(text, end ?? 0);
  const first = from <= around ? 0 : wordBreak(text, from - around);
  const last = to + around >= text.length ? text.length : wordBreak(text, to + around);
  const whole = highlighted(text, start, end);
  if (text.length <= 3 * around || (first === 0 && last === text.length)) {
    quote.append(...whole);
    return quote;
  }
  const more = element("button", { type: "button", class: "plain" }, "Show the whole passage");
  more.addEventListener("click", () => {
    quote.replaceChildren(...whole);
    quote.tabIndex = -1;
    quote.focus({ preventScroll: true });
  });
  const middle = to > from ? element("mark", {}, text.slice(from, to)) : "";
  quote.append(first > 0 ? "… " : "", text.slice(first, from), middle, text.slice(to, last));
  quote.append(last < text.length ? " … " : " ", more);
  return quote;
}

/**
 * Where words stand in a text, in code points; nowhere if they stand inside other words only.
 * @param {string} text
 * @param {string} words
 * @returns {[number, number] | [null, null]}
 */
export function placeOf(text, words) {
  const literal = words.replace(/[$()*+./?[\\\]^{|}]/g, "\\$&");
  const found = new RegExp(`(?<![\\p{L}\\p{N}])${literal}(?![\\p{L}\\p{N}])`, "iu").exec(text);
  if (!words || !found) return [null, null];
  const start = [...text.slice(0, found.index)].length;
  return [start, start + [...found[0]].length];
}

/**
 * Where words come from, one click away.
 * @param {string} id
 * @param {string} title
 * @param {{start?: number, end?: number, words?: string}} [place] characters of the document that are to be
 *   seen, and what they say
 * @param {import("./dom.js").Child[]} facts
 */
export function source(id, title, place = {}, ...facts) {
  const link = element("a", { href: documentAddress(id, place.start, place.end, place.words), dir: "auto" }, title || id);
  const name = title && title !== id && element("code", { dir: "auto" }, id);
  return element("p", { class: "source" }, link, name, facts);
}

/**
 * The end of the word at a place, or the place itself in a word that does not end soon.
 * @param {string} text
 * @param {number} place
 */
function wordBreak(text, place) {
  const space = text.indexOf(" ", place);
  if (space >= 0 && space - place < 40) return space + (place < text.length ? 1 : 0);
  const isInsidePair = /[\udc00-\udfff]/.test(text[place] ?? "");
  return isInsidePair ? place + 1 : place;
}
