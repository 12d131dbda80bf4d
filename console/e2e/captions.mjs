// Captions come while people speak: words appear and grow, the last of them dimmer; each line becomes past once, and is said once
// by a screen reader. Size, colours and place are the reader's choice and stay.
import { journey, must, shot, tell, theStream, until } from "./lib.mjs";

await journey("captions", async (open) => {
  const page = await open();
  const stream = await theStream(page);
  const home = page.url().split("#")[0];
  await page.goto(`${home}#/streams/${stream}`);
  await page.waitForSelector(".captions");
  await page.evaluate(() => {
    window.seen = { shown: [], unstable: 0, spoken: [] };
    const look = () => {
      const text = document.querySelector(".captions .now")?.textContent.trim() ?? "";
      if (text && text !== window.seen.shown.at(-1)) window.seen.shown.push(text);
      window.seen.unstable += document.querySelectorAll(".captions .now .unstable").length;
      for (const p of document.querySelectorAll("[role=log][aria-live=polite] p")) if (!window.seen.spoken.includes(p.textContent)) window.seen.spoken.push(p.textContent);
    };
    new MutationObserver(look).observe(document.querySelector(".captions"), { childList: true, subtree: true, characterData: true });
  });
  const seen = await until("words that grow and lines that are final", async () => {
    const now = await page.evaluate(() => window.seen);
    return now.shown.length >= 6 && now.unstable > 0 && now.spoken.length >= 2 && now;
  }, 90_000);
  const grew = seen.shown.filter((text, i) => i > 0 && text.startsWith(seen.shown[i - 1].split(" ").slice(0, 2).join(" ")) && text.length > seen.shown[i - 1].length);
  must(grew.length > 0, "no line grew", seen.shown);
  const log = await page.$$eval(".captions .log [data-line]", (lines) => lines.map((l) => l.textContent));
  must(seen.spoken.every((line) => log.includes(line)), "a screen reader is told what is not final", { spoken: seen.spoken, log });
  tell({ stream, lines: log.length, grew: grew.length, spoken: seen.spoken.length, example: grew[0] });
  // The reader's choice.
  const size = () => page.$eval(".captions .now", (e) => parseFloat(getComputedStyle(e).fontSize));
  const before = await size();
  await page.click("text=A+");
  must((await size()) > before, "A+ makes captions no larger");
  await page.selectOption(".choices select >> nth=0", "yellow-on-black");
  // Full screen: the picture in its proportions, and the words over it wherever they are else.
  await page.click("[aria-label='Full screen']");
  await page.waitForFunction(() => document.fullscreenElement);
  const seenFull = await until("words over the picture in full screen", () => page.evaluate(() => {
    const size = (selector) => { const { width, height, bottom } = document.querySelector(selector).getBoundingClientRect(); return { width, height, bottom }; };
    const video = document.querySelector(".stage video");
    if (!document.querySelector(".player:fullscreen .over .now p") || !video.videoWidth) return null;
    return { stage: size(".stage"), controls: size(".controls"), words: size(".over .now p"), video: { ...size(".stage video"), is: video.checkVisibility(), ratio: video.videoWidth / video.videoHeight }, screen: innerHeight };
  }), 60_000);
  must(seenFull.stage.height > 0.6 * seenFull.screen && seenFull.video.height === seenFull.stage.height && seenFull.video.is, "full screen has no picture", seenFull);
  must(Math.abs(seenFull.stage.width / seenFull.stage.height - seenFull.video.ratio) < 0.02, "the picture has lost its proportions", seenFull);
  must(seenFull.words.height > 0 && seenFull.words.bottom <= seenFull.stage.bottom && seenFull.controls.bottom <= seenFull.screen, "words or controls are outside", seenFull);
  tell({ fullScreen: seenFull.stage });
  await shot(page, "captions-full-screen");
  await page.click("[aria-label='Full screen']");
  await page.waitForFunction(() => !document.fullscreenElement);
  await page.selectOption(".choices select >> nth=1", "over");
  await page.waitForSelector(".stage .over");
  await until("words over the picture", () => page.$(".over .now p"), 60_000);
  await shot(page, "captions-over");
  await page.reload();
  await page.waitForSelector(".stage .over");
  must((await page.$eval(".choices select", (e) => e.value)) === "yellow-on-black", "the choice is forgotten");
});
