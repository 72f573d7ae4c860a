// Puts style, script and licences into page.html: `node build.mjs [FILE]`.
//
// The placeholder {{ data }} stays in the page. The Python package replaces it when it returns the page.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const FILE = process.argv[2] ?? join(HERE, "../operator/kimi_linear_operator/configurator/page.html");
// The page contains the code of this library.
const LIBRARY = "@marcbachmann/cel-js";

async function bundled(file) {
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: [file],
    bundle: true,
    charset: "utf8",
    format: "iife",
    legalComments: "none",
    minify: true,
    target: ["es2023", "chrome123", "firefox128", "safari17.5"],
    write: false,
  });
  const text = outputFiles[0].text.trim();
  if (/<\/(script|style)|<!--/i.test(text))
    throw new Error(`${file} becomes a text that ends the element that it is in`);
  return text;
}

function hash(text) {
  return `sha256-${createHash("sha256").update(text).digest("base64")}`;
}

function licences() {
  const { dependencies } = JSON.parse(readFileSync(join(HERE, "package.json"), "utf8"));
  const folder = join(HERE, "node_modules", LIBRARY);
  return `In this page: ${LIBRARY} ${dependencies[LIBRARY]}\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}`;
}

const [script, style] = [await bundled("src/main.ts"), await bundled("page.css")];
const parts = { script, style, "script hash": hash(script), "style hash": hash(style), licences: licences() };
const page = readFileSync(join(HERE, "page.html"), "utf8").replace(
  /\{\{ (.+?) \}\}/g,
  (slot, name) => parts[name] ?? slot,
);
writeFileSync(FILE, page);
