/** Deletes, of what was pushed to be looked at: after them it is gone at once. */
import { requireStatus, seenIn } from "./answers.ts";
import type { Led } from "./client.ts";
import type { Check, Examined } from "./examination.ts";
import { getManifest, requireManifest } from "./read-checks.ts";
import { Failed, Skipped, Warned } from "./verdict.ts";

/** end-9 by tag: distribution-spec v1.1.1 «Deleting tags». */
const deleteTag: Check = {
  name: "delete-tag",
  needs: ["manifest-push"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    const tag = subject.tags.at(-1) ?? "";
    await requireDeleted(examined, `manifests/${tag}`, "a tag");
    requireGone(await getManifest(examined, "GET", tag), "the tag");
    requireStatus(await getManifest(examined, "HEAD", subject.digest), [200], "the manifest whose tag was deleted");
    return "the tag is gone at once, its manifest stays";
  },
};

/** end-9 by digest: «Deleting Manifests». */
const deleteManifest: Check = {
  name: "delete-manifest",
  needs: ["manifest-push"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    await requireDeleted(examined, `manifests/${subject.digest}`, "a manifest");
    requireGone(await getManifest(examined, "GET", subject.digest), "the manifest");
    requireGone(await getManifest(examined, "GET", subject.tags[0] ?? ""), "its tag");
    return "the manifest is gone at once, with its tags";
  },
};

/** end-10: «Deleting Blobs». */
const deleteBlob: Check = {
  name: "delete-blob",
  needs: ["delete-manifest"],
  async run(examined) {
    const { client, repository, layer, pushed } = examined;
    if (layer === null) throw new Skipped("no blob was pushed");
    // The manifest that refers to it goes first: a registry may keep what is in use.
    await pushed.removeManifests(client);
    await requireDeleted(examined, `blobs/${layer.digest}`, "a blob");
    requireGone(await client.send("HEAD", `/v2/${repository}/blobs/${layer.digest}`), "the blob");
    return "the blob is gone at once";
  },
};

async function requireDeleted({ client, repository, wishes }: Examined, path: string, what: string): Promise<void> {
  const answer = await client.send("DELETE", `/v2/${repository}/${path}`);
  if ([400, 401, 403, 405].includes(answer.status)) {
    if (wishes.leave) throw new Skipped(`${seenIn(answer)}: it stays, as --leave says`);
    throw new Warned({
      expected: `202 for DELETE of ${what}`,
      seen: seenIn(answer),
      mend: "turn deletion on in the registry, or let DELETE through to it; the specification lets it go without",
    });
  }
  requireStatus(answer, [202, 200, 204], `DELETE of ${what}`);
}

function requireGone(answer: Led, what: string): void {
  if (answer.status === 404) return;
  throw new Failed({
    expected: `404 for ${what} that was deleted`,
    seen: seenIn(answer),
    mend: "look for a cache before the registry that goes on answering: it must not keep what has a login, or a tag",
  });
}

export const deleteChecks: readonly Check[] = [deleteTag, deleteManifest, deleteBlob];
