// How does a number read to a person?

/** @type {[number, string][]} */
const SURENESS = [
  [0.9, "almost certain"],
  [0.7, "likely"],
  [0.5, "more likely than not"],
  [0.25, "possible"],
  [0.095, "doubtful"],
  [0, "a guess"],
];

/** @type {[number, Intl.RelativeTimeFormatUnit][]} */
const UNITS = [
  [86400 * 365, "year"],
  [86400 * 30, "month"],
  [86400 * 7, "week"],
  [86400, "day"],
  [3600, "hour"],
  [60, "minute"],
];

/** @param {number} probability */
export function inWords(probability) {
  const found = SURENESS.find(([least]) => probability >= least);
  return found ? found[1] : "a guess";
}

/**
 * A share as a percentage that is never rounded to certainty or to nothing.
 * @param {number} share between 0 and 1
 */
export function percent(share) {
  const value = share * 100;
  if (value === 0) return "0%";
  if (value < 0.1) return "<0.1%";
  if (value < 9.95) return `${value.toFixed(1)}%`;
  if (value > 99.5 && value < 100) return ">99%";
  return `${Math.round(value)}%`;
}

/** @param {number} seconds since something was made */
export function age(seconds) {
  const format = new Intl.RelativeTimeFormat("en-GB", { numeric: "auto" });
  for (const [length, unit] of UNITS) {
    if (seconds >= length) return format.format(-Math.floor(seconds / length), unit);
  }
  return "just now";
}

/**
 * @param {number} number
 * @param {string} one what is counted, as "document"
 */
export function count(number, one) {
  return `${number.toLocaleString("en-GB")} ${one}${number === 1 ? "" : "s"}`;
}

/** @param {number} milliseconds */
export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(1, Math.round(milliseconds))} ms`;
  return `${(milliseconds / 1000).toFixed(1)} s`;
}
