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

/** Where two texts differ, each with a few words around it. */
export function apart(old, now) {
  const [one, other] = [old.split(" "), now.split(" ")];
  const least = Math.min(one.length, other.length);
  let front = 0;
  while (front < least && one[front] === other[front]) front += 1;
  let back = 0;
  while (back < least - front && one[one.length - 1 - back] === other[other.length - 1 - back]) back += 1;
  const [from, to] = [Math.max(0, front - 3), Math.max(0, back - 3)];
  const cut = (words) => `${from ? "… " : ""}${words.slice(from, words.length - to).join(" ")}${to ? " …" : ""}`;
  return [cut(one), cut(other)];
}
