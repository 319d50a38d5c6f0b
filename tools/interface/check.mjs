// Holds the AsyncAPI document against the AsyncAPI parser: every fault ends this with 1.
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";

const [modules, file] = process.argv.slice(2);
const { Parser } = createRequire(`${modules}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(await readFile(file, "utf8"), { source: file });
const words = ["error", "warning", "information", "hint"];
for (const it of diagnostics) console.log(`${words[it.severity]}: ${it.path.join(".")}: ${it.message}`);
if (!document || diagnostics.some((it) => it.severity < 2)) process.exit(1);
console.log(`ok: ${document.channels().length} channels, ${document.operations().length} operations`);
