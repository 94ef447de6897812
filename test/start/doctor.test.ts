import { writeFile } from "node:fs/promises";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { tlsVerdict } from "../../scripts/doctor/connection-checks.ts";
import { parseChallenges } from "../../scripts/doctor/challenge.ts";
import { mayHavePassword } from "../../scripts/doctor/token-service.ts";
import { Warned } from "../../scripts/doctor/verdict.ts";
import { adminPassword, asAdmin } from "../support/credentials.ts";
import { RegistryClient } from "../support/client.ts";
import { freePort } from "../support/free-port.ts";
import { cliTest, expectLine, freshName, launched, moorage, type Ran, type RunOptions } from "./cli-test.ts";
import { makeAuthority, makeCertificate } from "./doctor-certificate.ts";
import { type Proxy, type ProxyAnswer, type ProxyRequest, type Spoiler, startProxy } from "./doctor-proxy.ts";

const findingSchema = z.strictObject({
  check: z.string(),
  outcome: z.enum(["ok", "warning", "failed", "skipped"]),
  expected: z.string().nullable(),
  seen: z.string(),
  mend: z.string().nullable(),
});
const reportSchema = z.strictObject({ registry: z.string(), repository: z.string(), checks: z.array(findingSchema) });

type Finding = z.infer<typeof findingSchema>;
type Report = z.infer<typeof reportSchema>;

/** Fixtures: `spoil`, a proxy before the registry; `doctor`, which examines an address, as administrator if not otherwise. */
const doctorTest = cliTest
  .extend("spoil", async ({ registry }, { onCleanup }) => {
    const proxies: Proxy[] = [];
    onCleanup(() => {
      for (const proxy of proxies) proxy.close();
    });
    return async (spoiler: Spoiler, certificate: Parameters<typeof startProxy>[2] = null): Promise<Proxy> => {
      const proxy = await startProxy(registry.url, spoiler, certificate);
      proxies.push(proxy);
      return proxy;
    };
  })
  .extend("doctor", () => async (url: string, args: readonly string[] = [], options: RunOptions = {}) => {
    const env = { MOORAGE_PASSWORD: adminPassword, ...options.env };
    const ran = await moorage(["doctor", url, "--json", ...args], { ...options, env });
    return { ran, report: reportSchema.parse(JSON.parse(ran.stdout)) };
  });

/** Checks that came to this, in their order. */
function named(report: Report, outcome: Finding["outcome"]): string[] {
  return report.checks.filter((finding) => finding.outcome === outcome).map(({ check }) => check);
}

function only(report: Report, check: string): Finding {
  const [finding, ...more] = report.checks.filter((each) => each.check === check);
  if (finding === undefined || more.length > 0) throw new Error(`${check} is not there once`);
  return finding;
}

/** That nothing of what was pushed is to be had any more. */
async function expectClean(url: string, repository: string): Promise<void> {
  const answer = await new RegistryClient(url, fetch, asAdmin).repository(repository).listTags();
  if (answer.status === 404) return;
  expect(await answer.json()).toMatchObject({ tags: [] });
}

const everyCheck = (
  "reach tls api-version challenge login token-get token-post clock errors push delete upload chunked-upload " +
  "upload-status out-of-order cancel-upload wrong-digest body-limit manifest-push content blob-head blob range " +
  "if-range manifest manifest-head content-type digest-header compression tags tag-pages referrers " +
  "referrers-filter delete-tag delete-manifest delete-blob cleanup"
).split(" ");

describe("moorage doctor of a registry that is well", () => {
  doctorTest("finds each check ok, and leaves nothing", async ({ doctor, registry }) => {
    const { ran, report } = await doctor(registry.url, ["--large"]);
    expect(report.checks.filter(({ outcome }) => outcome !== "ok")).toEqual([]);
    expect(report.checks.map(({ check }) => check)).toEqual(everyCheck);
    expect(ran).toMatchObject({ code: 0, stderr: "moorage: ok: 37, warning: 0, failed: 0, skipped: 0\n" });
    expect(report).toMatchObject({
      registry: registry.url,
      repository: /^moorage-doctor\//.exec(report.repository)?.input,
    });
    await expectClean(registry.url, report.repository);
    expect(ran.stdout).not.toContain(adminPassword);
  });

  doctorTest("prints a line a check", async ({ registry }) => {
    const ran = await moorage(["doctor", registry.host, "--read-only"], { env: { MOORAGE_PASSWORD: adminPassword } });
    expect(ran.code).toBe(0);
    const lines = ran.stdout.trimEnd().split("\n");
    expect(lines.map((line) => line.split(/ +/)[1])).toEqual(everyCheck.slice(0, -1));
    for (const line of lines) expect(line).toMatch(/^(?:ok     |skipped)  [a-z-]+ +\S/);
    expect(ran.stdout).toMatch(/^skipped {2}push +--read-only: nothing is pushed$/m);
    expect(ran.stderr).toMatch(/\nmoorage: nothing was there to be read: --repository names what is\n$/);
  });

  doctorTest(
    "takes a login that docker's clients keep, be it an identity token",
    async ({ doctor, folder, registry }) => {
      const url = `${registry.url}/token?service=x&offline_token=true`;
      const answer: unknown = await (await fetch(url, { headers: { Authorization: asAdmin } })).json();
      const { refresh_token: token } = z.object({ refresh_token: z.string() }).parse(answer);
      const auths = { [registry.host]: { identitytoken: token } };
      await writeFile(path.join(folder, "config.json"), JSON.stringify({ auths }));
      const env = { MOORAGE_PASSWORD: undefined, DOCKER_CONFIG: folder };
      const { ran, report } = await doctor(registry.url, [], { env });
      expect(named(report, "skipped")).toEqual(["token-get", "body-limit"]);
      expect(named(report, "failed")).toEqual([]);
      expect(only(report, "login").seen).toBe("by identity token");
      expect(ran.stdout).not.toContain(token);
    },
  );

  doctorTest("works in a repository that has something, and leaves that", async ({ doctor, registry }) => {
    const repository = new RegistryClient(registry.url, fetch, asAdmin).repository(`doctor/${crypto.randomUUID()}`);
    const pushed = await repository.pushBlob(new Uint8Array([1, 2, 3]));
    const { report } = await doctor(registry.url, ["--repository", repository.name]);
    expect(named(report, "failed")).toEqual([]);
    expect(report.repository).toBe(repository.name);
    expect((await repository.getBlob(pushed.digest)).status).toBe(200);
    await expectClean(registry.url, repository.name);
  });
});

describe("moorage doctor of a registry that is well in its own way", () => {
  doctorTest("follows where blobs lead, without its login", async ({ doctor, spoil }) => {
    const received: (string | undefined)[] = [];
    const storage = await spoil({
      before: ({ headers }) => {
        received.push(headers.authorization);
        headers.authorization = asAdmin;
        return null;
      },
    });
    const proxy = await spoil({
      before: (request) =>
        isBlobPull(request)
          ? { status: 307, headers: { location: storage.url + request.target }, body: Buffer.alloc(0) }
          : null,
    });
    const { report } = await doctor(proxy.url);
    expect(report.checks.filter(({ outcome }) => outcome !== "ok").map(({ check }) => check)).toEqual(["body-limit"]);
    expect(new Set(received)).toEqual(new Set([undefined]));
  });

  doctorTest("logs in by Basic where that is asked for", async ({ doctor, spoil }) => {
    const proxy = await spoil({
      after: (_request, { headers }) => {
        headers["www-authenticate"] &&= 'Basic realm="a registry"';
      },
    });
    const { report } = await doctor(proxy.url);
    expect(named(report, "skipped")).toEqual(["token-get", "token-post", "clock", "body-limit"]);
    expect(report.checks.filter(({ outcome }) => outcome === "ok")).toHaveLength(everyCheck.length - 4);
    expect(proxy.requests.filter(({ target }) => target.startsWith("/token"))).toEqual([]);
  });

  doctorTest("waits as long as a 429 says", async ({ doctor, spoil }) => {
    const refused = new Set<string>();
    const proxy = await spoil({
      before: ({ method, target }) => {
        if (method !== "PUT" || refused.has(target)) return null;
        refused.add(target);
        return { status: 429, headers: { "retry-after": "0" }, body: Buffer.alloc(0) };
      },
    });
    const { report } = await doctor(proxy.url);
    expect(named(report, "failed")).toEqual([]);
    expect(refused.size).toBeGreaterThan(5);
  });
});

/** A user with this grant. */
async function userWith(
  run: (args: readonly string[]) => Promise<Ran>,
  grant: string,
): Promise<Record<string, string>> {
  const user = freshName();
  await run(["user", "create", user, "-g", grant]);
  const { stdout } = await run(["token", "create", user, "x"]);
  return { MOORAGE_USER: user, MOORAGE_PASSWORD: stdout.trimEnd() };
}

describe("moorage doctor with fewer rights", () => {
  doctorTest("reads what is there where it may pull alone", async ({ doctor, run, registry }) => {
    const name = `doctor/${crypto.randomUUID()}`;
    // What another run of it left.
    const pushed = await doctor(registry.url, ["--repository", name, "--leave"], {
      env: await userWith(run, "doctor/**:pull,push"),
    });
    expect(named(pushed.report, "failed")).toEqual([]);
    expect(named(pushed.report, "warning")).toEqual(["cleanup"]);
    expect(only(pushed.report, "cleanup").seen).toMatch(/^these stay: .*\/manifests\/sha256:.* \(403\)/);
    expect(only(pushed.report, "delete-tag")).toMatchObject({ outcome: "skipped" });

    const env = await userWith(run, "doctor/**:pull");
    const { ran, report } = await doctor(registry.url, ["--repository", name], { env });
    expect(ran.code).toBe(0);
    expect(named(report, "failed")).toEqual([]);
    expect(only(report, "push").seen).toMatch(/^no right to POST .*: 403 DENIED/);
    const skipped = named(report, "skipped");
    for (const check of [
      "blob-head",
      "blob",
      "range",
      "if-range",
      "manifest",
      "content-type",
      "digest-header",
      "tags",
    ]) {
      expect(skipped).not.toContain(check);
    }
    expect(skipped).toEqual(expect.arrayContaining(["push", "upload", "manifest-push", "referrers", "delete-tag"]));
  });

  doctorTest("pushes nothing that it could not delete again", async ({ doctor, run, spoil }) => {
    const proxy = await spoil({});
    const env = await userWith(run, "moorage-doctor/**:pull,push");
    const { report } = await doctor(proxy.url, [], { env });
    expect(only(report, "delete")).toMatchObject({ outcome: "skipped" });
    expect(only(report, "delete").seen).toMatch(/could not be deleted again; .* --leave$/);
    expect(proxy.requests.filter(({ method }) => ["PUT", "PATCH"].includes(method))).toEqual([]);
  });

  doctorTest("looks at what nobody needs a login for", async ({ doctor, registry }) => {
    const { ran, report } = await doctor(registry.url, [], { env: { MOORAGE_PASSWORD: undefined } });
    expect(ran.code).toBe(0);
    expect(named(report, "ok")).toEqual(["reach", "tls", "api-version", "challenge", "login", "token-get", "clock"]);
  });

  doctorTest("says once that a login is wrong", async ({ doctor, registry }) => {
    const { ran, report } = await doctor(registry.url, [], { env: { MOORAGE_PASSWORD: "a wrong guess" } });
    expect(ran.code).toBe(1);
    expect(named(report, "failed")).toEqual(["login"]);
    expect(only(report, "login").mend).toContain("npx moorage login");
    expect(ran.stdout + ran.stderr).not.toContain("a wrong guess");
  });
});

const html = { "content-type": "text/html" };

function isManifestPull({ method, target }: ProxyRequest): boolean {
  return method === "GET" && /\/manifests\//.test(target);
}

function isBlobPull({ method, target }: ProxyRequest): boolean {
  return method === "GET" && /\/blobs\/sha/.test(target);
}

function drop(answer: ProxyAnswer, header: string): void {
  delete answer.headers[header];
}

/** What each spoils; the check that finds it, how, and what is told; and the checks that can't be made then. */
const spoilers: readonly {
  readonly name: string;
  readonly spoiler: Spoiler;
  readonly check: string;
  readonly outcome?: "warning";
  readonly seen: RegExp;
  readonly mend: RegExp;
  readonly skipped?: readonly string[];
  readonly args?: readonly string[];
}[] = [
  {
    name: "drops WWW-Authenticate",
    spoiler: { after: (_request, answer) => drop(answer, "www-authenticate") },
    check: "challenge",
    seen: /a 401 without WWW-Authenticate/,
    mend: /let the proxy before the registry pass this header on/,
    skipped: ["token-get", "token-post", "clock"],
  },
  {
    name: "leads to a realm of another host, where nobody is",
    spoiler: {
      after: (_request, { headers }, { host }) => {
        headers["www-authenticate"] &&= headers["www-authenticate"].replaceAll(host, "127.0.0.1:1");
      },
    },
    check: "challenge",
    seen: /realm="http:\/\/127\.0\.0\.1:1\/token": nobody listens at 127\.0\.0\.1:1/,
    mend: /let the proxy before it pass Host on/,
    skipped: ["token-get", "token-post", "clock"],
  },
  {
    name: "leads to a realm of another host, which knows the registry",
    spoiler: {
      before: (request, { host }) => {
        request.headers.host = host;
        return null;
      },
      after: (_request, { headers }) => {
        headers["www-authenticate"] &&= headers["www-authenticate"].replace("127.0.0.1", "localhost");
      },
    },
    check: "challenge",
    outcome: "warning",
    seen: /clients send their password to localhost:/,
    mend: /nothing, if that is the registry's token service/,
  },
  {
    name: "leads to an unencrypted realm of another machine",
    spoiler: {
      after: (_request, { headers }, { host }) => {
        headers["www-authenticate"] &&= headers["www-authenticate"].replace(host, "registry.test");
      },
    },
    check: "challenge",
    seen: /registry\.test\/token": passwords would go there unencrypted/,
    mend: /tell it that clients come by https/,
    skipped: ["token-get", "token-post", "clock"],
  },
  {
    name: "asks for a login of its own",
    spoiler: {
      after: (_request, { headers }) => {
        headers["www-authenticate"] &&= "Negotiate";
      },
    },
    check: "challenge",
    seen: /^Negotiate$/,
    mend: /let \/v2\/ through/,
    skipped: ["token-get", "token-post", "clock"],
  },
  {
    name: "lets no POST through to the tokens",
    spoiler: {
      before: ({ method, target }) =>
        method === "POST" && target.startsWith("/token")
          ? { status: 405, headers: html, body: Buffer.from("<h1>no</h1>") }
          : null,
    },
    check: "token-post",
    outcome: "warning",
    seen: /405 with text\/html/,
    mend: /let POST through to the token service/,
  },
  {
    name: "changes Date by an hour",
    spoiler: {
      after: (_request, { headers }) => {
        headers.date = new Date(Date.now() + 3_600_000).toUTCString();
      },
    },
    check: "clock",
    outcome: "warning",
    seen: /by Date the registry's is (?:3600|359\d) s ahead of this machine's/,
    mend: /set the clock that is wrong/,
  },
  {
    name: "drops the version of the API",
    spoiler: { after: (_request, answer) => drop(answer, "docker-distribution-api-version") },
    check: "api-version",
    outcome: "warning",
    seen: /no such header/,
    mend: /pass this header on/,
  },
  {
    name: "makes pages of errors",
    spoiler: {
      after: (request, answer) => {
        if (answer.status !== 404 || request.method !== "GET") return;
        answer.body = Buffer.from("<h1>not found</h1>");
        answer.headers["content-type"] = "text/html";
        answer.headers["content-length"] = String(answer.body.byteLength);
      },
    },
    check: "errors",
    seen: /404 with text\/html/,
    mend: /pass its errors on as they are/,
  },
  {
    name: "answers PATCH with a page that says 413",
    spoiler: {
      before: ({ method }) =>
        method === "PATCH" ? { status: 413, headers: html, body: Buffer.from("<h1>too large</h1>") } : null,
    },
    check: "chunked-upload",
    seen: /413 with text\/html/,
    mend: /raise its limit, or push through npx moorage relay/,
    skipped: ["upload-status", "out-of-order"],
  },
  {
    name: "answers large bodies with a page that says 413",
    spoiler: {
      before: ({ headers }) =>
        Number(headers["content-length"] ?? 0) > 100 * 1024 * 1024
          ? { status: 413, headers: { ...html, connection: "close" }, body: Buffer.from("<h1>too large</h1>") }
          : null,
    },
    args: ["--large"],
    check: "body-limit",
    seen: /413 with text\/html|closed the connection while a body of 105906176 bytes was sent/,
    mend: /push large layers through npx moorage relay/,
  },
  {
    name: "sends uploads elsewhere",
    spoiler: {
      after: (_request, { headers }) => {
        headers.location &&= new URL(headers.location, "http://registry.internal").href;
      },
    },
    check: "push",
    seen: /clients are sent to http:\/\/registry\.internal/,
    mend: /pass Host and X-Forwarded-Proto on/,
    skipped: everyCheck.slice(everyCheck.indexOf("delete"), -1),
  },
  {
    name: "drops Range of uploads",
    spoiler: { after: (_request, answer) => drop(answer, "range") },
    check: "chunked-upload",
    seen: /no Range/,
    mend: /pass Range on with answers/,
    skipped: ["upload-status", "out-of-order"],
  },
  {
    name: "forgets how far an upload is",
    spoiler: {
      after: ({ method }, { headers }) => {
        if (method === "GET") headers.range &&= "0-0";
      },
    },
    check: "upload-status",
    seen: /Range: 0-0/,
    mend: /pass Range on with answers/,
  },
  {
    name: "takes chunks in any order",
    spoiler: {
      after: (_request, answer) => {
        if (answer.status === 416 && answer.headers["docker-upload-uuid"] !== undefined) answer.status = 202;
      },
    },
    check: "out-of-order",
    seen: /^202/,
    mend: /registry's log/,
  },
  {
    name: "lets no upload be cancelled",
    spoiler: {
      before: ({ method, target }) =>
        method === "DELETE" && target.includes("/blobs/uploads/")
          ? { status: 405, headers: html, body: Buffer.from("<h1>no</h1>") }
          : null,
    },
    check: "cancel-upload",
    outcome: "warning",
    seen: /405 with text\/html/,
    mend: /let DELETE through/,
  },
  {
    name: "says that it keeps what is of another digest",
    spoiler: {
      after: ({ method }, answer) => {
        if (method === "PUT" && answer.status === 400) answer.status = 201;
      },
    },
    check: "wrong-digest",
    seen: /201: the registry keeps what it does not check/,
    mend: /not to be trusted/,
  },
  {
    name: "drops the length of blobs with HEAD",
    spoiler: {
      after: ({ method, target }, answer) => {
        if (method === "HEAD" && target.includes("/blobs/")) drop(answer, "content-length");
      },
    },
    check: "blob-head",
    seen: /no Content-Length/,
    mend: /leave bodies and their length as they are/,
  },
  {
    name: "cuts large bodies",
    spoiler: {
      after: (request, answer) => {
        if (isBlobPull(request) && answer.body.byteLength > 65_536) answer.cutAfterBytes = 65_536;
      },
    },
    check: "blob",
    seen: /the connection ended after \d+ of 262144 bytes/,
    mend: /bounds the size or the time of an answer/,
  },
  {
    name: "changes blobs",
    spoiler: {
      after: (request, answer) => {
        if (isBlobPull(request) && answer.status === 200) answer.body = Buffer.alloc(answer.body.byteLength);
      },
    },
    check: "blob",
    seen: /262144 bytes of sha256:/,
    mend: /changes bodies/,
  },
  {
    name: "ignores Range",
    spoiler: {
      before: ({ headers }) => {
        delete headers.range;
        return null;
      },
    },
    check: "range",
    seen: /200: the whole blob/,
    mend: /pass Range and If-Range on/,
    skipped: ["if-range"],
  },
  {
    name: "ignores If-Range",
    spoiler: {
      before: ({ headers }) => {
        delete headers["if-range"];
        return null;
      },
    },
    check: "if-range",
    seen: /^206/,
    mend: /./,
  },
  {
    name: "answers every tag with an old manifest",
    spoiler: {
      after: (request, answer) => {
        if (!isManifestPull(request) || answer.status !== 200 || request.target.includes("sha256:")) return;
        answer.body = Buffer.from('{"schemaVersion":2}');
        answer.headers["content-length"] = String(answer.body.byteLength);
      },
    },
    check: "manifest",
    seen: /19 bytes of sha256:/,
    mend: /a cache that mixes them up/,
  },
  {
    name: "tells another length of manifests with HEAD",
    spoiler: {
      after: ({ method, target }, { headers }) => {
        if (method === "HEAD" && target.includes("/manifests/")) headers["content-length"] = "7";
      },
    },
    check: "manifest-head",
    seen: /Content-Length: 7/,
    mend: /leave bodies and their length/,
  },
  {
    name: "adds a charset to manifests",
    spoiler: {
      after: (request, { headers }) => {
        if (request.target.includes("/manifests/"))
          headers["content-type"] &&= `${headers["content-type"]}; charset=utf-8`;
      },
    },
    check: "content-type",
    seen: /manifest\.v1\+json; charset=utf-8/,
    mend: /no charset/,
  },
  {
    name: "drops Docker-Content-Digest",
    spoiler: { after: (_request, answer) => drop(answer, "docker-content-digest") },
    check: "digest-header",
    seen: /no such header/,
    mend: /pass this header on/,
  },
  {
    name: "gzips manifests",
    spoiler: {
      after: (request, answer) => {
        const { "accept-encoding": accepted = "" } = request.headers;
        if (!isManifestPull(request) || answer.status !== 200 || !accepted.includes("gzip")) return;
        answer.body = gzipSync(answer.body);
        answer.headers["content-encoding"] = "gzip";
        drop(answer, "content-length");
      },
    },
    check: "compression",
    seen: /Content-Encoding: gzip, Content-Length: none/,
    mend: /turn compression off for \/v2\//,
  },
  {
    name: "keeps an old list of tags",
    spoiler: {
      after: ({ target }, answer) => {
        if (!target.endsWith("/tags/list") || answer.status !== 200) return;
        answer.body = Buffer.from('{"name":"x","tags":[]}');
        answer.headers["content-length"] = String(answer.body.byteLength);
      },
    },
    check: "tags",
    seen: /0 others/,
    mend: /a cache before the registry that keeps lists/,
    skipped: ["tag-pages"],
  },
  {
    name: "does not answer for the list of tags",
    spoiler: { before: ({ target }) => (target.includes("/tags/list") ? "hang" : null) },
    args: ["--timeout", "10"],
    check: "tags",
    seen: /did not answer within 10 s/,
    mend: /for what it waits for/,
    skipped: ["tag-pages"],
  },
  {
    name: "drops Link",
    spoiler: { after: (_request, answer) => drop(answer, "link") },
    check: "tag-pages",
    seen: /no Link/,
    mend: /pass the query and Link on/,
  },
  {
    name: "spoils Link",
    spoiler: {
      after: (_request, { headers }) => {
        if (typeof headers["link"] === "string") headers["link"] = headers["link"].replaceAll(/[<>]/g, "");
      },
    },
    check: "tag-pages",
    seen: /^Link: \/v2\//,
    mend: /RFC 8288/,
  },
  {
    name: "drops OCI-Subject",
    spoiler: { after: (_request, answer) => drop(answer, "oci-subject") },
    check: "referrers",
    seen: /no such header/,
    mend: /one without referrers/,
    skipped: ["referrers-filter"],
  },
  {
    name: "has no referrers",
    spoiler: {
      before: ({ target }) =>
        target.includes("/referrers/") ? { status: 404, headers: html, body: Buffer.from("<h1>no</h1>") } : null,
    },
    check: "referrers",
    outcome: "warning",
    seen: /^404$/,
    mend: /distribution-spec 1\.1/,
    skipped: ["referrers-filter"],
  },
  {
    name: "leaves the filter of referrers away",
    spoiler: {
      before: (request) => {
        if (request.target.includes("/referrers/")) request.target = request.target.replace(/\?.*/, "");
        return null;
      },
    },
    check: "referrers-filter",
    outcome: "warning",
    seen: /no OCI-Filters-Applied/,
    mend: /pass the query and this header on/,
  },
  {
    name: "lets no tag be deleted",
    spoiler: {
      before: ({ method, target }) =>
        method === "DELETE" && /\/manifests\/doctor-/.test(target)
          ? { status: 405, headers: html, body: Buffer.from("<h1>no</h1>") }
          : null,
    },
    check: "delete-tag",
    outcome: "warning",
    seen: /405 with text\/html/,
    mend: /let DELETE through/,
  },
  {
    name: "goes on answering for what was deleted",
    spoiler: lastingManifests(),
    check: "delete-tag",
    seen: /^200/,
    mend: /a cache before the registry that goes on answering/,
  },
  {
    name: "says that blobs are deleted, and keeps them",
    spoiler: {
      before: ({ method, target }) =>
        method === "DELETE" && target.includes("/blobs/sha256:")
          ? { status: 202, headers: {}, body: Buffer.alloc(0) }
          : null,
    },
    check: "delete-blob",
    seen: /^200/,
    mend: /a cache before the registry that goes on answering/,
  },
];

/** As a cache does that keeps tags. */
function lastingManifests(): Spoiler {
  const kept = new Map<string, ProxyAnswer>();
  return {
    after: (request, answer) => {
      if (!isManifestPull(request) || request.target.includes("sha256:")) return;
      // Of the tag that is deleted by itself alone: its name is the last.
      if (!request.target.endsWith("-3")) return;
      const before = kept.get(request.target) ?? { status: 200, headers: {}, body: Buffer.from("{}") };
      kept.set(request.target, before);
      answer.status = before.status;
    },
  };
}

describe("moorage doctor behind a proxy that", () => {
  doctorTest.for(spoilers)(
    "$name",
    async ({ spoiler, check, outcome = "failed", seen, mend, skipped = [], args }, { doctor, spoil, registry }) => {
      const proxy = await spoil(spoiler);
      const { ran, report } = await doctor(proxy.url, args);
      expect({ failed: named(report, "failed"), warning: named(report, "warning") }).toEqual({
        failed: [],
        warning: [],
        [outcome]: [check],
      });
      const finding = only(report, check);
      expect(finding.seen).toMatch(seen);
      expect(finding.mend).toMatch(mend);
      const usual = args?.includes("--large") === true ? [] : ["body-limit"];
      expect(new Set(named(report, "skipped"))).toEqual(new Set([...usual, ...skipped]));
      expect(ran.code).toBe(outcome === "failed" ? 1 : 0);
      await expectClean(registry.url, report.repository);
    },
  );
});

describe("moorage doctor by TLS", () => {
  const dayMs = 86_400_000;
  const usual = { host: "127.0.0.1", validFromMs: Date.now() - 60 * dayMs, validToMs: Date.now() + 60 * dayMs };

  doctorTest("finds nothing wrong with a certificate that is trusted", async ({ doctor, spoil, folder }) => {
    const authority = makeAuthority();
    const proxy = await spoil({}, makeCertificate(usual, authority));
    const file = path.join(folder, "authority.pem");
    await writeFile(file, authority.cert);
    const { report } = await doctor(proxy.url, [], { env: { NODE_EXTRA_CA_CERTS: file } });
    expect(report.checks.filter(({ outcome }) => outcome !== "ok").map(({ check }) => check)).toEqual(["body-limit"]);
    expect(only(report, "tls").seen).toMatch(
      /^TLSv1\.3, a certificate of authority of a test .* for (?:59|60) days more$/,
    );
  });

  doctorTest.for([
    ["is signed by itself", {}, false, "DEPTH_ZERO_SELF_SIGNED_CERT", /NODE_EXTRA_CA_CERTS/],
    ["has ended", { validToMs: Date.now() - dayMs }, true, "CERT_HAS_EXPIRED", /^renew the certificate$/],
    ["has not begun", { validFromMs: Date.now() + dayMs }, true, "CERT_NOT_YET_VALID", /this machine's clock/],
    ["is for another name", { host: "registry.test" }, true, "ERR_TLS_CERT_ALTNAME_INVALID", /has this name/],
    ["is of an authority that is not known", {}, "unknown", "UNABLE_TO_VERIFY_LEAF_SIGNATURE", /intermediate/],
  ] as const)(
    "finds a certificate that %s, and sends no login",
    async ([, options, signed, code, mend], { doctor, spoil, folder }) => {
      const authority = makeAuthority();
      const proxy = await spoil(
        {},
        makeCertificate({ ...usual, ...options }, signed === false ? undefined : authority),
      );
      const file = path.join(folder, "authority.pem");
      await writeFile(file, signed === true ? authority.cert : makeAuthority().cert);
      const { ran, report } = await doctor(proxy.url, [], { env: { NODE_EXTRA_CA_CERTS: file } });
      expect(ran.code).toBe(1);
      expect(named(report, "failed")).toEqual(["tls"]);
      expect(named(report, "ok")).toEqual(["reach"]);
      expect(only(report, "tls").seen).toContain(code);
      expect(only(report, "tls").mend).toMatch(mend);
      expect(proxy.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    },
  );

  doctorTest("warns of a certificate that is about to end", async ({ doctor, spoil, folder }) => {
    const authority = makeAuthority();
    const proxy = await spoil({}, makeCertificate({ ...usual, validToMs: Date.now() + 5.5 * dayMs }, authority));
    const file = path.join(folder, "authority.pem");
    await writeFile(file, authority.cert);
    const { report } = await doctor(proxy.url, ["--read-only"], { env: { NODE_EXTRA_CA_CERTS: file } });
    expect(named(report, "warning")).toEqual(["tls"]);
    expect(only(report, "tls").seen).toMatch(/good for 5 days more/);
  });

  test("a certificate of six days is about to end in its last two", () => {
    const facts = { protocol: "TLSv1.3", refusal: null, names: "x", issuer: "y", validFromMs: 0, validToMs: 6 * dayMs };
    const origin = new URL("https://registry.test");
    expect(tlsVerdict(origin, facts, 3 * dayMs)).toContain("good for 3 days more");
    expect(() => tlsVerdict(origin, facts, 4.5 * dayMs)).toThrow(Warned);
  });

  test("http is enough on this machine, and nowhere else", () => {
    for (const host of ["localhost:8787", "127.0.0.1", "[::1]"]) {
      expect(tlsVerdict(new URL(`http://${host}`), null, 0)).toContain("does not leave this machine");
    }
    expect(() => tlsVerdict(new URL("http://registry.test"), null, 0)).toThrow(/readable on the way/);
  });
});

describe("moorage doctor of what is no registry", () => {
  doctorTest.for([
    [
      "where nobody listens",
      async (): Promise<string> => `http://127.0.0.1:${String(await freePort())}`,
      /nobody listens/,
      /start the registry/,
    ],
    [
      "of a name that is none",
      async (): Promise<string> => "https://registry.invalid",
      /has no address|can't be reached/,
      /DNS record|firewall/,
    ],
  ] as const)("%s", async ([, address, seen, mend], { doctor }) => {
    const { ran, report } = await doctor(await address());
    expect(ran.code).toBe(1);
    expect(named(report, "failed")).toEqual(["reach"]);
    expect(named(report, "skipped")).toHaveLength(everyCheck.length - 2);
    expect(only(report, "reach").seen).toMatch(seen);
    expect(only(report, "reach").mend).toMatch(mend);
  });

  doctorTest.for([
    ["a web page", { status: 404, headers: html, body: Buffer.from("<h1>hi</h1>") }, /404 with text\/html/],
    [
      "another address",
      { status: 301, headers: { location: "https://registry.test/v2/" }, body: Buffer.alloc(0) },
      /301 to https:\/\/registry\.test/,
    ],
    ["a server that does not answer", "hang", /did not answer within 1 s/],
  ] as const)("%s", async ([, answer, seen], { doctor, spoil }) => {
    const proxy = await spoil({ before: () => answer });
    const { ran, report } = await doctor(proxy.url, ["--timeout", "1"]);
    expect(ran.code).toBe(1);
    expect(named(report, "failed")).toEqual(["reach"]);
    expect(only(report, "reach").seen).toMatch(seen);
    // Nobody's password went there.
    expect(proxy.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  doctorTest("one that speaks HTTP where TLS was meant", async ({ doctor, registry }) => {
    const { report } = await doctor(registry.url.replace("http:", "https:"));
    expect(only(report, "reach").mend).toBe("if it speaks HTTP alone, name it by http://");
  });

  doctorTest("is told in one line, with what needs it in another", async ({ doctor }) => {
    const url = `http://127.0.0.1:${String(await freePort())}`;
    const { report } = await doctor(url);
    expect(named(report, "skipped")).toEqual(everyCheck.slice(1, -1));
    const ran = await moorage(["doctor", url]);
    expect(ran).toMatchObject({ code: 1, stderr: "moorage: ok: 0, warning: 0, failed: 1, skipped: 35\n" });
    const lines = ran.stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^failed +reach +expected an answer; seen: nobody listens/);
    expect(lines[1]).toMatch(/^skipped {2}35 checks +they need reach, which failed; --json lists them$/);
  });

  doctorTest.for([
    [["http://registry.test/v2"], /<url> takes no path/],
    [["http://a:s3cret@registry.test"], /<url> takes no password/],
    [["ftp://registry.test"], /<url> takes an address/],
    [["--repository", "A"], /it is no repository's name/],
    [["--timeout", "0"], /whole number from 1 to 3600/],
  ] as const)("%j is wrong usage", async ([args, message]) => {
    const ran = await moorage(["doctor", ...args]);
    expectLine(ran, 2, message);
    expect(ran.stderr).not.toContain("s3cret");
  });
});

describe("moorage doctor that is interrupted", () => {
  doctorTest.for([
    ["once", {}],
    ["twice, by what it was started with", { program: launched }],
  ] as const)("%s deletes what it pushed", async ([, options], { spoil, registry }) => {
    const reached = Promise.withResolvers<void>();
    const proxy = await spoil({
      before: ({ method, target }) => {
        if (method !== "GET" || !target.includes("/referrers/")) return null;
        reached.resolve();
        return "hang";
      },
    });
    const repository = `doctor/${crypto.randomUUID()}`;
    const allIsPushed = async (): Promise<void> => {
      await reached.promise;
      const client = new RegistryClient(registry.url, fetch, asAdmin).repository(repository);
      expect(await (await client.listTags()).json()).toMatchObject({ tags: { length: 3 } });
    };
    const env = { MOORAGE_PASSWORD: adminPassword };
    const running = { ...options, env, interrupted: allIsPushed() };
    const { code, stdout, stderr } = await moorage(["doctor", proxy.url, "--repository", repository], running);
    expect(code).toBe(130);
    expect(stderr).toContain("interrupted: what was pushed is deleted now");
    expect(stdout).toMatch(/^ok +cleanup +nothing that was pushed/m);
    expect(stdout).not.toMatch(/delete-tag/);
    await expectClean(registry.url, repository);
    const blobs = proxy.requests.filter(
      ({ method, target }) => method === "DELETE" && target.includes("/blobs/sha256:"),
    );
    for (const { target } of blobs) {
      expect((await fetch(`${registry.url}${target}`, { headers: { Authorization: asAdmin } })).status).toBe(404);
    }
    expect(blobs.length).toBeGreaterThanOrEqual(3);
  });
});

describe("a challenge", () => {
  test.for([
    ['Bearer realm="https://a.test/token",service="b"', [["bearer", { realm: "https://a.test/token", service: "b" }]]],
    [
      'Negotiate, basic realm="a, b", BEARER Realm=https://a.test/t, scope="x:y:pull,push z"',
      [
        ["negotiate", {}],
        ["basic", { realm: "a, b" }],
        ["bearer", { realm: "https://a.test/t", scope: "x:y:pull,push z" }],
      ],
    ],
    ['Bearer realm="a\\"b"', [["bearer", { realm: 'a"b' }]]],
    ["", []],
  ] as const)("%s", ([header, challenges]) => {
    const parsed = parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
    expect(parsed).toEqual(challenges);
  });
});

describe("the password of a login for", () => {
  test.for([
    ["https://registry.test", "https://auth.test/token", true],
    ["https://registry.test", "http://auth.test/token", false],
    ["https://registry.test", "http://registry.test/token", false],
    ["https://registry.test", "http://localhost:8080/token", false],
    ["http://registry.test", "http://127.0.0.1:8080/token", false],
    ["http://registry.test", "http://registry.test/token", true],
    ["http://127.0.0.1:5000", "http://localhost:8080/token", true],
  ] as const)("%s goes to %s: %s", ([registry, realm, expected]) => {
    expect(mayHavePassword({ realm: new URL(realm) }, new URL(registry))).toBe(expected);
  });
});
