// What the journeys share: a browser, a login, and how they tell what they see. A journey is a script that prints JSON lines and
// ends with 0, or with 1 and the reason. It takes from the environment:
//   BASE_URL   the service                                  http://127.0.0.1:8642
//   TOKEN      of an operator, where the service wants one
//   OUT        folder for screenshots; none without it
//   STREAM     a stream that plays and has people in it     the first that plays
//   CHROMIUM   the browser                                  /usr/bin/chromium
// playwright-core and axe-core are those of console/node_modules, or of NODE_PATH.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(import.meta.url);
const { chromium } = require("playwright-core");

export const BASE_URL = (process.env.BASE_URL ?? "http://127.0.0.1:8642").replace(/\/$/, "");
const { TOKEN, OUT } = process.env;
export const DESKTOP = { width: 1440, height: 900 };
export const PHONE = { width: 390, height: 844 };

export const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

/** Ends the journey unless it is so. */
export function must(is, why, seen) {
  if (!is) throw new Error(seen === undefined ? why : `${why}: ${JSON.stringify(seen)}`);
}

/** Waits until `look` gives something; says what it waited for. */
export async function until(what, look, timeoutMs = 60_000) {
  const began = Date.now();
  let last;
  while (Date.now() - began < timeoutMs) {
    last = await look();
    if (last) return last;
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
}

/** Runs a journey: `steps` gets a function that opens pages. */
export async function journey(name, steps) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic", "--mute-audio"],
  });
  const errors = [];
  try {
    await steps((options) => open(browser, errors, options));
    must(errors.length === 0, "the page had errors", errors);
    tell({ journey: name, is: "done" });
  } catch (error) {
    const pages = browser.contexts().flatMap((context) => context.pages());
    const seen = await Promise.all(pages.map((page) => page.evaluate(() => `${location.hash}: ${document.body.innerText.slice(0, 1500)}`).catch((e) => e.message)));
    tell({ journey: name, is: "failed", why: error.message, errors, seen });
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

async function open(browser, errors, { viewport = DESKTOP, scheme = "light", hash = "#/", base = BASE_URL, token = TOKEN, ...more } = {}) {
  const context = await browser.newContext({ viewport, colorScheme: scheme, ...more });
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (message.type() === "error" && /Content Security Policy|Refused to/.test(message.text())) errors.push(message.text());
  });
  // Nothing may come from elsewhere.
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !/^(blob|data|ws):/.test(request.url())) errors.push(`asked ${request.url()}`);
  });
  await page.goto(`${base}/${hash}`);
  await page.waitForSelector(".bar, input[type=password]");
  if (await page.$("input[type=password]")) {
    must(token, "the service wants a token: set TOKEN");
    await page.fill("input[type=password]", token);
    await page.click("button");
    await page.waitForSelector(".bar");
    if (hash !== "#/") await page.goto(`${base}/${hash}`);
  }
  return page;
}

/** The stream that journeys look at. */
export async function theStream(page) {
  if (process.env.STREAM) return process.env.STREAM;
  return until("a stream that plays", () => page.evaluate(async () => (await (await fetch("/v1/streams")).json()).streams.find((s) => s.state === "playing")?.name));
}

export async function shot(page, name, options = {}) {
  if (!OUT) return;
  mkdirSync(OUT, { recursive: true });
  await page.screenshot({ path: join(OUT, `${name}.png`), ...options });
}

/** What axe-core finds that is serious or worse. */
export async function serious(page) {
  const source = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
  return violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => ({ id: v.id, impact: v.impact, help: v.help, where: v.nodes.slice(0, 3).map((n) => n.target.join(" ")), why: v.nodes[0]?.failureSummary }));
}
