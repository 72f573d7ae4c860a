// The commands that start the same server by hand, built from the generator's tables.

import { valueAt, type Data, type Flag } from "./data";
import { floatText, shellJoined } from "./python";
import type { Declared } from "./shape";

/** Return the command that starts a server. */
export function serverCommand({ command }: Data, spec: Declared): string {
  const flags = command.flags.flatMap((flag) => flagWords(flag, spec));
  const more = grouped(texts(valueAt(spec, command.more)));
  return [command.start, ...[...flags, ...more].map(shellJoined)].join(command.lineBreak);
}

/** Return the commands that come before this command: pull the image, run it, install missing packages. */
export function dockerCommands(data: Data, spec: Declared): string[] {
  const [last = "", ...others] = data.docker.commands.toReversed();
  const image = imageOf(data, spec);
  return [
    ...others.toReversed().map((text) => text.replaceAll(data.docker.image, () => image)),
    [last, ...texts(valueAt(spec, data.docker.packages)).map((word) => shellJoined([word]))].join(" "),
  ];
}

function imageOf({ image }: Data, spec: Declared): string {
  const given = valueAt(spec, image.field);
  if (given) return String(given);
  const [version, hardware] = [String(valueAt(spec, "engine.version")), String(valueAt(spec, "hardware"))];
  const published = Object.hasOwn(image.published, version) ? image.published[version]?.[hardware] : undefined;
  return published ?? (image.guess[hardware] ?? "").replace(image.version, () => version);
}

function flagWords(flag: Flag, spec: Declared): string[][] {
  if (flag.fields.length === 0) return [[flag.name]];
  const value = flag.fields.map((field) => valueAt(spec, field)).find((found) => found !== undefined);
  if (value === undefined) return [];
  const text = typeof value === "number" ? floatText(value) : String(value);
  const word = Object.hasOwn(flag.words, text) ? flag.words[text] : text;
  return word === null || word === undefined ? [] : [[flag.name, word]];
}

/** Join a flag and its values. */
function grouped(words: string[]): string[][] {
  const groups: string[][] = [];
  for (const word of words) {
    const last = groups.at(-1);
    if (last && !word.startsWith("-")) last.push(word);
    else groups.push([word]);
  }
  return groups;
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}
