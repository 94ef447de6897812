/** Whether the login may push, and delete what it pushed: asked of the registry, not read from a token. */
import { randomBytes } from "node:crypto";
import { isRefused, requireStatus, seenIn } from "./answers.ts";
import { digestOf } from "./content.ts";
import type { Check } from "./examination.ts";
import { beginUpload, cancelUpload } from "./upload.ts";
import { Skipped } from "./verdict.ts";

const push: Check = {
  name: "push",
  needs: ["login"],
  async run(examined) {
    if (examined.wishes.readOnly) throw new Skipped("--read-only: nothing is pushed");
    const { location } = await beginUpload(examined);
    await cancelUpload(examined, location);
    return `this login may push to ${examined.repository}`;
  },
};

/** Of a manifest that is not there: who may is told so, who may not is refused before. */
const remove: Check = {
  name: "delete",
  needs: ["push"],
  async run({ client, repository, wishes }) {
    const absent = digestOf(randomBytes(32));
    const answer = await client.send("DELETE", `/v2/${repository}/manifests/${absent}`);
    if (isRefused(answer) || answer.status === 400 || answer.status === 405) {
      if (wishes.leave) return `${seenIn(answer)}: what is pushed stays, as --leave says`;
      throw new Skipped(
        `${seenIn(answer)}: what would be pushed could not be deleted again; log in as somebody who may, or let it stay by --leave`,
      );
    }
    requireStatus(answer, [404, 202], "the DELETE of a manifest that is not there");
    return `this login may delete in ${repository}`;
  },
};

export const rightsChecks: readonly Check[] = [push, remove];
