// The data that the generator (kimi_linear_operator.configurator) writes into the page.

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };
export type Severity = "error" | "warning";
export type ResourceKey = "server" | "benchmark";

export interface Check {
  readonly bound: string;
  readonly limit: number | string | Json[];
  /** {} stands for the actual number of items. */
  readonly message: string;
}

export interface Schema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: Json;
  readonly enum?: Json[];
  readonly required?: string[];
  readonly checks?: Check[];
  readonly properties?: { readonly [name: string]: Schema };
  readonly items?: Schema;
  readonly values?: Schema;
}

export interface Rule {
  readonly severity: Severity;
  readonly at: string;
  readonly expression: string;
  readonly message: string;
  /** The field to blame, from the root. */
  readonly path: string;
}

export interface Field {
  /** The path of the field, below the spec. */
  readonly path: string;
  readonly label: string;
  /** Whether the page writes the field even if its value is the default. */
  readonly isWritten: boolean;
  readonly choices: { readonly [value: string]: string };
}

export interface Group {
  readonly title: string;
  readonly about: string;
  readonly fields: Field[];
}

export interface Resource {
  readonly kind: string;
  readonly schema: Schema;
  readonly rules: Rule[];
  /** The first group is always shown. */
  readonly groups: Group[];
}

export interface Flag {
  readonly name: string;
  readonly fields: string[];
  readonly words: { readonly [value: string]: string | null };
}

export interface Data {
  readonly version: string;
  readonly apiVersion: string;
  readonly words: { readonly required: string; readonly integer: string; readonly number: string };
  readonly longestValue: number;
  readonly server: Resource;
  readonly benchmark: Resource;
  readonly suites: { readonly name: string; readonly about: string }[];
  readonly command: {
    readonly start: string;
    readonly lineBreak: string;
    readonly flags: Flag[];
    readonly more: string;
  };
  readonly docker: { readonly commands: string[]; readonly image: string; readonly packages: string };
  readonly image: {
    readonly field: string;
    readonly published: { readonly [version: string]: { readonly [hardware: string]: string } };
    readonly guess: { readonly [hardware: string]: string };
    readonly version: string;
  };
}

export function fieldSchema(resource: Resource, path: string): Schema {
  let node: Schema | undefined = resource.schema;
  for (const name of path.split(".")) node = node?.properties?.[name];
  if (!node) throw new Error(`${resource.kind} has no field ${path}`);
  return node;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Return the value at a path of an object, undefined if there is none. */
export function valueAt(value: unknown, path: string): unknown {
  let found: unknown = value;
  for (const name of path ? path.split(".") : []) {
    found = isObject(found) && Object.hasOwn(found, name) ? found[name] : undefined;
  }
  return found;
}
