// A problem with a resource, in the words of `kimi-linear validate`.

import type { Severity } from "./data";
import { asciiJson, floatText } from "./python";

export interface Problem {
  readonly severity: Severity;
  readonly path: string;
  /** The problem and its remedy. The recipe's own messages have two lines. */
  readonly message: string;
  /** The field's value, if it may be shown. An integer is a bigint, or a number without a fraction. */
  readonly value: string | number | bigint | boolean | Decimal | null;
}

/** A number of a field that may have decimals. Python writes such a number with decimals: 10 as 10.0. */
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

/** Return a message as a sentence. Messages begin with the field's name, except the recipe's own messages. */
function sentence({ path, message }: Problem): string {
  return message.includes("\n") ? message : `${path} ${message}`;
}
