// Bundles src into dist: hashed names, so that browsers may keep them for ever;
// a gzipped form beside each, so that the server compresses nothing; and
// manifest.json, by which the server finds them.
import { build } from "esbuild";
import { readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";

const out = "dist";
for (const name of readdirSync(out)) {
  if (name !== "README") rmSync(join(out, name), { recursive: true });
}

const result = await build({
  entryPoints: ["src/console.js", "src/terminal.js", "src/files.js", "src/console.css", "src/terminal.css"],
  outdir: out,
  entryNames: "[name]-[hash]",
  chunkNames: "part-[hash]",
  bundle: true,
  splitting: true, // what several pages' scripts share is there once, and runs once
  minify: true,
  format: "esm",
  target: ["es2022", "chrome111", "firefox115", "safari16.4"],
  legalComments: "eof",
  metafile: true,
});

const manifest = {};
for (const [path, made] of Object.entries(result.metafile.outputs)) {
  manifest[basename(made.entryPoint ?? path)] = basename(path);
  writeFileSync(path + ".gz", gzipSync(readFileSync(path), { level: 9 }));
}
writeFileSync(join(out, "manifest.json"), JSON.stringify(manifest, null, 2) + "\n");
console.log(Object.values(manifest).join("\n"));
