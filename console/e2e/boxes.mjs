// Boxes lie over the moving people: what moves between two pictures of the video is inside of the boxes drawn over it, far more
// than boxes of that size would hold by chance. Also tells how late the picture is.
import { journey, must, shot, tell, theStream, until } from "./lib.mjs";

const ROUNDS = 12;

await journey("boxes", async (open) => {
  const page = await open();
  const stream = await theStream(page);
  await page.goto(`${page.url().split("#")[0]}#/streams/${stream}`);
  await until("a moving picture with boxes", () => page.evaluate(() => {
    const video = document.querySelector(".stage video");
    const overlay = document.querySelector(".overlay");
    overlay?.setAttribute("data-asked", "");
    return video?.readyState >= 2 && video.currentTime > 0 && Number(overlay?.dataset.n) > 0;
  }), 90_000);
  await page.waitForTimeout(3000);
  let moving = 0;
  let inside = 0;
  let area = 0;
  let rounds = 0;
  for (let i = 0; i < ROUNDS * 3 && rounds < ROUNDS; i++) {
    const seen = await page.evaluate(compare);
    if (!seen) continue;
    rounds += 1;
    moving += seen.moving;
    inside += seen.inside;
    area += seen.area;
  }
  must(rounds >= ROUNDS / 2 && moving > 200, "too little moved to tell", { rounds, moving });
  const share = inside / moving;
  const chance = area / rounds;
  const late = await page.evaluate(() => ({ ...document.querySelector(".lateness")?.dataset }));
  tell({ stream, movingInsideBoxes: share, areaOfBoxes: chance, picture: late });
  await shot(page, "boxes");
  must(share > 0.5 && share > 3 * chance, "boxes do not lie over what moves", { share, chance });
});

/** Runs in the page: pixels that move between two pictures 200 ms apart, and how many of them are inside of the boxes between. */
async function compare() {
  const video = document.querySelector(".stage video");
  const overlay = document.querySelector(".overlay");
  const [w, h] = [192, 144];
  const canvas = Object.assign(document.createElement("canvas"), { width: w, height: h });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const grab = () => {
    context.drawImage(video, 0, 0, w, h);
    const { data } = context.getImageData(0, 0, w, h);
    return Array.from({ length: w * h }, (_, i) => data[4 * i] + data[4 * i + 1] + data[4 * i + 2]);
  };
  const before = grab();
  await new Promise((done) => setTimeout(done, 100));
  const placed = overlay.dataset.placed ? JSON.parse(overlay.dataset.placed) : null;
  await new Promise((done) => setTimeout(done, 100));
  const after = grab();
  if (!placed) return null;
  // A little around each box: the person has moved on meanwhile.
  const boxes = placed.boxes.map(([x, y, bw, bh]) => [(x - 6) / placed.frame.width, (y - 6) / placed.frame.height, (x + bw + 6) / placed.frame.width, (y + bh + 6) / placed.frame.height]);
  let [moving, inside, covered] = [0, 0, 0];
  for (let i = 0; i < w * h; i++) {
    const [x, y] = [((i % w) + 0.5) / w, (Math.floor(i / w) + 0.5) / h];
    const is = boxes.some(([l, t, r, b]) => x >= l && x <= r && y >= t && y <= b);
    if (is) covered += 1;
    if (Math.abs(before[i] - after[i]) > 90) {
      moving += 1;
      if (is) inside += 1;
    }
  }
  return { moving, inside, area: covered / (w * h) };
}
