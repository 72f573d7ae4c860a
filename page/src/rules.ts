// The rules of a resource: CEL, evaluated as the API server and the operator do.

import { parse } from "@marcbachmann/cel-js";
import { valueAt, type Rule } from "./data";
import { Decimal, type Problem } from "./problem";
import type { Declared } from "./shape";

export type RuleTable = (resource: Declared) => Problem[];

/** Compile rules, in the order in which their problems are listed. */
export function ruleTable(rules: readonly Rule[]): RuleTable {
  const compiled = rules.map((rule) => ({ rule, isMet: parse(rule.expression) }));
  return (resource) =>
    compiled
      .filter(({ rule, isMet }) => {
        const self = valueAt(resource, rule.at);
        // If its field is absent, a rule is met.
        return self !== undefined && isMet({ self }) !== true;
      })
      .map(({ rule }) => ({ ...rule, value: scalarAt(resource, rule.path) }));
}

function scalarAt(resource: Declared, path: string): Problem["value"] {
  const value = valueAt(resource, path);
  if (typeof value === "number") return new Decimal(value);
  return typeof value === "string" || typeof value === "bigint" || typeof value === "boolean" ? value : null;
}
