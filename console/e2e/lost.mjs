// The service is lost and found again: the page says so, goes on by itself, and shows what is new. Between browser and service is
// a proxy of our own that is shut.
import { connect, createServer } from "node:net";
import { BASE_URL, journey, must, shot, tell, theStream, until } from "./lib.mjs";

const service = new URL(BASE_URL);
const open = new Set();
let shut = false;
const proxy = createServer((socket) => {
  if (shut) return socket.destroy();
  const up = connect(Number(service.port || 80), service.hostname);
  for (const end of [socket, up]) {
    open.add(end);
    end.on("error", () => {});
    end.on("close", () => open.delete(end));
  }
  socket.pipe(up).pipe(socket);
});
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
  shut = false;
  const began = Date.now();
  await until("that it is live again", async () => !(await page.$(".banner.bad")) && page.$(".connected.ok"));
  tell({ backAfterMs: Date.now() - began });
  const at = await page.evaluate(() => document.querySelector(".stage video")?.currentTime ?? 0);
  await until("that the picture goes on", () => page.evaluate((before) => {
    const video = document.querySelector(".stage video");
    return !video || video.hidden || (video.currentTime !== before && video.readyState >= 2 && !document.querySelector(".stage .veil"));
  }, at));
  await shot(page, "found");
});
proxy.close();
