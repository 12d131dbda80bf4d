// A viewer reads everything and is offered nothing that he may not do; logged out, he is asked for the token again. VIEWER_TOKEN is
// his.
import { journey, must, shot, tell, theStream } from "./lib.mjs";

const OFFERS = ["Add a stream", "Detach…", "Draw a zone", "Draw a line", "Acknowledge", "Silence"];

await journey("viewer", async (open) => {
  const page = await open({ token: process.env.VIEWER_TOKEN });
  const stream = await theStream(page);
  const home = page.url().split("#")[0];
  await page.waitForSelector(".tile");
  for (const hash of ["#/", `#/streams/${stream}`, "#/alerts", "#/health"]) {
    await page.goto(`${home}${hash}`);
    await page.waitForSelector("main h1");
    await page.waitForTimeout(1000);
    for (const offer of OFFERS) must(!(await page.$(`button:has-text("${offer}")`)), `${hash} offers "${offer}" to a viewer`);
  }
  await shot(page, "viewer");
  const refused = await page.evaluate(async (name) => (await fetch(`/v1/streams/${name}`, { method: "DELETE" })).status, stream);
  must(refused === 403, "the service does not refuse it", refused);
  const cookies = await page.context().cookies();
  must(cookies.length === 1 && cookies[0].httpOnly && cookies[0].sameSite === "Strict", "the cookie is not as it must be", cookies.map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite })));
  must(!cookies[0].value.includes(process.env.VIEWER_TOKEN), "the cookie holds the token");
  await page.click("text=Log out");
  await page.waitForSelector("input[type=password]");
  tell({ refused });
});
