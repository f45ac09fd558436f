// Which view is shown, and what is the same around all of them?

import { info } from "./api.js";
import { askView } from "./ask.js";
import { documentView } from "./document.js";
import { documentsView } from "./documents.js";
import { element } from "./dom.js";
import { fillMaskView } from "./fill_mask.js";
import { age, count } from "./format.js";
import { opening } from "./opening.js";
import { parseRoute } from "./routes.js";
import { whyView } from "./why.js";

/**
 * @typedef {object} View
 * @property {HTMLElement} element
 * @property {HTMLElement} heading
 * @property {HTMLInputElement | null} input what a slash leads to
 * @property {(route: import("./routes.js").Route, isForced: boolean) => void} enter
 * @property {() => void} leave
 * @property {(route: import("./routes.js").Route) => string} name for the window's title
 * @property {() => void} [retell] what the server says of itself has changed
 * @property {() => void} [escape]
 */

/**
 * What views may ask of the page.
 * @typedef {object} App
 * @property {import("./api.js").Info} info
 * @property {(hash: string, isForced?: boolean) => void} go to an address; forced, even if it is this one
 * @property {(hash: string) => void} rename the address of what is shown
 * @property {() => boolean} canGoBack
 * @property {(version: string) => void} noteVersion of the corpus, that an answer came from or an edit made
 */

/** @type {Record<string, (app: App) => View>} */
const VIEWS = { ask: askView, why: whyView, "fill-mask": fillMaskView, documents: documentsView, document: documentView };

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
const about = /** @type {HTMLElement} */ (document.getElementById("about"));

/** @typedef {{view: View, scroll: number, focus: Element | null}} Kept */

/** @type {Map<string, Kept>} */
const kept = new Map();
let current = "";
let depth = 0; // of what is shown, in the entries of this page's history
let numDescribed = 0;
let isForced = false;

/** @param {import("./api.js").Info} facts */
function start(facts) {
  /** @type {App} */
  const app = {
    info: facts,
    go(hash, forced = false) {
      isForced = forced;
      if (location.hash === hash) show(app);
      else location.hash = hash;
    },
    rename: (hash) => history.replaceState(history.state, "", hash),
    canGoBack: () => depth > 1,
    noteVersion(version) {
      if (version === app.info.corpus_version) return;
      app.info.corpus_version = version; // at once: the next click must not find what was kept from before
      void refreshInfo(app);
    },
  };
  describe(facts);
  addEventListener("hashchange", () => show(app));
  show(app);
}

/** @param {App} app */
async function refreshInfo(app) {
  const own = (numDescribed += 1);
  const facts = await info().catch(() => app.info);
  if (own !== numDescribed) return; // asked before the latest edit
  app.info = facts;
  describe(facts);
  for (const { view } of kept.values()) view.retell?.();
}

/** @param {App} app */
function show(app) {
  const route = routeHere();
  depth = history.state?.depth ?? depth + 1; // an entry that was gone back to knows its place
  history.replaceState({ depth }, "");
  if (route.view !== current) change(route.view, app);
  const { view } = /** @type {Kept} */ (kept.get(current));
  view.enter(route, isForced);
  isForced = false;
  document.title = `${view.name(route)} – REALM`;
}

/** Where the address leads: to the questions, if it names no view. */
function routeHere() {
  const route = parseRoute(location.hash);
  return Object.hasOwn(VIEWS, route.view) ? route : { ...route, view: "ask", id: "" };
}

/**
 * Put another view in place of the present one, as it was left, with its scroll and its focus.
 * @param {string} name
 * @param {App} app
 */
function change(name, app) {
  const left = kept.get(current);
  if (left) {
    Object.assign(left, { scroll: scrollY, focus: document.activeElement });
    left.view.leave();
  }
  const found = kept.get(name) ?? { view: VIEWS[name](app), scroll: 0, focus: null };
  kept.set(name, found);
  current = name;
  pointAt(name);
  main.replaceChildren(found.view.element);
  const isAsking = name === "ask" && !location.hash.includes("?");
  const before = main.contains(found.focus) ? found.focus : found.view.heading;
  const focus = isAsking && found.view.input ? found.view.input : before;
  if (focus instanceof HTMLElement) focus.focus({ preventScroll: true });
  scrollTo(0, found.scroll);
}

/** @param {import("./api.js").Info} facts */
function describe({ name, model, snapshot, snapshot_age_seconds, corpus_version, num_documents, num_passages }) {
  const made = snapshot_age_seconds === null ? "Snapshot" : `Snapshot made ${age(snapshot_age_seconds)}`;
  about.replaceChildren(
    element("p", {},
      element("span", {}, `Run ${name}`),
      version("Model ", model),
      element("span", { title: snapshot }, made),
      element("span", {}, `${count(num_passages, "passage")} of ${count(num_documents, "document")}`),
      version("Corpus ", corpus_version),
    ),
  );
}

/** @param {string} name of the view that the navigation shows as the present one */
function pointAt(name) {
  for (const link of document.querySelectorAll("[data-view]")) {
    if (link.getAttribute("data-view") === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/**
 * A version, which a fingerprint's first digits tell from others well enough.
 * @param {string} what
 * @param {string} whole
 */
function version(what, whole) {
  const short = whole.replace(/[0-9a-f]{9,}/g, (digits) => digits.slice(0, 8));
  return element("span", { title: whole }, what, element("code", {}, short));
}

/** Wait until the server says what it can do; what was written meanwhile stays. */
function begin() {
  const { hash } = location;
  const { view, query } = routeHere();
  pointAt(view);
  opening(main, view === "ask" ? query : null, (facts, input) => {
    const isWriting = document.activeElement === input;
    start(facts);
    const box = current === "ask" && kept.get(current)?.view.input;
    if (box && location.hash === hash) box.value = input.value;
    if (!box || !isWriting) return;
    box.focus();
    box.setSelectionRange(input.selectionStart, input.selectionEnd);
  });
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey;
  if (!isPlain || event.isComposing || document.querySelector("dialog[open]")) return;
  const view = kept.get(current)?.view;
  const { target } = event;
  const isTyping = target instanceof HTMLElement && target.matches("input:not([type=file]), textarea, select");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    if (view?.input) view.input.select();
    else location.hash = "#/ask";
  } else if (event.key === "Escape") {
    if (target === view?.input && view?.input?.value) {
      view.input.value = "";
      view.input.dispatchEvent(new Event("input"));
    } else if (!isTyping) view?.escape?.();
  }
}

addEventListener("keydown", onKey);
// A file that misses the place for it would replace the page; words that are dropped may go into a box.
for (const name of /** @type {("dragover" | "drop")[]} */ (["dragover", "drop"])) {
  addEventListener(name, (event) => {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
  });
}
document.getElementById("skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // its address would be taken for a view's
  main.focus();
});
begin();
