import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { digest, randomBytes, unknownDigest } from "../fixtures/content.ts";
import { interceptOperations } from "../fixtures/intercepted-env.ts";
import { freshRepository, registryWith } from "../fixtures/registry.ts";
import { objectsMadeBy, runPass } from "../fixtures/storage.ts";
import { append, begin } from "../fixtures/upload.ts";
import { expectError } from "../conformance/error-envelope.ts";
import type { Bytes, RepositoryClient } from "../support/client.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

interface Ended {
  /** every location that the session handed out */
  readonly locations: readonly string[];
  readonly bytes: Bytes;
}

const bytes = (): Bytes => randomBytes(300);

/** Sessions as they can come to their end, by what came before it. */
const beginnings: Readonly<Record<string, (repository: RepositoryClient, whole: Bytes) => Promise<readonly string[]>>> =
  {
    "no chunk": async (repository) => [(await begin(repository)).location],
    "a status query": async (repository) => {
      const { location } = await begin(repository);
      expect((await repository.uploadStatus(location)).status).toBe(204);
      return [location];
    },
    "one chunk": async (repository, whole) => {
      const { location } = await begin(repository);
      return [location, await append(repository, location, whole)];
    },
    "several chunks": async (repository, whole) => {
      const { location } = await begin(repository);
      const middle = await append(repository, location, whole.slice(0, 100));
      return [location, middle, await append(repository, middle, whole.slice(100))];
    },
    "a chunk of no bytes": async (repository) => {
      const { location } = await begin(repository);
      return [location, await append(repository, location, new Uint8Array(0))];
    },
  };

/** Every request that a session knows, and a final PUT in each manner. */
function requestsAt(repository: RepositoryClient, location: string): Readonly<Record<string, () => Promise<Response>>> {
  return {
    "end-5 PATCH": async () => repository.appendChunk(location, randomBytes(10)),
    "end-5 PATCH from 0": async () => repository.appendChunk(location, randomBytes(10), 0),
    "end-5 PATCH from 300": async () => repository.appendChunk(location, randomBytes(10), 300),
    "end-5 PATCH of nothing": async () => repository.appendChunk(location, new Uint8Array(0)),
    "end-13 GET": async () => repository.uploadStatus(location),
    "end-13 HEAD": async () => repository.registry.request("HEAD", location),
    "end-14 DELETE": async () => repository.cancelUpload(location),
  };
}

async function expectUnknown(request: string, response: Response): Promise<void> {
  expect({ request, status: response.status }).toEqual({ request, status: 404 });
  if (request !== "end-13 HEAD") await expectError(response, 404, "BLOB_UPLOAD_UNKNOWN");
}

describe.each(Object.entries(beginnings))("a session finished after %s", (before, start) => {
  const isEmpty = before === "no chunk" || before === "a status query" || before === "a chunk of no bytes";

  async function finish(repository: RepositoryClient, at: "first" | "last"): Promise<Ended> {
    const whole = bytes();
    const locations = await start(repository, whole);
    const location = (at === "first" ? locations[0] : locations.at(-1)) ?? "";
    // At the POST's location bytes without Content-Range are a whole blob: where a chunk came, they must say where they begin.
    const from = before === "a chunk of no bytes" ? 0 : undefined;
    const response = await repository.finishUpload(location, digest(whole), isEmpty ? whole : undefined, from);
    expect(response.status).toBe(201);
    return { locations, bytes: whole };
  }

  it.each(["first", "last"] as const)(
    "at its %s location: end-6 PUT again with the same digest is 201 at each",
    async (at) => {
      const repository = freshRepository();
      const { locations, bytes: whole } = await finish(repository, at);
      for (const location of locations) {
        for (const body of [undefined, whole]) {
          const repeated = await repository.finishUpload(location, digest(whole), body);
          expect([repeated.status, repeated.headers.get("Docker-Content-Digest")]).toEqual([201, digest(whole)]);
        }
      }
      expect((await repository.headBlob(digest(whole))).status).toBe(200);
    },
  );

  it.each(["first", "last"] as const)(
    "at its %s location: end-6 PUT with another digest is 400 at each",
    async (at) => {
      const repository = freshRepository();
      const { locations, bytes: whole } = await finish(repository, at);
      const other = randomBytes(50);
      const made = await objectsMadeBy(async () => {
        for (const location of locations) {
          await expectError(await repository.finishUpload(location, unknownDigest()), 400, "DIGEST_INVALID");
          await expectError(await repository.finishUpload(location, digest(whole, "sha512")), 400, "DIGEST_INVALID");
          await expectError(await repository.finishUpload(location, digest(other), other), 400, "DIGEST_INVALID");
          await expectError(await repository.finishUpload(location, digest(other), other, 0), 400, "DIGEST_INVALID");
        }
        await runPass({ graceSeconds: 3600 });
      });
      expect(made).toEqual([]);
      expect((await repository.headBlob(digest(other))).status).toBe(404);
      expect((await repository.headBlob(digest(whole))).status).toBe(200);
    },
  );

  it.each(["first", "last"] as const)("at its %s location: any other request is 404 at each", async (at) => {
    const repository = freshRepository();
    const { locations, bytes: whole } = await finish(repository, at);
    for (const location of locations) {
      for (const [request, send] of Object.entries(requestsAt(repository, location)))
        await expectUnknown(request, await send());
    }
    expect((await repository.headBlob(digest(whole))).status).toBe(200);
  });
});

describe("a session whose chunks were finished by a PUT with the last one", () => {
  it("answers that PUT alike when it comes again, with its bytes, at each location", async () => {
    const repository = freshRepository();
    const whole = bytes();
    const { location } = await begin(repository);
    const last = await append(repository, location, whole.slice(0, 100));
    expect((await repository.finishUpload(last, digest(whole), whole.slice(100))).status).toBe(201);
    for (const each of [location, last])
      expect((await repository.finishUpload(each, digest(whole), whole.slice(100))).status).toBe(201);
  });
});

describe("a final PUT that broke off before its rows", () => {
  it("is no reason to take a chunk beyond its bytes for its repetition, and to give the upload up", async () => {
    const repository = freshRepository();
    const whole = bytes();
    const last = await append(repository, (await begin(repository)).location, whole.slice(0, 200));
    let opened = false;
    const crashing = interceptOperations(env, {
      before: ({ binding, method }) => {
        if (method === "open") opened = true;
        if (opened && binding === "DB") throw new Error("the machine is gone");
      },
    });
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const to = registryWith(crashing).repository(repository.name);
    expect((await to.finishUpload(last, digest(whole.slice(0, 200)))).status).toBe(500);
    const beyond = await repository.finishUpload(last, digest(whole), whole.slice(200), 200);
    expect(beyond.headers.get("Range")).toBe("0-199");
    await expectError(beyond, 416, "BLOB_UPLOAD_INVALID");
    expect((await repository.finishUpload(last, digest(whole.slice(0, 200)))).status).toBe(201);
  });
});

describe("a blob whose object was given up before its rows", () => {
  it.each(["end-6 PUT", "end-4b POST"])("by %s is 404, never 201, and again when it is repeated", async (which) => {
    const repository = freshRepository();
    const whole = bytes();
    const { location } = await begin(repository);
    const late = interceptOperations(env, {
      after: async ({ binding, method, values: [key] }) => {
        if (binding !== "BLOBS" || method !== "put") return;
        await env.DB.prepare("INSERT INTO garbage (object_key, created_at) VALUES (?1, 0)").bind(key).run();
      },
    });
    const to = registryWith(late).repository(repository.name);
    const send = async (): Promise<Response> =>
      which === "end-6 PUT"
        ? to.finishUpload(location, digest(whole), whole)
        : to.startUpload({ digest: digest(whole) }, whole);
    for (let time = 0; time < 2; time++) await expectError(await send(), 404, "BLOB_UPLOAD_UNKNOWN");
    expect((await repository.headBlob(digest(whole))).status).toBe(404);
  });
});

describe.each(Object.entries(beginnings))("end-14 DELETE of a session after %s", (_before, start) => {
  it.each(["first", "last"] as const)(
    "at its %s location: 204; then every request is 404 at each, and nothing stays in R2",
    async (at) => {
      const repository = freshRepository();
      const whole = bytes();
      const made = await objectsMadeBy(async () => {
        const locations = await start(repository, whole);
        const cancelled = await repository.cancelUpload((at === "first" ? locations[0] : locations.at(-1)) ?? "");
        expect(cancelled.status).toBe(204);
        for (const location of locations) {
          for (const [request, send] of Object.entries(requestsAt(repository, location)))
            await expectUnknown(request, await send());
          for (const body of [undefined, whole]) {
            await expectUnknown("end-6 PUT", await repository.finishUpload(location, digest(whole), body));
          }
        }
        await runPass({ graceSeconds: 3600 });
      });
      expect(made).toEqual([]);
      expect((await repository.headBlob(digest(whole))).status).toBe(404);
    },
  );
});

describe("a session", () => {
  it("without bytes says Range: 0-0", async () => {
    const repository = freshRepository();
    const started = await repository.startUpload();
    expect(started.headers.get("Range")).toBe("0-0");
    const status = await repository.uploadStatus((await begin(repository)).location);
    expect([status.status, status.headers.get("Range")]).toEqual([204, "0-0"]);
  });

  it("is known at its POST's location too, after chunks", async () => {
    const repository = freshRepository();
    const whole = bytes();
    const { location } = await begin(repository);
    await append(repository, location, whole);
    expect((await repository.uploadStatus(location)).headers.get("Range")).toBe("0-299");
    expect((await repository.finishUpload(location, digest(whole))).status).toBe(201);
  });

  it("of which the POST's location is used for each chunk goes on alike", async () => {
    const repository = freshRepository();
    const whole = bytes();
    const { location } = await begin(repository);
    for (const start of [0, 100])
      expect((await repository.appendChunk(location, whole.slice(start, start + 100), start)).status).toBe(202);
    expect((await repository.finishUpload(location, digest(whole), whole.slice(200), 200)).status).toBe(201);
  });

  it("that has chunks answers a final PUT with other bytes at the POST's location by 416, and where to go on", async () => {
    const repository = freshRepository();
    const whole = bytes();
    const { location } = await begin(repository);
    await append(repository, location, whole.slice(0, 200));
    const response = await repository.finishUpload(location, digest(whole), whole.slice(200));
    expect(response.headers.get("Range")).toBe("0-199");
    const on = response.headers.get("Location") ?? "";
    await expectError(response, 416, "BLOB_UPLOAD_INVALID");
    expect((await repository.finishUpload(on, digest(whole), whole.slice(200))).status).toBe(201);
  });
});
