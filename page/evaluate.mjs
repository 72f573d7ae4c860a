// Evaluates rules as the page does, for tests/browser/test_page_source.py: `node evaluate.mjs < cases.json`.
//
// Reads a list of {kind, rules, resource}, and prints the problems of each resource. The rules of a kind are needed
// only once.

import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const { outputFiles } = await build({
  absWorkingDir: dirname(fileURLToPath(import.meta.url)),
  bundle: true,
  entryPoints: ["src/rules.ts"],
  format: "esm",
  write: false,
});
const { ruleTable } = await import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);

/** Whole numbers are integers of CEL. */
function revived(key, value) {
  return Number.isInteger(value) ? BigInt(value) : value;
}

const tables = new Map();
const problems = JSON.parse(readFileSync(0, "utf8"), revived).map(({ kind, rules, resource }) => {
  if (rules) tables.set(kind, ruleTable(rules));
  return tables
    .get(kind)(resource)
    .map(({ severity, path, message }) => ({ severity, path, message }));
});
process.stdout.write(JSON.stringify(problems));
