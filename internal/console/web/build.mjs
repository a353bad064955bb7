// Bundles the pages into dist, which Go embeds. The same sources and lock file give the same bytes.
import { build } from "esbuild";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";

const out = "dist";

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const { metafile } = await build({
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  splitting: true, // the editor is loaded only by the view that edits
  format: "esm",
  target: ["es2022", "chrome123", "firefox120", "safari17.5"],
  chunkNames: "[name]-[hash]",
  minify: true,
  legalComments: "none",
  charset: "utf8",
  jsx: "automatic",
  jsxImportSource: "preact",
  metafile: true,
  logLevel: "warning",
});
for (const file of ["index.html", "icon.svg"]) await cp(`src/${file}`, `${out}/${file}`);
await writeFile(`${out}/licenses.txt`, await licenses(metafile));

// The checker of the browser tests, which run without Node.
await cp("node_modules/axe-core/axe.min.js", "../../../test/console/axe.min.js");

// licenses collects those of all packages of which something is in the bundle.
async function licenses({ inputs }) {
  const names = new Set();
  for (const file of Object.keys(inputs)) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file);
    if (found) names.add(found[1]);
  }
  const parts = ["The pages of the console contain these packages."];
  for (const name of [...names].sort()) {
    const folder = path.join("node_modules", name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((f) => /^licen[cs]e/i.test(f));
    if (!file) throw new Error(`${name} has no licence file: say in build.mjs where it is`);
    const text = await readFile(path.join(folder, file), "utf8");
    parts.push(`${name} ${version} (${license})\n\n${text.trim()}`);
  }
  return parts.join(`\n\n${"-".repeat(80)}\n\n`) + "\n";
}
