// The service is lost and found again: the page says so, goes on by itself, and shows what is new. Between browser and service is
// a proxy of our own that is shut; and once more one that says nothing: connections stay, and nothing comes on them.
import { connect, createServer } from "node:net";
import { BASE_URL, journey, must, shot, tell, theStream, until } from "./lib.mjs";

const service = new URL(BASE_URL);
const open = new Set();
let shut = false;
let dead = false;
const proxy = createServer((socket) => {
  if (shut) return socket.destroy();
  const up = connect(Number(service.port || 80), service.hostname);
  if (dead) socket.pause();
  for (const end of [socket, up]) {
    open.add(end);
    end.on("error", () => {});
    end.on("close", () => open.delete(end));
  }
  if (!dead) socket.pipe(up).pipe(socket);
});
/** As a router does that was switched off: what was connected stays so, for ever. */
function kill() {
  dead = true;
  for (const end of open) end.unpipe().pause();
}
await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
const base = `http://127.0.0.1:${proxy.address().port}`;

await journey("lost", async (openPage) => {
  const page = await openPage({ base });
  const stream = await theStream(page);
  await page.goto(`${base}/#/streams/${stream}`);
  await until("that it is live", () => page.$(".connected.ok"));
  await until("a picture", () => page.evaluate(() => document.querySelector(".stage video")?.currentTime > 0 || Number(document.querySelector(".overlay")?.dataset.n) > 0));
  shut = true;
  for (const end of open) end.destroy();
  await until("that the page says so", () => page.$(".banner.bad >> text=Connection lost"));
  await shot(page, "lost");
  await page.waitForTimeout(4000);
  must(await page.$(".stage"), "what was there is gone");
  const before = await timeOf(page);
  shut = false;
  await again(page, before);
  await shot(page, "found");
  // Somebody has paused it meanwhile, and it stays so.
  await page.click("[aria-label=Pause]");
  kill();
  const began = Date.now();
  await until("that a dead connection is noticed", () => page.$(".banner.bad >> text=Connection lost"), 40_000);
  tell({ noticedAfterMs: Date.now() - began });
  await until("that the picture says so", () => page.$(".stage .veil"), 40_000);
  await shot(page, "dead");
  const then = await timeOf(page);
  dead = false;
  await again(page, then);
  must(await page.$eval(".stage video", (v) => v.paused), "a paused picture was started by itself");
  await page.click("[aria-label='Play, live']");
  await page.waitForSelector("[aria-label=Pause]");
  const paused = await page.$eval(".stage video", (v) => v.currentTime);
  await until("that it plays", () => page.$eval(".stage video", (v, before) => !v.paused && v.currentTime > before, paused));
});
proxy.close();
for (const end of open) end.destroy();

/** It is live again, by itself, and its picture, too. */
async function again(page, at) {
  const began = Date.now();
  await until("that it is live again", async () => !(await page.$(".banner.bad")) && page.$(".connected.ok"));
  tell({ backAfterMs: Date.now() - began });
  await until("that the picture goes on", () => page.evaluate((before) => {
    const video = document.querySelector(".stage video");
    return !video || video.hidden || (video.currentTime !== before && video.readyState >= 2 && !document.querySelector(".stage .veil"));
  }, at));
}

function timeOf(page) {
  return page.evaluate(() => document.querySelector(".stage video")?.currentTime ?? 0);
}
