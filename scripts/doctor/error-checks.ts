/** What is not there: told as the specification has it. */
import { randomBytes } from "node:crypto";
import { errorIn, requireStatusOrRight, seenIn } from "./answers.ts";
import { digestOf } from "./content.ts";
import type { Check } from "./examination.ts";
import type { Answer } from "./exchange.ts";
import { Failed } from "./verdict.ts";

/** distribution-spec v1.1.1 «Error Codes»: clients print what is not JSON as gibberish. */
const errors: Check = {
  name: "errors",
  needs: ["login"],
  async run({ client, repository }) {
    const absent = digestOf(randomBytes(32));
    const codes: string[] = [];
    for (const [path, known] of [
      [`/v2/${repository}/manifests/${absent}`, ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"]],
      [`/v2/${repository}/blobs/${absent}`, ["BLOB_UNKNOWN", "NAME_UNKNOWN"]],
    ] as const) {
      const answer = await client.send("GET", path);
      requireStatusOrRight(answer, [404], `GET ${path}`);
      codes.push(requireCode(answer, known, path));
    }
    return `404 with ${codes.join(" and ")}`;
  },
};

function requireCode(answer: Answer, known: readonly string[], path: string): string {
  const error = errorIn(answer);
  if (error !== null && known.includes(error.code)) return error.code;
  throw new Failed({
    expected: `JSON with the code ${known.join(" or ")} for GET ${path}`,
    seen: seenIn(answer),
    mend: "let a proxy before the registry pass its errors on as they are: clients show their text",
  });
}

export const errorChecks: readonly Check[] = [errors];
