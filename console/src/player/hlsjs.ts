// hls.js, in a file of its own that is loaded when it is needed. The light build: captions are ours.
export { default } from "hls.js/light";
