// How is an element built from text, and never from markup?

/** @typedef {Node | string | null | undefined | false | any[]} Child a list holds the same */

/**
 * Build an element. Attributes that are functions become listeners ("onclick"), `true` an empty
 * attribute; `false`, `null` and `undefined` are left out. Strings are always text.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...Child} children
 * @returns {any} an HTMLElement of the tag's own kind
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") {
      made.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (value !== false && value != null) {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...nodes(children));
  return made;
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
export function nodes(children) {
  return /** @type {any[]} */ (children.flat(9)).filter((c) => c != null && c !== false);
}

let lastId = 0;

/** An id for a label or a description that no other element has. */
export function newId() {
  lastId += 1;
  return `e${lastId}`;
}

/**
 * Say something to those who do not see the page change.
 * @param {string} text
 */
export function announce(text) {
  const announcer = document.getElementById("announcer");
  if (announcer) announcer.textContent = text;
}

/**
 * A bar as long as a share is great; the number itself stands beside it.
 * @param {number} share between 0 and 1
 */
export function bar(share) {
  const made = element("span", { class: "bar", "aria-hidden": "true" });
  made.style.setProperty("--share", String(Math.min(1, share)));
  return made;
}
