// Opens our own page in a headless Chromium as a person would: gives the token, looks at the wall, opens the stream `cam`, reads,
// and waits. Writes one JSON line whenever what is shown has changed, and one for each error of the page:
//   {"url", "caption", "past": [...], "streams": [...]}      {"error": ...}
// usage: node page.cjs URL TOKEN        with playwright-core in NODE_PATH; goes on until it is killed
'use strict';

const { chromium } = require('playwright-core');

const [url, token] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const shown = () => ({
  url: location.href,
  caption: [...document.querySelectorAll('.captions .now p')].map((line) => line.textContent.trim()).join('\n'),
  past: [...document.querySelectorAll('.captions .log [data-line]')].map((line) => line.textContent.trim()),
});

(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const page = await browser.newPage();
  page.on('pageerror', (error) => tell({ error: error.message }));
  page.on('console', (message) => {
    if (message.type() === 'error' && /Content Security Policy/.test(message.text())) tell({ error: message.text() });
  });
  await page.goto(url);
  await page.waitForSelector('input[name=token]');
  await page.fill('input[type=password]', token);
  await page.click('button');
  await page.waitForSelector('.tile');
  const streams = await page.$$eval('.tile h2', (names) => names.map((name) => name.textContent));
  await page.click('.tile[data-stream=cam] h2 a');
  await page.waitForSelector('.captions');
  let before = '';
  for (;;) {
    const now = { ...(await page.evaluate(shown)), streams };
    if (JSON.stringify(now) !== before) tell(now);
    before = JSON.stringify(now);
    await page.waitForTimeout(50);
  }
})().catch((error) => {
  tell({ error: String(error) });
  process.exit(1);
});
