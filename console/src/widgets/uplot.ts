// uPlot, in a file of its own that is loaded when the first chart is seen.
export { default } from "uplot";
