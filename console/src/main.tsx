// Where the page begins.
import { render } from "preact";
import { App } from "./app.tsx";
import { start } from "./state.ts";
import "./style/index.css";
import "./theme.ts";

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App />, root);
  void start();
}
