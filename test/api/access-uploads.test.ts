import { describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { digest, randomBytes } from "../fixtures/content.ts";
import { bearerFor, makeAccessToken, makeRobot, makeUser, revoke } from "../fixtures/principals.ts";
import { environmentWith, registryWith } from "../fixtures/registry.ts";
import { append, begin } from "../fixtures/upload.ts";
import { type RepositoryClient } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/** An upload session is of the principal that began it, with whichever of its credentials it comes. */

const run = crypto.randomUUID();
const registry = registryWith(environmentWith({ ANONYMOUS_PULL: `${run}/open` }));
const grants = [`${run}/*:pull,push,delete`];
const scope = `repository:${run}/app:pull,push`;
const as = (authorization: string | null): RepositoryClient => registry.as(authorization).repository(`${run}/app`);

const chunk = randomBytes(10);

const bearerOf = async (authorization: string): Promise<string> => bearerFor(registry, authorization, scope);

/** What can be asked of a session, at its location. */
const requests = [
  { what: "PATCH", send: async (r: RepositoryClient, at: string) => r.appendChunk(at, chunk) },
  { what: "PATCH with a range", send: async (r: RepositoryClient, at: string) => r.appendChunk(at, chunk, 10) },
  { what: "PUT", send: async (r: RepositoryClient, at: string) => r.finishUpload(at, digest(chunk)) },
  {
    what: "PUT with a body",
    send: async (r: RepositoryClient, at: string) => r.finishUpload(at, digest(chunk), chunk),
  },
  { what: "GET", send: async (r: RepositoryClient, at: string) => r.uploadStatus(at) },
  { what: "DELETE", send: async (r: RepositoryClient, at: string) => r.cancelUpload(at) },
];

const others = [
  { who: "another user", says: async () => (await makeRobot(grants)).token.authorization },
  {
    who: "another user's bearer",
    says: async () => bearerFor(registry, (await makeRobot(grants)).token.authorization, scope),
  },
  { who: "the administrator", says: async () => asAdmin },
  { who: "the administrator's bearer", says: async () => bearerFor(registry, asAdmin, scope) },
];

describe.each(others)("a session that a user began, with $who", ({ says }) => {
  it.each(requests)("$what at the POST's location is a 404, and the session goes on", async ({ send }) => {
    const mine = as((await makeRobot(grants)).token.authorization);
    const { location } = await begin(mine);
    await expectError(await send(as(await says()), location), 404, "BLOB_UPLOAD_UNKNOWN");
    expect((await mine.finishUpload(location, digest(chunk), chunk)).status).toBe(201);
  });

  it.each(requests)("$what after a chunk is a 404, and the session goes on", async ({ send }) => {
    const mine = as((await makeRobot(grants)).token.authorization);
    const { location } = await begin(mine);
    const last = await append(mine, location, chunk);
    for (const at of [location, last]) {
      await expectError(await send(as(await says()), at), 404, "BLOB_UPLOAD_UNKNOWN");
    }
    expect((await mine.uploadStatus(last)).headers.get("Range")).toBe("0-9");
    expect((await mine.finishUpload(last, digest(chunk))).status).toBe(201);
  });
});

describe("a session that the administrator began", () => {
  it.each(requests)("is no user's: $what is a 404", async ({ send }) => {
    const { location } = await begin(as(asAdmin));
    const last = await append(as(asAdmin), location, chunk);
    await expectError(await send(as((await makeRobot(grants)).token.authorization), last), 404, "BLOB_UPLOAD_UNKNOWN");
  });
});

describe("a session of the same principal", () => {
  it("goes on with a new bearer, with Basic, and with another access token of the user", async () => {
    const user = await makeUser(grants);
    const [one, other] = [await makeAccessToken(user), await makeAccessToken(user)];
    const { location } = await begin(as(await bearerOf(one.authorization)));
    let at = location;
    for (const authorization of [
      await bearerOf(one.authorization),
      one.authorization,
      other.authorization,
      await bearerOf(other.authorization),
      `Bearer ${one.secret}`,
    ]) {
      at = await append(as(authorization), at, randomBytes(1));
    }
    expect((await as(other.authorization).uploadStatus(at)).headers.get("Range")).toBe("0-4");
    expect((await as(await bearerOf(one.authorization)).cancelUpload(at)).status).toBe(204);
  });

  it("goes on with the administrator's bearer where Basic began it, and the other way round", async () => {
    const bearer = await bearerFor(registry, asAdmin, scope);
    for (const [first, second] of [
      [asAdmin, bearer],
      [bearer, asAdmin],
    ] as const) {
      const { location } = await begin(as(first));
      expect((await as(second).finishUpload(location, digest(chunk), chunk)).status).toBe(201);
    }
  });

  it("needs push still: not with a bearer for pull, not with a narrowed access token, not when that is revoked", async () => {
    const user = await makeUser(grants);
    const { location } = await begin(as((await makeAccessToken(user)).authorization));
    const full = await makeAccessToken(user);
    const reader = await makeAccessToken(user, { grants: [`${run}/*:pull`] });
    const forPull = await bearerFor(registry, full.authorization, `repository:${run}/app:pull`);
    const gone = await makeAccessToken(user);
    await revoke(gone);
    for (const { send } of requests) {
      await expectError(await send(as(forPull), location), 401, "UNAUTHORIZED");
      await expectError(await send(as(reader.authorization), location), 403, "DENIED");
      await expectError(await send(as(null), location), 401, "UNAUTHORIZED");
    }
    await expectError(await as(gone.authorization).uploadStatus(location), 401, "UNAUTHORIZED");
    expect((await as(full.authorization).uploadStatus(location)).status).toBe(204);
  });

  it("is of one repository: its reference in the path of another that the caller may push is a 404", async () => {
    const { token } = await makeRobot(grants);
    const { location } = await begin(as(token.authorization));
    const moved = location.replace(`${run}/app`, `${run}/other`);
    for (const { send } of requests) {
      await expectError(await send(as(token.authorization), moved), 404, "BLOB_UPLOAD_UNKNOWN");
    }
  });
});
