// MINUTES (10) of watching a stream and the wall in turns: the page's memory does not grow. Told once a minute, after the browser
// has thrown away what nobody holds.
import { journey, must, tell, theStream } from "./lib.mjs";

const MINUTES = Number(process.env.MINUTES ?? 10);
/** Of what there was when the first third was over, so much more is noise. */
const SLACK = 1.25;

await journey("memory", async (open) => {
  const page = await open();
  const home = page.url().split("#")[0];
  const stream = await theStream(page);
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Performance.enable");
  const samples = [];
  const rounds = Math.max(6, Math.round(MINUTES * 2));
  for (let i = 0; i < rounds; i++) {
    for (const hash of [`#/streams/${stream}`, "#/", "#/alerts", "#/health"]) {
      await page.goto(`${home}${hash}`);
      await page.waitForTimeout(((MINUTES * 60_000) / rounds) * (hash.startsWith("#/streams") ? 0.7 : 0.1));
    }
    await cdp.send("HeapProfiler.collectGarbage");
    const { metrics } = await cdp.send("Performance.getMetrics");
    const of = (name) => metrics.find((m) => m.name === name)?.value ?? 0;
    samples.push({ heapMiB: of("JSHeapUsedSize") / 2 ** 20, nodes: of("Nodes"), listeners: of("JSEventListeners") });
    tell({ round: i + 1, of: rounds, ...samples.at(-1) });
  }
  const third = Math.ceil(samples.length / 3);
  for (const key of ["heapMiB", "nodes", "listeners"]) {
    const worst = (list) => Math.max(...list.map((s) => s[key]));
    const [first, last] = [worst(samples.slice(0, third)), worst(samples.slice(-third))];
    must(last <= first * SLACK + (key === "heapMiB" ? 2 : 200), `${key} grows`, samples.map((s) => Math.round(s[key])));
  }
});
