// Bundles the unit tests and runs them with Node's own test runner. Arguments: names of tests to run, all without.
import { build } from "esbuild";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const wanted = process.argv.slice(2);
const names = readdirSync(here).filter((f) => f.endsWith(".test.ts") && (wanted.length === 0 || wanted.some((w) => f.includes(w))));
if (names.length === 0) throw new Error(`no test is called ${wanted.join(" or ")}`);
const out = mkdtempSync(join(tmpdir(), "console-tests-"));
try {
  await build({
    entryPoints: names.map((f) => join(here, f)), outdir: out, outExtension: { ".js": ".mjs" }, bundle: true, platform: "node", format: "esm",
    jsx: "automatic", jsxImportSource: "preact", sourcemap: "inline", logLevel: "warning",
  });
  const files = names.map((f) => join(out, f.replace(/\.ts$/, ".mjs")));
  process.exitCode = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" }).status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
