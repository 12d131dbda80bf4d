// The wall with all its streams stays smooth, or says what it sheds. Tells the numbers: frames that took too long, and how often
// pictures come.
import { journey, must, shot, tell, until } from "./lib.mjs";

const SECONDS = Number(process.env.SECONDS ?? 20);

await journey("wall", async (open) => {
  const page = await open({ viewport: { width: 1920, height: 1080 } });
  const tiles = await until("tiles", () => page.$$eval(".tile", (all) => all.length));
  const playing = await page.$$eval(".tile .pill.ok", (all) => all.length);
  await until("pictures of all that play", () => page.$$eval(".tile .picture:not(.old) canvas", (all) => all.filter((c) => !c.hidden).length).then((n) => n >= Math.min(playing, 1) && n));
  const seen = await page.evaluate(async (seconds) => {
    const gaps = [];
    let last = performance.now();
    const until = last + seconds * 1000;
    await new Promise((done) => {
      const next = (t) => {
        gaps.push(t - last);
        last = t;
        if (t < until) requestAnimationFrame(next);
        else done();
      };
      requestAnimationFrame(next);
    });
    gaps.sort((a, b) => a - b);
    return { frames: gaps.length, p50Ms: gaps[gaps.length >> 1], p95Ms: gaps[Math.floor(gaps.length * 0.95)], says: document.querySelector(".carried")?.textContent ?? null };
  }, SECONDS);
  await shot(page, "wall-smooth");
  tell({ tiles, playing, ...seen });
  must(seen.p95Ms <= 100 || seen.says, "the wall is not smooth, and does not say what it sheds", seen);
});
