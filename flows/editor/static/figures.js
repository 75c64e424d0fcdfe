// Numbers as people read them.

export const count = (number) => number.toLocaleString("en");
export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
export const signed = (number) => `${number > 0 ? "+" : "−"}${Math.abs(number).toFixed(2)}`;
export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

export function minutes(number) {
  if (number < 1 / 60) return "under a second";
  if (number < 1) return `${(60 * number).toFixed(0)} s`;
  return number < 120 ? `${number.toFixed(1)} min` : `${(number / 60).toFixed(1)} h`;
}

/** A value of a field on one line. */
export function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 90 ? `${text.slice(0, 89)}…` : text;
}
