// A problem with a resource, in the words of `kimi-linear validate`.

import type { Severity } from "./data";
import { asciiJson, floatText } from "./python";

export interface Problem {
  readonly severity: Severity;
  readonly path: string;
  /** What is wrong and the remedy; the recipe's own words take two lines. */
  readonly message: string;
  /** What the field holds, where that may be shown. A bigint is an integer, and so is a whole number as it was written. */
  readonly value: string | number | bigint | boolean | Decimal | null;
}

/** A number of a field that may hold decimals: Python writes 10 in it as 10.0. */
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

/** Return the errors as a comment for a shell: what `kimi-linear command` says instead of a command. */
export function refusal(errors: readonly Problem[]): string {
  return errors.map((problem) => `# Error: ${sentence(problem).split("\n").join("\n# ")}\n`).join("");
}

/** Return a message that can stand alone: the recipe's own words do, the others go on where a field's name ends. */
function sentence({ path, message }: Problem): string {
  return message.includes("\n") ? message : `${path} ${message}`;
}
