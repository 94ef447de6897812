import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { image, push } from "../fixtures/artifacts.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import type { RepositoryClient } from "../support/client.ts";

beforeEach(() => {
  // The faults that D1 is given here are logged, as they should be.
  vi.spyOn(console, "error").mockReturnValue(undefined);
});

afterEach(() => {
  vi.restoreAllMocks();
});

interface Change {
  /** the one request */
  readonly send: (to: RepositoryClient) => Promise<Response>;
  /** whether the change is there, to whoever pulls */
  readonly isDone: () => Promise<boolean>;
  readonly events: readonly string[];
}

const changes: Readonly<Record<string, (repository: RepositoryClient) => Promise<Change>>> = {
  "end-7 PUT manifest with tags": async (repository) => {
    const pushed = image();
    for (const { bytes } of pushed.blobs) await repository.pushBlob(bytes);
    const { digest, mediaType } = pushed.descriptor;
    return {
      send: async (to) => to.putManifest(digest, pushed.bytes, mediaType, ["a", "b"]),
      isDone: async () => (await repository.headManifest("b")).status === 200,
      events: ["manifest.pushed", "tag.moved", "tag.moved"],
    };
  },
  "end-9 DELETE tag": async (repository) => {
    await push(repository, image(), "a");
    return {
      send: async (to) => to.deleteManifest("a"),
      isDone: async () => (await repository.headManifest("a")).status === 404,
      events: ["tag.deleted"],
    };
  },
  "end-9 DELETE manifest": async (repository) => {
    const { descriptor } = await push(repository, image(), "a", "b");
    return {
      send: async (to) => to.deleteManifest(descriptor.digest),
      isDone: async () => (await repository.headManifest(descriptor.digest)).status === 404,
      events: ["manifest.deleted", "tag.deleted", "tag.deleted"],
    };
  },
  "end-10 DELETE blob": async (repository) => {
    const { blobs } = await push(repository, image());
    const digest = blobs[1]?.descriptor.digest ?? "";
    return {
      send: async (to) => to.deleteBlob(digest),
      isDone: async () => (await repository.headBlob(digest)).status === 404,
      events: ["blob.deleted"],
    };
  },
};

/** Kinds of the events of a repository, after the last id that is given. */
async function notesOf(repository: RepositoryClient, after: number): Promise<{ kinds: string[]; last: number }> {
  const { results } = await env.DB.prepare(
    "SELECT id, kind FROM events WHERE repository = ?1 AND id > ?2 ORDER BY kind",
  )
    .bind(repository.name, after)
    .all<{ id: number; kind: string }>();
  return { kinds: results.map(({ kind }) => kind), last: Math.max(after, ...results.map(({ id }) => id)) };
}

describe.each(Object.entries(changes))("%s", (_request, prepare) => {
  it.each(["before", "after"] as const)(
    "that breaks off right %s any of its D1 operations leaves the change with its events, or neither",
    async (when) => {
      let done = 0;
      for (let at = 0; ; at++) {
        const repository = freshRepository();
        const change = await prepare(repository);
        const { last } = await notesOf(repository, 0);
        let operations = 0;
        let reached = false;
        const broken = interceptOperations(env, {
          [when]: ({ binding }: { binding: string }) => {
            if (binding !== "DB" || operations++ !== at) return;
            reached = true;
            throw new Error("the machine is gone");
          },
        });
        const response = await change.send(registryWith(broken).repository(repository.name));
        const isDone = await change.isDone();
        expect({ at, events: (await notesOf(repository, last)).kinds }).toEqual({
          at,
          events: isDone ? change.events : [],
        });
        if (isDone) done++;
        if (reached) continue;
        expect(response.ok).toBe(true);
        // The change was made in the one batch: once where it broke off after it, and once where nothing broke off.
        expect({ operations: at, done }).toEqual({ operations: 1, done: when === "after" ? 2 : 1 });
        return;
      }
    },
  );
});

describe("a tag's history, and its events,", () => {
  it("say when", async () => {
    const repository = freshRepository();
    const times: number[] = [];
    const note = (): number => times.push(Date.now());
    note();
    const { bytes } = await push(repository, image(), "a");
    note();
    await repository.deleteManifest("a");
    note();
    await repository.putManifest("a", bytes);
    note();
    for (const sql of [
      `SELECT tag_history.created_at AS at FROM tag_history JOIN repositories ON repositories.id = repository_id
       WHERE repositories.name = ?1 ORDER BY tag_history.id`,
      "SELECT created_at AS at FROM events WHERE repository = ?1 AND tag IS NOT NULL ORDER BY id",
    ]) {
      const { results } = await env.DB.prepare(sql).bind(repository.name).all<{ at: number }>();
      expect(results).toHaveLength(3);
      for (const [index, { at }] of results.entries()) {
        expect(at).toBeGreaterThanOrEqual(times[index] ?? Number.POSITIVE_INFINITY);
        expect(at).toBeLessThanOrEqual(times[index + 1] ?? 0);
      }
    }
  });
});
