// Plays a live.mp4 address with Media Source Extensions in a headless Chromium, as a page would that stays at the live edge, and
// tells what happens, one JSON object a line:
//   {"event":"init",...}    a session or format began; the page begins anew with it
//   {"event":"at","time":...,"frames":...,"dropped":...,"sound":...,"behind_ms":...,"late_ms":...}
//       every half second: position, pictures decoded and dropped, bytes of sound decoded, how far the position is behind what was
//       received, and how long ago the picture that is shown was captured
//   {"event":"error","fatal":true,...}
// Goes on until its standard input ends; then writes the last line {"event":"end","late_ms":[...],"deviation":...} and, if
// asked, a screenshot.
// usage: node live.cjs URL [screenshot.png]       with playwright-core in NODE_PATH
'use strict';

const { chromium } = require('playwright-core');

const [url, screenshot] = process.argv.slice(2);
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

// Runs in the page.
const play = (address) => {
  const video = document.querySelector('video');
  const state = { video, clock: null, late: [] };
  window.player = state;
  let source, buffer, waiting;

  // One media source a session: stream time begins anew with each.
  const begin = (init) => {
    source = new MediaSource();
    buffer = null;
    waiting = [];
    const mine = source;
    video.src = URL.createObjectURL(mine);
    mine.addEventListener('sourceopen', () => {
      if (mine !== source) return;
      if (!MediaSource.isTypeSupported(init.mime)) return tell({ event: 'error', fatal: true, reason: init.mime });
      buffer = mine.addSourceBuffer(init.mime);
      buffer.addEventListener('updateend', () => { stay(); next(); });
      buffer.addEventListener('error', () => tell({ event: 'error', fatal: true, reason: 'buffer' }));
      next();
    });
    video.play().catch(() => {});
  };
  // What has come goes in, in one piece.
  const next = () => {
    if (!buffer || buffer.updating || waiting.length === 0) return;
    const all = waiting.splice(0);
    const whole = new Uint8Array(all.reduce((n, part) => n + part.byteLength, 0));
    all.reduce((at, part) => { whole.set(new Uint8Array(part), at); return at + part.byteLength; }, 0);
    buffer.appendBuffer(whole);
  };
  // Stays at the live edge: a jump where it is far, else a little faster.
  const stay = () => {
    const { buffered } = video;
    if (buffered.length === 0) return;
    const end = buffered.end(buffered.length - 1);
    const behind = end - video.currentTime;
    if (behind > 1 || video.currentTime < buffered.start(buffered.length - 1)) video.currentTime = Math.max(buffered.start(buffered.length - 1), end - 0.15);
    video.playbackRate = behind > 0.35 ? 1.1 : 1;
    if (buffer && !buffer.updating && buffered.start(0) < video.currentTime - 30) buffer.remove(0, video.currentTime - 10);
  };
  const shown = (_, { mediaTime }) => {
    if (state.clock) {
      const captured = Date.parse(state.clock.captured_at) + mediaTime * 1000 - state.clock.pts_ms;
      state.late.push(Date.now() - captured);
    }
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  video.addEventListener('error', () => tell({ event: 'error', fatal: true, reason: video.error && video.error.message }));
  const socket = new WebSocket(address);
  socket.binaryType = 'arraybuffer';
  socket.addEventListener('message', ({ data }) => {
    if (typeof data !== 'string') {
      waiting.push(data);
      return next();
    }
    const told = JSON.parse(data);
    if (told.type === 'init') {
      tell({ ...told, event: 'init' });
      state.clock = null;
      begin(told);
    } else if (told.type === 'clock') {
      state.clock = told;
    } else {
      tell({ ...told, event: told.type });
    }
  });
  socket.addEventListener('close', ({ code, reason }) => tell({ event: 'closed', code, reason }));
  setInterval(() => {
    const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
    const { buffered } = video;
    const behind = buffered.length ? buffered.end(buffered.length - 1) - video.currentTime : null;
    tell({ event: 'at', time: video.currentTime, frames: totalVideoFrames, dropped: droppedVideoFrames,
           sound: video.webkitAudioDecodedByteCount, behind_ms: behind && Math.round(1000 * behind),
           late_ms: state.late.length ? Math.round(state.late[state.late.length - 1]) : null });
  }, 500);
};

// Runs in the page: how much the pixels of the picture differ from each other, 0 for one plain colour.
const contrast = () => {
  const { video, late } = window.player;
  const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 48 });
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 64, 48);
  const { data } = context.getImageData(0, 0, 64, 48);
  const green = Array.from({ length: 64 * 48 }, (_, i) => data[4 * i + 1]);
  const mean = green.reduce((a, b) => a + b) / green.length;
  return { width: video.videoWidth, height: video.videoHeight, late_ms: late.map(Math.round),
           deviation: Math.sqrt(green.reduce((a, g) => a + (g - mean) ** 2, 0) / green.length) };
};

(async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required', '--mute-audio',
           // The page above comes from nowhere, and may ask for what is on this machine all the same.
           '--disable-features=LocalNetworkAccessChecks'],
  });
  try {
    const page = await browser.newPage();
    page.on('console', (message) => message.type() === 'error' && tell({ event: 'console', text: message.text() }));
    page.on('pageerror', (e) => tell({ event: 'error', fatal: true, details: 'page', reason: String(e) }));
    await page.exposeFunction('tell', tell);
    // A page of the service's own origin, as ours would be.
    const home = new URL('/player-under-test', url.replace(/^ws/, 'http')).href;
    await page.route(home, (route) => route.fulfill({
      contentType: 'text/html',
      body: '<!doctype html><style>body{margin:0;background:#036}</style><video width=768 height=576 muted playsinline></video>',
    }));
    await page.goto(home);
    const over = new Promise((resolve) => process.stdin.on('end', resolve).on('close', resolve).resume());
    await page.evaluate(play, url);
    await over;
    if (screenshot) await page.screenshot({ path: screenshot });
    tell({ event: 'end', ...(await page.evaluate(contrast)) });
  } finally {
    await browser.close();
  }
})().catch((e) => {
  tell({ event: 'error', fatal: true, details: 'script', reason: String(e) });
  process.exitCode = 1;
});
