// Checks a resource as `kimi-linear validate` does.

import type { Data, JsonObject, ResourceKey } from "./data";
import type { Problem } from "./problem";
import { ruleTable, type RuleTable } from "./rules";
import { declared, shapeProblems, type Declared } from "./shape";

export interface Checked {
  readonly manifest: JsonObject;
  readonly problems: readonly Problem[];
  readonly errors: readonly Problem[];
  /** The resource with all defaults; empty if its shape is wrong. */
  readonly declared: Declared;
}

export class Checker {
  private readonly rules: RuleTable;
  private last: { readonly text: string; readonly checked: Checked } | undefined;

  constructor(
    private readonly data: Data,
    private readonly resource: ResourceKey,
  ) {
    this.rules = ruleTable(data[resource].rules);
  }

  /** Check a resource, unless it has not changed since the last check. */
  check(manifest: JsonObject): Checked {
    const text = JSON.stringify(manifest);
    if (this.last?.text !== text) this.last = { text, checked: this.checked(manifest) };
    return this.last.checked;
  }

  private checked(manifest: JsonObject): Checked {
    const { schema } = this.data[this.resource];
    const ofShape = shapeProblems(this.data, schema, manifest);
    const whole = ofShape.length > 0 ? {} : declared(schema, manifest);
    // Rules cannot be evaluated on a resource with a wrong shape.
    const problems = ofShape.length > 0 ? ofShape : this.rules(whole);
    return { manifest, problems, errors: problems.filter(({ severity }) => severity === "error"), declared: whole };
  }
}
