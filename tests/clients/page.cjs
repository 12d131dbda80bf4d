// Opens our own page in a headless Chromium as a person would: gives the token, reads, and waits. Writes one JSON line
// whenever what is shown has changed, and one for each error of the page:
//   {"url", "state", "caption", "past": [...], "streams": [...]}      {"error": ...}
// usage: node page.cjs URL TOKEN        with playwright-core in NODE_PATH; goes on until it is killed
'use strict';

const { chromium } = require('playwright-core');

const [url, token] = process.argv.slice(2);
const tell = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

const shown = () => ({
  url: location.href,
  state: document.querySelector('#state').textContent,
  caption: document.querySelector('#caption').textContent,
  past: [...document.querySelectorAll('#past p')].map((line) => line.textContent),
  streams: [...document.querySelectorAll('#streams a')].map((link) => link.textContent),
});

(async () => {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const page = await browser.newPage();
  page.on('pageerror', (error) => tell({ error: error.message }));
  page.on('console', (message) => {
    if (message.type() === 'error' && /Content Security Policy/.test(message.text())) tell({ error: message.text() });
  });
  await page.goto(url);
  await page.waitForSelector('#login:not([hidden])');
  await page.fill('input[name=access_token]', token);
  await page.click('button');
  await page.waitForSelector('#streams a');
  let before = '';
  for (;;) {
    const now = await page.evaluate(shown);
    if (JSON.stringify(now) !== before) tell(now);
    before = JSON.stringify(now);
    await page.waitForTimeout(50);
  }
})().catch((error) => {
  tell({ error: String(error) });
  process.exit(1);
});
