// The shape of a resource: the checks of the models, in their words, and the defaults that they set.

import { isObject, type Check, type Data, type Json, type JsonObject, type Schema } from "./data";
import type { Problem } from "./problem";
import { beginning } from "./python";

type Words = Pick<Data, "words" | "longestValue">;

/** A value as the rules see it: whole numbers are integers of CEL. */
export type Declared = string | number | bigint | boolean | null | Declared[] | Map<string, Declared> | { [name: string]: Declared };

/** Return the problems with the shape of a value. */
export function shapeProblems(data: Words, schema: Schema, value: Json, path = ""): Problem[] {
  if (isObject(value)) return [...objectProblems(data, schema, value, path), ...failed(data, schema, value, path)];
  if (!Array.isArray(value)) return scalarProblems(data, schema, value, path);
  const ofList = failed(data, schema, value, path);
  // A list that is too long is refused before its items are checked.
  if (ofList.length > 0) return ofList;
  return value.flatMap((item, index) => shapeProblems(data, schema.items ?? {}, item, `${path}[${index}]`));
}

function objectProblems(data: Words, schema: Schema, value: JsonObject, path: string): Problem[] {
  const inside = (name: string) => (path ? `${path}.${name}` : name);
  if (schema.values) {
    const values = schema.values;
    return Object.entries(value).flatMap(([name, item]) => shapeProblems(data, values, item, inside(name)));
  }
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const item = value[name];
    if (item !== undefined) return shapeProblems(data, field, item, inside(name));
    return schema.required?.includes(name) ? [problem(data, inside(name), data.words.required, null)] : [];
  });
}

function scalarProblems(data: Words, schema: Schema, value: Json, path: string): Problem[] {
  if (schema.type === "integer" && !Number.isInteger(value)) return [problem(data, path, data.words.integer, value)];
  if (schema.type === "number" && typeof value !== "number") return [problem(data, path, data.words.number, value)];
  return failed(data, schema, value, path);
}

function failed(data: Words, schema: Schema, value: Json, path: string): Problem[] {
  const check = schema.checks?.find((candidate) => !isKept(candidate, value));
  return check ? [problem(data, path, check.message.replace("{}", String(sizeOf(value))), value)] : [];
}

function isKept({ bound, limit }: Check, value: Json): boolean {
  if (Array.isArray(limit)) return limit.includes(value);
  if (bound === "pattern") return new RegExp(String(limit), "u").test(String(value));
  const size = sizeOf(value);
  const most = Number(limit);
  if (bound === "exclusiveMaximum") return size < most;
  if (bound === "exclusiveMinimum") return size > most;
  return bound.startsWith("max") ? size <= most : size >= most;
}

/** Return the size that the bounds limit: a number itself, characters of a text, items of a list, keys of an object. */
function sizeOf(value: Json): number {
  if (typeof value === "number") return value;
  if (typeof value === "string") return [...value].length;
  return Array.isArray(value) ? value.length : Object.keys(value ?? {}).length;
}

function problem(data: Words, path: string, message: string, value: Json): Problem {
  return { severity: "error", path, message, value: shown(data, path, value) };
}

/** Return a value if it may be shown: if it is short, and not in the place of a Secret's name. */
function shown(data: Words, path: string, value: Json): string | number | null {
  if (path.toLowerCase().includes("secret")) return null;
  if (typeof value === "string") return beginning(value, data.longestValue);
  return typeof value === "number" ? value : null;
}

/** Return a value with the defaults of the schema, as the rules see it. */
export function declared(schema: Schema, value: Json): Declared {
  if (Array.isArray(value)) return value.map((item) => declared(schema.items ?? {}, item));
  if (typeof value === "number") return schema.type === "integer" ? BigInt(value) : value;
  if (!isObject(value)) return value;
  if (!schema.properties) {
    // A key of an object could be "constructor", by which the CEL library recognizes objects.
    return new Map(Object.entries(value).map(([name, item]) => [name, declared(schema.values ?? {}, item)]));
  }
  const fields = Object.entries(schema.properties).map(
    ([name, field]) => [name, field, value[name] ?? field.default] as const,
  );
  return Object.fromEntries(
    fields.flatMap(([name, field, item]) =>
      item === undefined || item === null ? [] : [[name, declared(field, item)]],
    ),
  );
}
