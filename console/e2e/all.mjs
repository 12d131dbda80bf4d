// Runs journeys one after the other: those that are named, else all but the long one (memory).
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const names = process.argv.length > 2 ? process.argv.slice(2) : ["wall", "boxes", "captions", "moment", "add", "rule", "lost", "access"];
const failed = names.filter((name) => spawnSync(process.execPath, [join(here, `${name}.mjs`)], { stdio: "inherit" }).status !== 0);
if (failed.length > 0) {
  console.error(`failed: ${failed.join(", ")}`);
  process.exit(1);
}
