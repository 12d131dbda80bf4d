// A stream is added by pasting its address: a bad one is refused with its reason, one with a password never leaves the page, a good
// one is shown before it is kept. GOOD_URL is one that plays, BAD_URL one that does not.
import { journey, must, shot, tell, until } from "./lib.mjs";

const GOOD = process.env.GOOD_URL ?? "test://?width=320&height=240&fps=5";
const BAD = process.env.BAD_URL ?? "rtsp://127.0.0.1:9/none";
const NAME = process.env.NAME ?? "added";

await journey("add", async (open) => {
  const page = await open();
  const asked = [];
  page.on("request", (request) => request.method() !== "GET" && asked.push(`${request.method()} ${new URL(request.url()).pathname} ${request.postData() ?? ""}`));
  await page.waitForSelector("text=Add a stream, h1:has-text('Attach')").catch(() => {});
  if (await page.$("text=Add a stream")) await page.click("text=Add a stream");
  await page.fill("input[name=url]", "rtsp://user:hunter2@127.0.0.1/1");
  await page.click("text=Try it");
  await until("the refusal of a password", () => page.$(".note.bad >> text=password"));
  must(!asked.some((a) => a.includes("hunter2")), "a password left the page", asked);
  await page.fill("input[name=url]", BAD);
  await page.click("text=Try it");
  const why = await until("the reason why not", () => page.$eval(".note.bad", (e) => e.textContent).catch(() => null), 40_000);
  must(/refused|reach|nothing listens/i.test(why), "the reason says nothing", why);
  must(!(await page.$(".keep")), "a bad address can be kept");
  tell({ refused: why });
  await shot(page, "add-refused");
  await page.fill("input[name=url]", GOOD);
  await page.click("text=Try it");
  await page.waitForSelector(".keep", { timeout: 40_000 });
  must((await page.$eval(".probe img", (e) => e.naturalWidth)) > 0, "no picture of what is added");
  await page.fill(".keep input >> nth=0", NAME);
  await page.fill(".keep input >> nth=1", "Place=test");
  await shot(page, "add-plays");
  await page.click("text=Add it");
  await page.waitForFunction((name) => location.hash === `#/streams/${name}`, NAME);
  await until("that it plays", () => page.$(".head .pill.ok"));
  await page.click(".bar nav a >> nth=0");
  await page.selectOption(".tools select", "Place:test");
  const names = await page.$$eval(".tile h2", (all) => all.map((e) => e.textContent));
  must(names.length === 1 && names[0] === NAME, "the tag finds another", names);
  tell({ added: NAME });
  // And away with it again.
  await page.click(".tile h2 a");
  await page.click("text=Detach…");
  await page.click("dialog .danger");
  await until("that it is gone", async () => !(await page.evaluate(async (name) => (await (await fetch("/v1/streams")).json()).streams.some((s) => s.name === name), NAME)));
});
