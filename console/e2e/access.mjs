// Every view at phone and desktop size, light and dark: axe-core finds nothing serious, nothing is wider than the screen, and the
// keyboard reaches what the mouse does. Takes the screenshots.
import { DESKTOP, journey, must, PHONE, serious, shot, tell, theStream, until } from "./lib.mjs";

await journey("access", async (open) => {
  const first = await open();
  const stream = await theStream(first);
  const alert = await first.evaluate(async () => (await (await fetch("/v1/alerts?limit=1")).json().catch(() => ({}))).alerts?.[0]?.alert ?? null);
  await first.context().close();
  const look = async (name, hash, size, viewport, scheme) => {
    const page = await open({ viewport, scheme, hash });
    await page.waitForSelector("main h1");
    await page.waitForTimeout(name === "stream" || name === "wall" ? 4000 : 1500);
    const found = await serious(page);
    must(found.length === 0, `${name}, ${size}, ${scheme}: axe-core found`, found);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    must(wide <= 0, `${name}, ${size}: wider than the screen by ${wide} pixels`);
    await shot(page, `${name}-${size}-${scheme}`);
    tell({ view: name, size, scheme });
    await page.context().close();
  };
  const views = { wall: "#/", stream: `#/streams/${stream}`, alerts: "#/alerts", ...(alert ? { alert: `#/alerts/${encodeURIComponent(alert)}` } : {}), transcripts: "#/transcripts", health: "#/health" };
  for (const [size, viewport] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    for (const scheme of ["light", "dark"]) {
      for (const [name, hash] of Object.entries(views)) await look(name, hash, size, viewport, scheme);
    }
  }
  // A large display on a wall, and the smallest telephone.
  for (const [size, viewport] of Object.entries({ "4k": { width: 3840, height: 2160 }, small: { width: 320, height: 640 } })) {
    for (const name of ["wall", "stream"]) await look(name, views[name], size, viewport, "dark");
  }
  await keyboard(await open({ hash: `#/streams/${stream}` }));
});

/** With Tab alone one comes to everything, and sees where one is. */
async function keyboard(page) {
  await page.waitForSelector(".controls");
  const wanted = await page.$$eval("a[href], button:not(:disabled), select, input", (all) => all.filter((e) => e.offsetParent !== null && e.tabIndex >= 0).length);
  const seen = new Set();
  let unseen = null;
  for (let i = 0; i < wanted * 2 + 20; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      const style = getComputedStyle(e);
      const all = [...document.querySelectorAll("*")];
      return { index: all.indexOf(e), visible: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1, is: `${e.tagName} ${e.className} ${e.textContent?.slice(0, 30)}` };
    });
    if (!at) break;
    seen.add(at.index);
    if (!at.visible) unseen ??= at.is;
  }
  must(unseen === null, "the focus cannot be seen", unseen);
  // Back again: what gets the focus comes out from under the bar.
  let covered = null;
  for (let i = 0; i < wanted; i++) {
    await page.keyboard.press("Shift+Tab");
    covered ??= await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body || e.closest(".bar") || e.matches(".skip")) return null;
      const [bar, at] = [document.querySelector(".bar").getBoundingClientRect(), e.getBoundingClientRect()];
      return at.top < bar.bottom && at.height < innerHeight - bar.height ? `${e.tagName} ${e.className} ${e.textContent?.slice(0, 30)}` : null;
    });
  }
  must(covered === null, "the bar covers what has the focus", covered);
  must(seen.size >= wanted * 0.9, "the keyboard does not reach everything", { reached: seen.size, wanted });
  tell({ keyboard: { reached: seen.size, wanted } });
  // Targets are large enough to be hit.
  const small = await page.$$eval("button, select, input, nav a", (all) => all.filter((e) => e.offsetParent !== null).map((e) => ({ is: e.textContent || e.className, box: e.getBoundingClientRect() })).filter(({ box }) => box.width > 1 && (box.width < 24 || box.height < 24)).map((e) => e.is));
  must(small.length === 0, "targets smaller than 24 pixels", small);
  await until("the skip link", async () => {
    await page.evaluate(() => { document.activeElement?.blur(); scrollTo(0, 0); });
    await page.keyboard.press("Tab");
    return page.evaluate(() => document.activeElement?.textContent?.includes("Skip"));
  }, 20_000);
}
