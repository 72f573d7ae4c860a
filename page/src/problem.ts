// A problem with a resource, in the words of `kimi-linear validate`.

import type { Severity } from "./data";
import { asciiJson, floatText } from "./python";

export interface Problem {
  readonly severity: Severity;
  readonly path: string;
  /** The problem and its remedy; the recipe's own words take two lines. */
  readonly message: string;
  /** The field's value, if it may be shown. A bigint is an integer, and so is a whole number as it was written. */
  readonly value: string | number | bigint | boolean | Decimal | null;
}

/** A number of a field that may have decimals: Python writes 10 there as 10.0. */
export class Decimal {
  constructor(readonly value: number) {}
}

export function problemLine(problem: Problem): string {
  const value = problem.value === null ? "" : `${valueText(problem.value)}: `;
  return `${problem.severity}: ${problem.path}: ${value}${problem.message.split("\n").join(". ")}`;
}

function valueText(value: NonNullable<Problem["value"]>): string {
  if (typeof value === "string") return asciiJson(value);
  if (value instanceof Decimal) return floatText(value.value);
  return typeof value === "number" && !Number.isInteger(value) ? floatText(value) : String(value);
}

/** Return the errors as a shell comment, as `kimi-linear command` prints them instead of a command. */
export function refusal(errors: readonly Problem[]): string {
  return errors.map((problem) => `# Error: ${sentence(problem).split("\n").join("\n# ")}\n`).join("");
}

/** Return a message that can stand alone: the recipe's own words can, others need the field's name first. */
function sentence({ path, message }: Problem): string {
  return message.includes("\n") ? message : `${path} ${message}`;
}
