// Plays an HLS address with hls.js in a headless Chromium and tells what happens, one JSON object a line:
//   {"event":"fragment","file":...,"start":...}   a segment of video was taken in; `start` is where it lies on the player's timeline
//   {"event":"cue","text":...,"start":...,"end":...,"id":...,"at":...}   a caption appeared when the player was at `at`
//   {"event":"at","time":...,"frames":...,"sound":...}   every half second: position, pictures decoded, bytes of sound decoded
//   {"event":"error",...}   an error of hls.js, or of the page
// Goes on until its standard input ends; then writes the last line {"event":"end",...} and, if asked, a screenshot.
// usage: node hls.cjs URL [screenshot.png]       with playwright-core and hls.js in NODE_PATH
'use strict';

const { chromium } = require('playwright-core');

const [url, screenshot] = process.argv.slice(2);
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

// Runs in the page.
const play = (address) => {
  const video = document.querySelector('video');
  const hls = new Hls({ liveSyncDurationCount: 3, renderTextTracksNatively: true });
  window.player = { video, hls };
  hls.on(Hls.Events.ERROR, (_, e) => tell({ event: 'error', fatal: e.fatal, details: e.details, reason: String(e.error) }));
  hls.on(Hls.Events.FRAG_BUFFERED, (_, e) => {
    if (e.frag.type === 'main') tell({ event: 'fragment', file: e.frag.relurl, start: e.frag.start, cc: e.frag.cc });
  });
  hls.on(Hls.Events.MANIFEST_PARSED, (_, e) => {
    const { codecs, width, height } = hls.levels[0];
    tell({ event: 'manifest', codecs: [hls.levels[0].videoCodec, hls.levels[0].audioCodec], width, height, codecsAttribute: codecs });
    video.play();
  });
  const seen = new Set();
  const watch = (track) => track.addEventListener('cuechange', () => {
    for (const cue of track.activeCues || []) {
      if (seen.has(cue)) continue;
      seen.add(cue);
      tell({ event: 'cue', text: cue.text, start: cue.startTime, end: cue.endTime, id: cue.id, at: video.currentTime,
             language: track.language, kind: track.kind, mode: track.mode, n_active: track.activeCues.length });
    }
  });
  video.textTracks.addEventListener('addtrack', (e) => watch(e.track));
  setInterval(() => {
    const { totalVideoFrames } = video.getVideoPlaybackQuality();
    tell({ event: 'at', time: video.currentTime, frames: totalVideoFrames, sound: video.webkitAudioDecodedByteCount, paused: video.paused });
  }, 500);
  hls.loadSource(address);
  hls.attachMedia(video);
};

// Runs in the page: how much the pixels of the picture differ from each other, 0 for one plain colour.
const contrast = () => {
  const { video } = window.player;
  const canvas = Object.assign(document.createElement('canvas'), { width: 64, height: 48 });
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 64, 48);
  const { data } = context.getImageData(0, 0, 64, 48);
  const green = Array.from({ length: 64 * 48 }, (_, i) => data[4 * i + 1]);
  const mean = green.reduce((a, b) => a + b) / green.length;
  return { width: video.videoWidth, height: video.videoHeight,
           deviation: Math.sqrt(green.reduce((a, g) => a + (g - mean) ** 2, 0) / green.length) };
};

(async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    headless: true,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required', '--mute-audio'],
  });
  try {
    const page = await browser.newPage();
    page.on('pageerror', (e) => tell({ event: 'error', fatal: true, details: 'page', reason: String(e) }));
    await page.exposeFunction('tell', tell);
    // A page of the same origin as the playlist, as our own would be.
    const home = new URL('/player-under-test', url).href;
    await page.route(home, (route) => route.fulfill({
      contentType: 'text/html',
      body: '<!doctype html><style>body{margin:0;background:#036}</style><video width=768 height=576 muted playsinline></video>',
    }));
    await page.goto(home);
    await page.addScriptTag({ path: require.resolve('hls.js/dist/hls.js') });
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
