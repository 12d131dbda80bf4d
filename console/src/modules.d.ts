// What the bundler knows and TypeScript does not.
declare module "*.css";
declare module "hls.js/light" {
  export { default } from "hls.js";
}
