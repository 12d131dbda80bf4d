// A word that was said is searched for; its moment is seen and heard again, from that word on.
import { journey, must, shot, tell, theStream, until } from "./lib.mjs";

await journey("moment", async (open) => {
  const page = await open();
  const stream = await theStream(page);
  const said = await until("something said, with its clip", () => page.evaluate(async (name) => {
    const { transcripts } = await (await fetch(`/v1/history/transcripts?limit=50&stream=${encodeURIComponent(name)}`)).json();
    return transcripts.find((t) => t.clip && t.words.length >= 4 && t.start_ms - t.clip.from_ms > 1500);
  }, stream), 120_000);
  // Of "ill-disposed" a part is a word, and no more of it.
  const word = said.words.flatMap((w) => w.text.match(/[a-z]+/gi) ?? []).sort((a, b) => b.length - a.length)[0];
  await page.click("nav a[href^='#/transcripts']");
  await page.fill("input[type=search]", word);
  await page.selectOption("select[name=stream]", stream);
  await page.click("form[role=search] button");
  await page.waitForSelector(".found li mark");
  must((await page.$$eval(".found mark", (all) => all.map((m) => m.textContent.toLowerCase()))).every((hit) => hit.includes(word.toLowerCase())), "what is marked is not the word", word);
  // Of all that were found, the one whose clip is known.
  const at = await page.$$eval(".found > li time", (all) => all.map((t) => t.dateTime));
  const row = at.indexOf(said.at);
  must(row >= 0, "it is not found", { word, said: said.at, at });
  await page.click(`.found > li:nth-child(${row + 1}) button.link`);
  await page.waitForSelector(".moment video");
  const playing = await until("the clip to play from there", () => page.$eval(".moment video", (v) => v.videoWidth > 0 && !v.paused && { time: v.currentTime, width: v.videoWidth }));
  const begins = (said.start_ms - said.clip.from_ms) / 1000;
  must(playing.time >= begins - 1, "it does not begin at the word", { ...playing, begins });
  const now = await until("the word that is being said", () => page.$eval(".moment .said", (p) => p.querySelector(".saying")?.textContent.trim()), 20_000);
  must(said.words.some((w) => w.text === now), "another word is marked", now);
  await page.$eval(".moment video", (v) => v.pause());
  await shot(page, "moment");
  must(await page.$(".moment li.this"), "what was said around it is not shown");
  const exports = await page.$$eval(".exports a", (all) => all.map((a) => a.textContent));
  must(exports.length === 4, "not every format can be taken along", exports);
  tell({ word, now, begins, time: playing.time, exports });
});
