// YAML as people write it, so plain that every parser reads it in the same way.

import { isObject, type Json, type JsonObject } from "./data";

// Anything else is quoted, and so are texts that some version of YAML reads as another type.
const PLAIN = /^[A-Za-z/][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*$/;
const NO_TEXT = /^(y|n|yes|no|on|off|true|false|null)$/i;
// A longer key needs a question mark before it: https://yaml.org/spec/1.2.2/#rule-ns-s-implicit-yaml-key
const LONGEST_SIMPLE_KEY = 1000;

export function yaml(value: JsonObject): string {
  return lines(value).join("\n") + "\n";
}

function lines(value: JsonObject | Json[]): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => hung(lines, "- ", item));
  return Object.entries(value).flatMap(([name, item]) => field(scalar(name), item));
}

function field(name: string, value: Json): string[] {
  const [before, key] = name.length > LONGEST_SIMPLE_KEY ? [[`? ${name}`], ""] : [[], name];
  if (!isFilled(value)) return [...before, `${key}: ${scalar(value)}`];
  return [...before, `${key}:`, ...lines(value).map((line) => `  ${line}`)];
}

function hung(below: typeof lines, mark: string, value: Json): string[] {
  if (!isFilled(value)) return [mark + scalar(value)];
  return below(value).map((line, number) => (number ? "  " : mark) + line);
}

function isFilled(value: Json): value is JsonObject | Json[] {
  return Array.isArray(value) ? value.length > 0 : isObject(value) && Object.keys(value).length > 0;
}

function scalar(value: Json): string {
  if (typeof value === "string") return PLAIN.test(value) && !NO_TEXT.test(value) ? value : quoted(value);
  if (typeof value === "number") return numberText(value);
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "[]" : "{}";
  return String(value);
}

/** Write a number without an exponent, because some parsers read an exponent without a point before it as text. */
function numberText(value: number): string {
  return value !== 0 && Math.abs(value) < 1e-6 ? value.toFixed(15).replace(/0+$/, "") : String(value);
}

function quoted(text: string): string {
  const escaped = [...text].map((character) => (/[^ -~]/.test(character) ? escape(character) : character));
  return `"${escaped.join("").replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\u0000", "\\")}"`;
}

/** Escape a character, with U+0000 in place of the backslash for now. A lone surrogate becomes U+FFFD. */
function escape(character: string): string {
  const code = character.isWellFormed() ? (character.codePointAt(0) ?? 0) : 0xfffd;
  const digits = code.toString(16);
  return code > 0xffff ? `\u0000U${digits.padStart(8, "0")}` : `\u0000u${digits.padStart(4, "0")}`;
}
