// The selection: the text of each control, by its name. Resources and a link are made from these texts.

import {
  fieldSchema,
  valueAt,
  type Data,
  type Field,
  type Json,
  type JsonObject,
  type ResourceKey,
  type Schema,
} from "./data";

/** The longest text that a control takes: as long as the longest list that the schema allows (64 items of 1,024). */
export const LONGEST_TEXT = 64 * 1025;
// Of a setting in a link that this page does not know.
const LONGEST_SHOWN = 80;

// Invisible characters: control characters, which a terminal obeys in a pasted command, and those that reverse text.
const UNSEEN = /[^\P{C}\n\t]/gu;

// A number as a person writes it. Any other text stays a text, and is refused because of its type.
const NUMBER = /^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?$/;

/** One thing to choose. */
export interface Choice {
  /** The name in links, and the id of elements. */
  readonly key: string;
  readonly resource: ResourceKey;
  /** The path in the resource, from the root; empty if the choice is not in it. */
  readonly path: string;
  readonly label: string;
  readonly schema: Schema;
  /** The initial value, as text. */
  readonly initial: string;
  readonly isWritten: boolean;
  readonly titles: Field["choices"];
}

export type Selection = Map<string, string>;

export const NAME = "name";
const SERVER_NAME = "kimi";
/** Whether the Helm values contain the benchmark. */
export const MEASURED = "helm.benchmark";
export const BENCHMARK_NAME = "benchmark.name";

/** Return all choices, in the order of their resources. */
export function choices(data: Data): Choice[] {
  return [
    nameChoice("server", NAME, "Name", SERVER_NAME, data),
    ...resourceChoices(data, "server", ""),
    nameChoice("benchmark", BENCHMARK_NAME, "Name of the benchmark", "", data),
    ...resourceChoices(data, "benchmark", "benchmark."),
    measuredChoice(),
  ];
}

/** Return the only choice that belongs to no field: whether the Helm values contain the benchmark, too. */
function measuredChoice(): Choice {
  const description = "The chart then applies the benchmark with the server. It waits until the server is Ready.";
  const schema = { type: "boolean", description };
  const label = "Also in the Helm values";
  return {
    key: MEASURED,
    resource: "benchmark",
    path: "",
    label,
    schema,
    initial: "false",
    isWritten: false,
    titles: {},
  };
}

function nameChoice(resource: ResourceKey, key: string, label: string, initial: string, data: Data): Choice {
  const schema = fieldSchema(data[resource], "metadata.name");
  return { key, resource, path: "metadata.name", label, schema, initial, isWritten: true, titles: {} };
}

function resourceChoices(data: Data, resource: ResourceKey, prefix: string): Choice[] {
  const fields = data[resource].groups.flatMap((group) => group.fields);
  const made = fields.map(({ path, label, isWritten, choices: titles }): Choice => {
    const schema = fieldSchema(data[resource], `spec.${path}`);
    return {
      key: prefix + path,
      resource,
      path: `spec.${path}`,
      label,
      schema,
      initial: initialText(schema),
      isWritten,
      titles,
    };
  });
  const order = paths(data[resource].schema);
  return made.sort((one, other) => order.indexOf(one.path) - order.indexOf(other.path));
}

function paths(schema: Schema, path = ""): string[] {
  const below = Object.entries(schema.properties ?? {});
  return [path, ...below.flatMap(([name, field]) => paths(field, path ? `${path}.${name}` : name))];
}

/** Return the initial text of a control: empty if the default can be shown beside an empty field. */
function initialText({ type, enum: values, default: value, items }: Schema): string {
  if (items?.properties)
    return Array.isArray(value) ? value.map((item) => String(valueAt(item, "name"))).join("\n") : "";
  if (Array.isArray(value)) return value.map(String).join("\n");
  if (type === "boolean") return String(value ?? false);
  return values && value !== undefined ? String(value) : "";
}

/** Return the value of a field for a text; undefined if the field is left out. */
function valueOf({ type, enum: values, items }: Schema, text: string): Json | undefined {
  if (type === "boolean") return text === "true";
  if (type === "array")
    return linesOf(text).map((line) => (items?.properties ? { name: line } : scalarOf(items ?? {}, line)));
  if (type === "object") return mapOf(text);
  if (text === "") return undefined;
  return values ? (values.find((value) => String(value) === text) ?? text) : scalarOf({ type }, text);
}

function scalarOf({ type }: Pick<Schema, "type">, text: string): Json {
  return (type === "integer" || type === "number") && NUMBER.test(text) ? Number(text) : text;
}

export function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
}

function mapOf(text: string): JsonObject {
  const pairs = linesOf(text).map((line) => {
    const [name = "", ...value] = line.split("=");
    return [name.trim(), value.join("=").trim()];
  });
  return Object.fromEntries(pairs);
}

export function textOf(selection: Selection, choice: Choice): string {
  return selection.get(choice.key) ?? choice.initial;
}

/** Return the allowed part of a text: a link may carry texts that nobody could type into the control. */
function tidied(choice: Choice, text: string): string | undefined {
  const { schema } = choice;
  if (schema.enum) return schema.enum.map(String).includes(text) ? text : undefined;
  if (schema.type === "boolean") return text === "true" || text === "false" ? text : undefined;
  if (schema.items?.properties)
    return linesOf(choice.initial)
      .filter((name) => linesOf(text).includes(name))
      .join("\n");
  const isLong = schema.type === "array" || schema.type === "object";
  const lines = text.slice(0, LONGEST_TEXT).toWellFormed().replace(/\r\n?/g, "\n").replace(UNSEEN, "\ufffd");
  return isLong ? lines : lines.replaceAll("\n", " ").trim();
}

export function choose(selection: Selection, choice: Choice, text: string): void {
  const kept = tidied(choice, text);
  if (kept === undefined) return;
  if (kept === choice.initial) selection.delete(choice.key);
  else selection.set(choice.key, kept);
}

/** Return the part of a link that carries a selection. */
export function fragment(selection: Selection): string {
  return new URLSearchParams([...selection].sort()).toString();
}

/** What a link carries: a selection, and the settings that this page does not know, as `name=value`. */
export interface Carried {
  selection: Selection;
  unknown: string[];
}

/** Return what a link carries. A link may come from another version, or its end may be cut off. */
export function carriedBy(all: readonly Choice[], hash: string): Carried {
  const selection: Selection = new Map();
  const unknown: string[] = [];
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const choice = all.find((candidate) => candidate.key === key);
    if (choice) choose(selection, choice, text);
    unknown.push(...unknownParts(choice, text).map((part) => shown(`${key}=${part}`)));
  }
  return { selection, unknown };
}

/** Return the parts of a text that a choice does not offer. */
function unknownParts(choice: Choice | undefined, text: string): string[] {
  const kept = choice && tidied(choice, text);
  if (kept === undefined) return [text];
  // A list of offered names loses the other names.
  return choice?.schema.items?.properties ? linesOf(text).filter((name) => !linesOf(kept).includes(name)) : [];
}

function shown(text: string): string {
  return text.slice(0, LONGEST_SHOWN).toWellFormed().replace(UNSEEN, "\ufffd");
}

/** Return a resource with the chosen values, without defaults. */
export function manifest(data: Data, all: readonly Choice[], selection: Selection, resource: ResourceKey): JsonObject {
  const found: JsonObject = { apiVersion: data.apiVersion, kind: data[resource].kind, metadata: {}, spec: {} };
  if (resource === "benchmark") put(found, "spec.serverRef.name", serverName(selection));
  for (const choice of all.filter(({ resource: of, path }) => of === resource && path)) {
    const text = textOf(selection, choice);
    const value = nameOf(choice, selection) ?? valueOf(choice.schema, text);
    if (value !== undefined && (choice.isWritten || text !== choice.initial)) put(found, choice.path, value);
  }
  return found;
}

function nameOf(choice: Choice, selection: Selection): string | undefined {
  if (choice.key === NAME) return serverName(selection);
  return choice.key === BENCHMARK_NAME ? selection.get(BENCHMARK_NAME) || benchmarkName(selection) : undefined;
}

function serverName(selection: Selection): string {
  return selection.get(NAME) ?? SERVER_NAME;
}

/** Return the name for a benchmark if the person has chosen none. */
export function benchmarkName(selection: Selection): string {
  return `${serverName(selection)}-recipe`;
}

function put(object: JsonObject, path: string, value: Json): void {
  const names = path.split(".");
  const last = names.pop() ?? "";
  let node = object;
  for (const name of names) node = (node[name] ??= {}) as JsonObject;
  node[last] = value;
}
