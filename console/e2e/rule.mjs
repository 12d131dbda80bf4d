// A zone is drawn on the picture, becomes a rule, and its alert is seen, acknowledged and silenced. STREAM is an attached stream
// (not one of the configuration file) with people in it.
import { journey, must, shot, tell, theStream, until } from "./lib.mjs";

const RULE = process.env.RULE ?? "drawn-zone";

await journey("rule", async (open) => {
  // High enough for the whole picture: a click outside the window is none.
  const page = await open({ viewport: { width: 1440, height: 1400 } });
  const stream = await theStream(page);
  const home = page.url().split("#")[0];
  await page.goto(`${home}#/streams/${stream}`);
  await page.click("text=Draw a zone");
  // The board is as large as the picture, which comes in a moment.
  const place = () => page.locator(".board").boundingBox();
  const board = await until("a picture that keeps its place", async () => {
    const before = await place();
    await page.waitForTimeout(700);
    const now = await place();
    return JSON.stringify(before) === JSON.stringify(now) && now;
  });
  // Odd places, too: what a mouse gives is no round number.
  for (const [x, y] of [[0.0533, 0.2171], [0.9467, 0.2013], [0.95, 0.95]]) await page.mouse.click(board.x + x * board.width, board.y + y * board.height);
  // The fourth by keyboard alone.
  await page.click("text=Set a point");
  await page.focus(".point >> nth=3");
  for (let i = 0; i < 5; i++) await page.keyboard.press("Shift+ArrowLeft");
  const points = await page.$$eval(".numbers li", (rows) => rows.map((r) => [...r.querySelectorAll("input")].map((i) => Number(i.value))));
  must(points.length === 4 && Math.abs(points[0][0] - 5) < 1 && points[3][0] === 5, "points are elsewhere", points);
  await page.fill(".rule input[type=number] >> nth=0", "0");
  await page.fill(".rule .fields input:not([type=number])", RULE);
  await shot(page, "rule-drawn");
  await page.click("text=Keep this rule");
  await until("that the rule is in force", () => page.$(`.list >> text=${RULE}`));
  await page.waitForSelector(".stage .shapes polygon");
  tell({ rule: RULE, points });
  const row = await until("its alert", async () => {
    await page.goto(`${home}#/alerts?rule=${RULE}`);
    await page.waitForTimeout(500);
    return page.$(".alert-row");
  }, 90_000);
  await until("the picture of the alert", () => page.$eval(".alert-row img", (e) => e.naturalWidth > 0).catch(() => false));
  tell({ alert: await row.textContent() });
  await page.click(".alert-row .alert-title a");
  await page.waitForSelector("text=What you can do");
  // Somebody else looks at it, too, and sees within the next poll that it is taken care of.
  const other = await open({ hash: await page.evaluate(() => location.hash) });
  await other.waitForSelector("text=What you can do");
  await page.fill("#main form input", "seen by the test");
  await page.click("button:has-text('Acknowledge')");
  await until("that it is acknowledged", () => page.$(".marks >> text=seen by the test"));
  const told = Date.now();
  await until("that the other page shows it", () => other.$(".marks >> text=seen by the test"), 20_000);
  tell({ shownElsewhereAfterMs: Date.now() - told });
  await other.context().close();
  await page.click("summary:has-text('Silence')");
  await page.fill("input[placeholder='the gardeners are here']", "a test");
  await page.click("button:text-is('Silence')");
  // One that is over meanwhile stays as it was; that others will be silenced is said, and listed below.
  await until("that it is silenced", async () => (await page.$(".marks >> text=a test")) ?? page.$(".toast >> text=Silenced"));
  await shot(page, "rule-alert");
  await page.goto(`${home}#/alerts`);
  await page.click("text=End it");
  // And away with the rule.
  await page.goto(`${home}#/streams/${stream}`);
  await page.click(`[aria-label="Take the rule ${RULE} away"]`);
  await until("that the rule is gone", async () => !(await page.$(`.list >> text=${RULE}`)));
});
