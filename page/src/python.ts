// Texts that must equal those of the command line, which Python writes.

/** Quote a word for a shell, as shlex.quote does. */
export function shellQuoted(word: string): string {
  if (word === "") return "''";
  return /[^A-Za-z0-9_@%+=:,./-]/.test(word) ? `'${word.replaceAll("'", `'"'"'`)}'` : word;
}

export function shellJoined(words: string[]): string {
  return words.map(shellQuoted).join(" ");
}

/** Write a number that may have decimals, as Python does. */
export function floatText(value: number): string {
  if (Number.isInteger(value)) return value.toFixed(1);
  if (Math.abs(value) >= 1e-4) return String(value);
  return value.toExponential().replace(/e-(\d)$/, "e-0$1");
}

/** Write a text as JSON with ASCII characters only. */
export function asciiJson(text: string): string {
  return JSON.stringify(text).replace(/[^ -~]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** Cut a text to this number of characters. A character of two JavaScript units counts as one. */
export function beginning(text: string, length: number): string {
  return text.length <= length ? text : [...text].slice(0, length).join("");
}
