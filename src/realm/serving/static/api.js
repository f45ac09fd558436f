// What does the page ask of the server, and what does a refusal say?

import { askForToken, token } from "./token.js";

/** @typedef {{passage_id: number, title: string, text: string, answer_start: number, answer_end: number, retrieval_probability: number}} Evidence */
/** @typedef {{text: string, probability: number, document_id: string, start: number, end: number, passage: Evidence}} Answer */
/** @typedef {{passage_id: number | null, document_id: string | null, title: string, text: string, start: number | null, end: number | null, retrieval_probability: number}} Read */
/** @typedef {Read & {reading_probability: number, contribution: number, answer_start: number | null, answer_end: number | null}} Candidate */
/** @typedef {{question: string, answers: Answer[], null_probability: number, abstained: boolean, corpus_version: string, candidates?: Candidate[]}} Answered */
/** @typedef {{passage_id: number, document_id: string, title: string, text: string, score: number, start: number, end: number}} Found */
/** @typedef {{text: string, probability: number, probability_without_retrieval: number}} Filling */
/** @typedef {Read & {answer_probability: number, retrieval_utility: number}} FilledCandidate */
/** @typedef {{query: string, answer: Filling, retrieval_utility: number, candidates: FilledCandidate[], fillings: Filling[], fillings_without_retrieval: Filling[]}} Filled */
/** @typedef {{id: string, title: string, text: string}} NewDocument */
/** @typedef {{id: string, title: string, num_passages: number, origin: string}} Summary */
/** @typedef {{id: string, action: "added" | "replaced" | "removed", num_passages: number}} Edit */
/** @typedef {{name: string, model: string, snapshot: string, snapshot_age_seconds: number | null, corpus_version: string, num_documents: number, num_passages: number, can: {answer: boolean, retrieve: boolean, fill_mask: boolean, edit: boolean, add: boolean}, examples: string[]}} Info */

/** What the server refused, in its own words. */
export class Refusal extends Error {
  /**
   * @param {number} status 0 if the server could not be reached
   * @param {{title?: string, detail?: string}} problem
   * @param {number | null} retryAfter seconds
   */
  constructor(status, problem, retryAfter = null) {
    super(problem.detail || problem.title || `The server answered ${status}.`);
    this.status = status;
    this.title = problem.title ?? "";
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {string} question
 * @param {{topK: number, minProbability: number, candidates?: boolean}} options
 * @param {AbortSignal} signal
 * @returns {Promise<Answered>}
 */
export function answer(question, { topK, minProbability, candidates = false }, signal) {
  const body = { question, top_k: topK, min_probability: minProbability, candidates };
  return request("POST", "v1/answer", { body, signal });
}

/**
 * @param {string} question
 * @param {number} k
 * @param {AbortSignal} signal
 * @returns {Promise<{results: {passages: Found[]}[]}>}
 */
export function retrieve(question, k, signal) {
  return request("POST", "v1/retrieve", { body: { queries: [question], k }, signal });
}

/**
 * @param {string} text
 * @param {string} filling the one to look into, or nothing
 * @param {AbortSignal} signal
 * @returns {Promise<Filled>}
 */
export function fillMask(text, filling, signal) {
  const body = filling ? { text, answer: filling } : { text };
  return request("POST", "v1/fill-mask", { body, signal });
}

/** @returns {Promise<Info>} */
export function info() {
  return request("GET", "v1/info");
}

/**
 * @param {string} text that is in id, title or text
 * @param {string} after the id after which the list goes on
 * @param {AbortSignal} signal
 * @returns {Promise<{documents: Summary[], next: string | null}>}
 */
export function listDocuments(text, after, signal) {
  const query = new URLSearchParams({ text, after, limit: "50" });
  return request("GET", `v1/documents?${query}`, { signal });
}

/**
 * @param {string} id
 * @param {AbortSignal} [signal]
 * @returns {Promise<NewDocument & {origin: string, num_passages: number}>}
 */
export function readDocument(id, signal) {
  return request("GET", `v1/documents/${encodeURIComponent(id)}`, { signal });
}

/** @param {string} id that a document may have */
export async function isThere(id) {
  try {
    await readDocument(id);
    return true;
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return false;
    throw error;
  }
}

/**
 * @param {NewDocument[]} documents
 * @returns {Promise<{edits: Edit[], corpus_version: string}>}
 */
export function putDocuments(documents) {
  return request("POST", "v1/documents", { body: { documents } });
}

/**
 * @param {string} id
 * @returns {Promise<{edits: Edit[], corpus_version: string}>}
 */
export function removeDocument(id) {
  return request("DELETE", `v1/documents/${encodeURIComponent(id)}`);
}

/**
 * Ask, and ask for a token where one is needed.
 * @param {string} method
 * @param {string} path
 * @param {{body?: unknown, signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
async function request(method, path, options = {}) {
  for (;;) {
    const given = token();
    const response = await send(method, path, options, given);
    if (response.ok) return response.json();
    const refusal = await refusalOf(response);
    // A server without tokens also forbids; another token would not help there.
    const wantsToken = response.status === 401 || (response.status === 403 && given);
    if (!wantsToken || !(await askForToken(refusal.message))) throw refusal;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{body?: unknown, signal?: AbortSignal}} options
 * @param {string | null} given
 */
async function send(method, path, { body, signal }, given) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (given) headers.Authorization = `Bearer ${given}`;
  try {
    return await fetch(path, { method, headers, body: JSON.stringify(body), signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, { detail: "Nothing answered. Check that realm serve is still running, then try again." });
  }
}

/** @param {Response} response */
async function refusalOf(response) {
  const problem = await response.json().catch(() => ({}));
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return new Refusal(response.status, problem, Number.isNaN(seconds) ? null : seconds);
}
