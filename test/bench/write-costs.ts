/** Writes COSTS.md; `npm run format` makes its tables as wide as they are. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { costsDocument } from "./costs.ts";

writeFileSync(path.join(import.meta.dirname, "COSTS.md"), costsDocument());
