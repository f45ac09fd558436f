// Which documents does a file hold that was chosen or dropped here?
//
// As on the command line: a file's id is its name, its title its first heading or its name, and
// the text of Markdown and plain text stays as it is.

/** @typedef {import("./api.js").NewDocument} NewDocument */

export const KNOWN = [".txt", ".md", ".markdown", ".html", ".htm", ".jsonl"];

const HEADING = /^ {0,3}#{1,6}[ \t]+(.+?)[ \t]*#*[ \t]*$/m;
const HIDDEN = "head, iframe, noscript, object, script, style, svg, template, title, [hidden]";
const BLOCKS =
  "address, article, aside, blockquote, br, caption, dd, div, dl, dt, figcaption, figure, footer, form, h1, h2, h3, " +
  "h4, h5, h6, header, hr, li, main, nav, ol, p, pre, section, summary, table, tr, ul";

/**
 * @param {File} file
 * @returns {Promise<NewDocument[]>}
 * @throws {Error} that says what is wrong with the file
 */
export async function readFile(file) {
  const suffix = (/\.[^.]*$/.exec(file.name)?.[0] ?? "").toLowerCase();
  if (!KNOWN.includes(suffix)) {
    throw new Error(`only ${KNOWN.join(" ")} can be read here; realm documents add reads more`);
  }
  const text = decoded(await file.arrayBuffer());
  if (suffix === ".jsonl") return readJsonLines(text);
  const stem = file.name.slice(0, -suffix.length);
  if (suffix.startsWith(".htm")) return [readHtml(text, file.name, stem)];
  const heading = suffix === ".txt" ? null : HEADING.exec(text);
  return [withText({ id: file.name, title: heading ? heading[1].trim() : stem, text })];
}

/**
 * An id in small letters and dashes, made from a title.
 * @param {string} title
 */
export function slug(title) {
  const plain = title.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
  return plain.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 80);
}

/** @param {ArrayBuffer} bytes */
function decoded(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("it is not UTF-8 text: convert it to UTF-8");
  }
}

/**
 * @param {string} text
 * @returns {NewDocument[]}
 */
function readJsonLines(text) {
  const documents = text.split("\n").flatMap((line, place) => (line.trim() ? [readJsonLine(line, place + 1)] : []));
  if (!documents.length) throw new Error("it holds no documents");
  return documents;
}

/**
 * @param {string} line
 * @param {number} number
 * @returns {NewDocument}
 */
function readJsonLine(line, number) {
  let value;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error(`line ${number} is not valid JSON`);
  }
  const { id: given, title: named, text } = value ?? {};
  const [id, title] = [Number.isInteger(given) ? String(given) : given, named ?? ""];
  if ([id, title, text].some((part) => typeof part !== "string") || !id) {
    throw new Error(`line ${number} needs "id", "title" and "text"`);
  }
  if (!text.trim()) throw new Error(`line ${number} has no text`);
  return { id, title, text };
}

/**
 * The visible text of a web page. It is parsed into a document that never runs or loads anything.
 * @param {string} markup
 * @param {string} id
 * @param {string} stem
 */
function readHtml(markup, id, stem) {
  // Attributes go first: a policy that refuses inline styles also speaks up about those in here. Scripts
  // go before them, since what they compare (`i<n`) looks like the beginning of a tag.
  const shown = markup.replace(/<!--[\s\S]*?-->|<(script|style)\b[\s\S]*?<\/\1\b[^>]*>/gi, "");
  const bare = shown.replace(/<([a-z][^\s/<>]*)((?:"[^"]*"|'[^']*'|[^"'<>])*)>/gi, (_, name, rest) =>
    /\shidden(?=[\s=/]|$)/i.test(rest.replace(/"[^"]*"|'[^']*'/g, '""')) ? `<${name} hidden>` : `<${name}>`);
  const page = new DOMParser().parseFromString(bare, "text/html");
  const title = (page.querySelector("title")?.textContent ?? "").replace(/\s+/g, " ").trim();
  for (const hidden of page.querySelectorAll(HIDDEN)) hidden.remove();
  const walker = page.createTreeWalker(page.documentElement, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement?.closest("pre")) node.textContent = (node.textContent ?? "").replace(/\s+/g, " ");
  }
  for (const cell of page.querySelectorAll("td, th")) cell.append(" ");
  for (const block of page.querySelectorAll(BLOCKS)) {
    block.before("\n\n");
    block.after("\n\n");
  }
  const lines = (page.documentElement.textContent ?? "").split("\n").map((line) => line.trim());
  const text = lines.join("\n").replace(/\n{3,}/g, "\n\n").trim();
  return withText({ id, title: title || stem, text });
}

/** @param {NewDocument} document */
function withText(document) {
  if (!document.text.trim()) throw new Error("it holds no text");
  return document;
}
