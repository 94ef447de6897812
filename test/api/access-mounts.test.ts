import { describe, expect, it } from "vitest";
import { expectError } from "../conformance/error-envelope.ts";
import { randomBytes } from "../fixtures/content.ts";
import { bearerFor, makeRobot, setGrants } from "../fixtures/principals.ts";
import { environmentWith, freshRepository, registryWith } from "../fixtures/registry.ts";
import { count } from "../fixtures/storage.ts";
import { locationOf, type RegistryClient } from "../support/client.ts";
import { asAdmin } from "../support/credentials.ts";

/** end-11 by those who may pull the source, and by those who may not: bytes that one can't read are not to be had so. */

const run = crypto.randomUUID();
const registry = registryWith(environmentWith({ ANONYMOUS_PULL: `open-${run}/**` }));

/** A blob in a repository of somebody else's. */
async function blobIn(name: string): Promise<{ readonly source: string; readonly digest: string }> {
  const { digest } = await registry.repository(name).pushBlob(randomBytes(10));
  return { source: name, digest };
}

const secretSource = async () => blobIn(`secret-${run}/${crypto.randomUUID()}`);
const teamSource = async () => blobIn(`team-${run}/${crypto.randomUUID()}`);
const freshTarget = (): string => `into-${run}/${crypto.randomUUID()}`;

const grants = [`into-${run}/*:pull,push`, `team-${run}/*:pull`];

/** 202 with an upload that works, and no link: neither a blob nor a repository has come of it. */
async function expectBegun(as: RegistryClient, into: string, digest: string, response: Response): Promise<void> {
  expect(response.status).toBe(202);
  expect((await registry.repository(into).headBlob(digest)).status).toBe(404);
  expect(await count("SELECT count(*) AS count FROM repositories WHERE name = ?1", into)).toBe(0);
  expect((await as.repository(into).uploadStatus(locationOf(response))).status).toBe(204);
}

async function expectLinked(into: string, digest: string, response: Response): Promise<void> {
  expect(response.status).toBe(201);
  expect((await registry.repository(into).headBlob(digest)).status).toBe(200);
}

function scopesOf(response: Response): readonly string[] {
  const header = response.headers.get("WWW-Authenticate") ?? "";
  return /scope="([^"]*)"/.exec(header)?.[1]?.split(" ") ?? [];
}

describe("a mount from a repository that the caller may not pull", () => {
  it("by Basic begins an upload", async () => {
    const { source, digest } = await secretSource();
    const as = registry.as((await makeRobot(grants)).token.authorization);
    const into = freshTarget();
    await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest, source));
  });

  it("by Basic is the same where that repository is not there, or has not the blob", async () => {
    const { digest } = await secretSource();
    const as = registry.as((await makeRobot(grants)).token.authorization);
    const empty = await secretSource();
    for (const source of [`secret-${run}/none`, empty.source]) {
      const into = freshTarget();
      await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest, source));
    }
  });

  it("by bearer is a 401 that names both scopes, and once those were asked for an upload", async () => {
    const { source, digest } = await secretSource();
    const { token } = await makeRobot(grants);
    const into = freshTarget();
    const first = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
    const refused = await first.repository(into).mountBlob(digest, source);
    await expectError(refused.clone(), 401, "UNAUTHORIZED");
    const scopes = scopesOf(refused);
    expect(scopes).toEqual([`repository:${into}:pull,push`, `repository:${source}:pull`]);
    const second = registry.as(await bearerFor(registry, token.authorization, ...scopes));
    await expectBegun(second, into, digest, await second.repository(into).mountBlob(digest, source));
  });

  it("is a 401 by bearer though the source is not there: who asks does not learn whether it is", async () => {
    const { source, digest } = await secretSource();
    const { token } = await makeRobot(grants);
    const into = freshTarget();
    const as = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
    const answers = [];
    for (const from of [source, `secret-${run}/none`]) {
      const response = await as.repository(into).mountBlob(digest, from);
      const requestId = response.headers.get("X-Request-Id") ?? "";
      const body = (await response.text()).replaceAll(from, "<from>").replaceAll(requestId, "<request>");
      answers.push({
        status: response.status,
        challenge: response.headers.get("WWW-Authenticate")?.replaceAll(from, "<from>"),
        body,
      });
    }
    expect(answers[0]).toEqual(answers[1]);
  });

  it("begins an upload where the grants allow push on the source alone", async () => {
    const { digest, source } = await secretSource();
    const { token } = await makeRobot([...grants, `secret-${run}/*:push,delete`]);
    const as = registry.as(token.authorization);
    const into = freshTarget();
    await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest, source));
  });

  it("begins an upload where the access token is narrowed to the target, whatever its user may pull", async () => {
    const { digest, source } = await teamSource();
    const { token } = await makeRobot(grants, { grants: [`into-${run}/*:pull,push`] });
    const into = freshTarget();
    const basic = registry.as(token.authorization);
    await expectBegun(basic, into, digest, await basic.repository(into).mountBlob(digest, source));
    const scopes = [`repository:${into}:pull,push`, `repository:${source}:pull`];
    const bearer = registry.as(await bearerFor(registry, token.authorization, ...scopes));
    await expectBegun(bearer, into, digest, await bearer.repository(into).mountBlob(digest, source));
  });

  it("links nothing though the digest is the source's and another repository's, which the caller may pull", async () => {
    const bytes = randomBytes(10);
    const [secret, team] = [`secret-${run}/${crypto.randomUUID()}`, `team-${run}/${crypto.randomUUID()}`];
    const { digest } = await registry.repository(secret).pushBlob(bytes);
    await registry.repository(team).pushBlob(bytes);
    const as = registry.as((await makeRobot(grants)).token.authorization);
    const into = freshTarget();
    await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest, secret));
  });
});

describe("a mount from a repository that the caller may pull", () => {
  it("by Basic links", async () => {
    const { source, digest } = await teamSource();
    const as = registry.as((await makeRobot(grants)).token.authorization);
    const into = freshTarget();
    await expectLinked(into, digest, await as.repository(into).mountBlob(digest, source));
  });

  it("by a bearer that names both links at once", async () => {
    const { source, digest } = await teamSource();
    const { token } = await makeRobot(grants);
    const into = freshTarget();
    const scopes = [`repository:${into}:pull,push`, `repository:${source}:pull`];
    const as = registry.as(await bearerFor(registry, token.authorization, ...scopes));
    await expectLinked(into, digest, await as.repository(into).mountBlob(digest, source));
  });

  it("by a bearer for the target alone is a 401, whose scopes then link", async () => {
    const { source, digest } = await teamSource();
    const { token } = await makeRobot(grants);
    const into = freshTarget();
    const first = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:push`));
    const refused = await first.repository(into).mountBlob(digest, source);
    expect(refused.status).toBe(401);
    const second = registry.as(await bearerFor(registry, token.authorization, ...scopesOf(refused)));
    await expectLinked(into, digest, await second.repository(into).mountBlob(digest, source));
  });

  it("needs no scope where everybody may pull it", async () => {
    const { source, digest } = await blobIn(`open-${run}/${crypto.randomUUID()}`);
    const { token } = await makeRobot(grants);
    const into = freshTarget();
    const as = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
    await expectLinked(into, digest, await as.repository(into).mountBlob(digest, source));
  });

  it("links nothing without push on the target", async () => {
    const { source, digest } = await teamSource();
    const { token } = await makeRobot([`team-${run}/*:pull`, `into-${run}/*:pull,delete`]);
    const into = freshTarget();
    const basic = registry.as(token.authorization);
    await expectError(await basic.repository(into).mountBlob(digest, source), 403, "DENIED");
    const scopes = [`repository:${into}:pull,push`, `repository:${source}:pull`];
    const bearer = registry.as(await bearerFor(registry, token.authorization, ...scopes));
    await expectError(await bearer.repository(into).mountBlob(digest, source), 403, "DENIED");
    expect((await registry.repository(into).headBlob(digest)).status).toBe(404);
  });

  it("before any token is a challenge for both scopes at once", async () => {
    const { source, digest } = await teamSource();
    const into = freshTarget();
    const response = await registry.as(null).repository(into).mountBlob(digest, source);
    expect(response.status).toBe(401);
    expect(scopesOf(response)).toEqual([`repository:${into}:pull,push`, `repository:${source}:pull`]);
  });
});

describe("a mount without from", () => {
  it("by Basic links from what the caller may pull, and from nothing else", async () => {
    const as = registry.as((await makeRobot(grants)).token.authorization);
    const [team, secret] = [await teamSource(), await secretSource()];
    const [linked, begun] = [freshTarget(), freshTarget()];
    await expectLinked(linked, team.digest, await as.repository(linked).mountBlob(team.digest));
    await expectBegun(as, begun, secret.digest, await as.repository(begun).mountBlob(secret.digest));
  });

  it("by bearer is a 401 that names the source which this caller may pull, and links with that scope", async () => {
    const bytes = randomBytes(10);
    const secrets = [`secret-${run}/${crypto.randomUUID()}`, `aaa-${run}/${crypto.randomUUID()}`];
    const team = `team-${run}/${crypto.randomUUID()}`;
    for (const name of [...secrets, team]) await registry.repository(name).pushBlob(bytes);
    const digest = (await registry.repository(team).pushBlob(bytes)).digest;
    const { token } = await makeRobot(grants);
    const into = freshTarget();
    const first = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
    const refused = await first.repository(into).mountBlob(digest);
    expect(refused.status).toBe(401);
    const text = await refused.text();
    for (const secret of secrets) {
      expect(text).not.toContain(secret);
      expect(refused.headers.get("WWW-Authenticate")).not.toContain(secret);
    }
    expect(scopesOf(refused)).toEqual([`repository:${into}:pull,push`, `repository:${team}:pull`]);
    const second = registry.as(await bearerFor(registry, token.authorization, ...scopesOf(refused)));
    await expectLinked(into, digest, await second.repository(into).mountBlob(digest));
  });

  it("by bearer begins an upload where only others have the blob, and where nobody has", async () => {
    const { token } = await makeRobot(grants);
    for (const digest of [(await secretSource()).digest, `sha256:${"0".repeat(64)}`]) {
      const into = freshTarget();
      const as = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
      await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest));
    }
  });

  it("names no source of the user's that its access token is narrowed away from", async () => {
    const { digest } = await teamSource();
    const { token } = await makeRobot(grants, { grants: [`into-${run}/*:pull,push`] });
    const into = freshTarget();
    const as = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
    await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest));
  });

  it("names no source that the caller may pull no more", async () => {
    const { digest } = await teamSource();
    const { user, token } = await makeRobot(grants);
    const into = freshTarget();
    const as = registry.as(await bearerFor(registry, token.authorization, `repository:${into}:pull,push`));
    await setGrants(user, [`into-${run}/*:pull,push`]);
    await expectBegun(as, into, digest, await as.repository(into).mountBlob(digest));
  });

  it("with an empty from is one without", async () => {
    const as = registry.as((await makeRobot(grants)).token.authorization);
    const { digest } = await secretSource();
    const into = freshTarget();
    await expectBegun(as, into, digest, await as.repository(into).startUpload({ mount: digest, from: "" }));
  });

  it("by the administrator links from anywhere, by Basic and by bearer", async () => {
    const { digest } = await secretSource();
    const [one, other] = [freshTarget(), freshTarget()];
    await expectLinked(one, digest, await registry.repository(one).mountBlob(digest));
    const bearer = await bearerFor(registry, asAdmin, `repository:${other}:pull,push`);
    const refused = await registry.as(bearer).repository(other).mountBlob(digest);
    const again = await bearerFor(registry, asAdmin, ...scopesOf(refused));
    await expectLinked(other, digest, await registry.as(again).repository(other).mountBlob(digest));
  });
});

describe("several from parameters", () => {
  it("are one: the source that is checked is the one that is linked from", async () => {
    const [secret, team] = [await secretSource(), await teamSource()];
    const as = registry.as((await makeRobot(grants)).token.authorization);
    for (const from of [
      [secret.source, team.source],
      [team.source, secret.source],
    ]) {
      const into = freshTarget();
      const response = await as.repository(into).request("POST", "blobs/uploads/", {
        query: { mount: secret.digest, from },
      });
      await expectBegun(as, into, secret.digest, response);
    }
  });
});

describe("a mount into a repository from itself", () => {
  it("makes nothing that was not there", async () => {
    const repository = freshRepository(registry);
    const digest = `sha256:${"1".repeat(64)}`;
    expect((await repository.mountBlob(digest, repository.name)).status).toBe(202);
    expect((await repository.headBlob(digest)).status).toBe(404);
  });
});
