// Records which sources the built files are of, so that a test finds out that they are old without building them.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const files = ["index.html", "package.json", "tsconfig.json", "vite.config.js", ...readdirSync("src").map((name) => `src/${name}`)];
const digest = createHash("sha256");
for (const file of files.sort()) digest.update(`${file}\n`).update(readFileSync(file));
writeFileSync("../../../shared/datamodels/explore/static/sources.sha256", `${digest.digest("hex")}\n`);
