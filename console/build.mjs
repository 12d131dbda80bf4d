// Builds the page into src/http/page/dist, from where it is embedded into the binary. The same sources give the same bytes.
//   node build.mjs            writes it
//   node build.mjs --check    writes nothing; fails when what lies there is not what the sources give
import { build } from "esbuild";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "../src/http/page/dist");
/** What is in the bundle, and so has its licence told. */
const SHIPPED = ["preact", "@preact/signals", "@preact/signals-core", "uplot", "hls.js"];

/** All files of the page by name. */
export async function make({ dev = false } = {}) {
  const made = await build({
    absWorkingDir: HERE,
    entryPoints: { app: "src/main.tsx", hls: "src/player/hlsjs.ts", chart: "src/widgets/uplot.ts" },
    outdir: DIST,
    bundle: true,
    splitting: true,
    format: "esm",
    // Safari 15.4 and what is as old: `:has`, WebSockets under `connect-src 'self'`, dialogs.
    target: ["es2021", "safari15.4", "chrome100", "firefox100"],
    jsx: "automatic",
    jsxImportSource: "preact",
    minify: !dev,
    sourcemap: dev ? "inline" : false,
    legalComments: "none",
    entryNames: "[name]",
    chunkNames: "shared-[hash]",
    write: false,
    logLevel: "warning",
  });
  const files = new Map(made.outputFiles.map((f) => [f.path.slice(DIST.length + 1), Buffer.from(f.contents)]));
  // The parts that are shared get names that do not change: the list of embedded files stands in Rust.
  const shared = [...files.keys()].filter((name) => name.startsWith("shared-")).sort((a, b) => files.get(b).length - files.get(a).length);
  for (const [at, name] of shared.entries()) {
    const plain = shared.length === 1 ? "shared.js" : `shared${at + 1}.js`;
    for (const [other, bytes] of files) {
      if (other.endsWith(".js")) files.set(other, Buffer.from(bytes.toString("utf8").replaceAll(name, plain)));
    }
    files.set(plain, files.get(name));
    files.delete(name);
  }
  for (const name of ["index.html", "icon.svg"]) files.set(name, readFileSync(join(HERE, "src", name)));
  files.set("LICENSES.txt", Buffer.from(licences()));
  return new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function licences() {
  const parts = SHIPPED.map((name) => {
    const folder = join(HERE, "node_modules", name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const file = readdirSync(folder).find((f) => /^licen[cs]e/i.test(f));
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  });
  return `The page holds code of others:\n\n${parts.join(`\n${"-".repeat(80)}\n\n`)}`;
}

function stale(files) {
  const there = new Set(readdirSync(DIST));
  const wrong = [...files].filter(([name, bytes]) => !there.has(name) || !readFileSync(join(DIST, name)).equals(bytes)).map(([name]) => name);
  return [...wrong, ...[...there].filter((name) => !files.has(name))];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = await make();
  if (process.argv.includes("--check")) {
    const wrong = stale(files);
    if (wrong.length > 0) {
      console.error(`src/http/page/dist is not what the sources give (${wrong.join(", ")}): run \`npm run build\` in console/ and commit it`);
      process.exit(1);
    }
    console.log("src/http/page/dist is what the sources give");
  } else {
    mkdirSync(DIST, { recursive: true });
    for (const name of readdirSync(DIST)) if (!files.has(name)) rmSync(join(DIST, name));
    for (const [name, bytes] of files) writeFileSync(join(DIST, name), bytes);
    for (const [name, bytes] of files) console.log(`${String(bytes.length).padStart(8)}  ${name}`);
  }
}
