import { render } from "preact";
import { App } from "./app";
import { interceptLinks } from "./router";
import { signInByLink } from "./session";
import { applyTheme } from "./theme";
import "./app.css";

applyTheme();
signInByLink();
interceptLinks();
render(<App />, document.getElementById("app")!);
