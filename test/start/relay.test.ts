import { once } from "node:events";
import { createServer } from "node:http";
import { gzipSync } from "node:zlib";
import { describe, expect, test, vi } from "vitest";
import { jsonLines } from "../../scripts/relay/progress.ts";
import { adminPassword, asAdmin } from "../support/credentials.ts";
import { Content, expectBlob, type Place, push, relayTest, send, type Sent, serve, withDigest } from "./relay-test.ts";
import { bodyLimitBytes, type Front } from "./relay-front.ts";

const MB = 1_000_000;

/** So that a body of a few MB is many chunks. */
const smallChunks = ["--max-body=1000000"];

describe("a layer over the limit", () => {
  relayTest.for([
    ["one PATCH without a length, as docker and crane send it", "patch", bodyLimitBytes],
    ["one PATCH with its length", "patch of known length", 20 * MB],
    ["one PUT, as containerd, helm and oras send it", "put", bodyLimitBytes],
    ["one POST", "post", 20 * MB],
  ] as const)("goes up as %s", async ([, form, limitBytes], { openFront, repository: name, registry, startRelay }) => {
    const front = await openFront({ limitBytes });
    // Cloudflare's limit is what the relay takes for granted.
    const args = limitBytes === bodyLimitBytes ? [] : [`--max-body=${String(limitBytes)}`];
    const relay = await startRelay({ args }, front.url);
    const content = new Content(limitBytes + MB);
    expect(await push({ url: front.url, name }, content, form)).toMatchObject({ status: 413 });
    const sent = await push({ url: relay.url, name }, content, form);
    expect(sent).toMatchObject({ status: 201, headers: { "docker-content-digest": content.digest } });
    await expectBlob({ url: registry.url, name }, content);
    const bodies = front.of("PATCH").filter(({ status }) => status === 202);
    expect(bodies.map(({ bytes }) => bytes).reduce((sum, bytes) => sum + bytes, 0)).toBe(content.length);
    expect(Math.max(...bodies.map(({ bytes }) => bytes))).toBeLessThan(limitBytes);
    // Whole parts of the registry's own, 8 MiB each, but for the last.
    expect(bodies.slice(0, -1).filter(({ bytes }) => bytes % (8 << 20) !== 0)).toEqual([]);
    expect(relay.of("uploaded")).toMatchObject([{ repository: name, digest: content.digest, bytes: content.length }]);
  });
});

describe("what is within the limit", () => {
  relayTest("passes as it is", async ({ front, repository: name, registry, relay }) => {
    for (const form of ["patch of known length", "put", "post", "patches"] as const) {
      const content = new Content(25 * MB);
      front.seen.length = 0;
      expect(await push({ url: relay.url, name }, content, form)).toMatchObject({ status: 201 });
      const sizes = front.seen.filter(({ bytes }) => bytes > 0).map(({ method, bytes }) => [method, bytes]);
      const method = form === "put" ? "PUT" : form === "post" ? "POST" : "PATCH";
      const chunks = form === "patches" ? [10 * MB, 10 * MB, 5 * MB] : [25 * MB];
      expect(sizes).toEqual(chunks.map((size) => [method, size]));
      await expectBlob({ url: registry.url, name }, content);
    }
  });

  relayTest("is told of as what it is, blob after blob", async ({ repository: name, relay }) => {
    const contents = [1000, 2000, 3000].map((length) => new Content(length));
    for (const content of contents) {
      expect(await push({ url: relay.url, name }, content, "post")).toMatchObject({ status: 201 });
    }
    const told = contents.map(({ digest, length: bytes }) => ({ digest, bytes, requests: 1 }));
    await expect.poll(() => relay.of("uploaded"), { timeout: 30_000 }).toMatchObject(told);
  });

  relayTest(
    "goes as one PATCH where only its length was missing",
    async ({ front, repository: name, registry, relay }) => {
      for (const length of [0, 1, 262_144, 262_145, 8 << 20]) {
        const content = new Content(length);
        front.seen.length = 0;
        expect(await push({ url: relay.url, name }, content, "patch")).toMatchObject({ status: 201 });
        await expectBlob({ url: registry.url, name }, content);
        expect(front.of("PATCH").map(({ bytes }) => bytes)).toEqual([length]);
      }
    },
  );

  relayTest(
    "a body that the server before the registry refuses is explained",
    async ({ openFront, repository: name, startRelay }) => {
      const front = await openFront({ limitBytes: 5 * MB });
      const relay = await startRelay({}, front.url);
      for (const form of ["put", "patch"] as const) {
        const sent = await push({ url: relay.url, name }, new Content(6 * MB), form);
        expect(sent).toMatchObject({ status: 413, headers: { "content-type": "application/json" } });
        expect(sent.text).toMatch(/^\{"errors":\[\{"code":"SIZE_INVALID","message":"[^"]*smaller --max-body"/);
      }
      const manifest = { headers: { Authorization: asAdmin }, body: Buffer.alloc(6 * MB) };
      const refused = await send("PUT", `${relay.url}/v2/${name}/manifests/v1`, manifest);
      expect(refused).toMatchObject({ status: 413, headers: { "content-type": "application/json" } });
      expect(refused.text).toContain("takes no body of 6000000 bytes");
      // It is never cut.
      expect(refused.text).not.toContain("--max-body");
      const smaller = await startRelay({ args: [`--max-body=${String(5 * MB)}`] }, front.url);
      expect(await push({ url: smaller.url, name }, new Content(6 * MB), "put")).toMatchObject({ status: 201 });
    },
  );

  relayTest(
    "sha512 is announced where the relay begins the upload",
    async ({ front, repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      const content = new Content(3 * MB, "sha512");
      expect(await push({ url: relay.url, name }, content, "post")).toMatchObject({ status: 201 });
      expect(front.of("POST").map(({ target }) => target)).toEqual([
        expect.stringMatching(/\?digest-algorithm=sha512$/),
      ]);
      await expectBlob({ url: registry.url, name }, content);
    },
  );
});

test("what is told as JSON steers no terminal", ({ onTestFinished }) => {
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  onTestFinished(() => log.mockRestore());
  jsonLines().troubled("a", "\u009b31m \u202e", true);
  expect(log.mock.calls).toEqual([[String.raw`{"event":"failed","repository":"a","reason":"\u009b31m \u202e"}`]]);
});

describe("a connection that breaks", () => {
  relayTest("within a chunk, at any byte", async ({ front, repository: name, registry, startRelay }) => {
    const relay = await startRelay({ args: smallChunks });
    for (const form of ["patch", "put", "post"] as const) {
      const content = new Content(9 * MB + 1);
      const at = Array.from({ length: 5 }, () => Math.floor(Math.random() * MB));
      front.break(...at.map((bytes) => ({ method: "PATCH", at: bytes })));
      expect(await push({ url: relay.url, name }, content, form), at.join(" ")).toMatchObject({ status: 201 });
      expect(front.left).toBe(0);
      await expectBlob({ url: registry.url, name }, content);
    }
    expect(front.broken).toBe(15);
    const uploads = relay.of("uploaded");
    expect(uploads).toHaveLength(3);
    for (const { retries } of uploads) expect(retries).toBeGreaterThanOrEqual(5);
  });

  relayTest(
    "after the chunk was taken and before that was said",
    async ({ front, repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      // The only chunk; the first, the last and one between of several.
      for (const [length, faults] of [
        [500_000, 1],
        [3 * MB, 1],
        [3 * MB, 3],
        [2 * MB + 5, 3],
      ] as const) {
        const content = new Content(length);
        front.break(...Array.from({ length: faults }, () => ({ method: "PATCH", at: "answer" }) as const));
        const sent = await push({ url: relay.url, name }, content, "patch");
        expect(sent).toMatchObject({ status: 201 });
        expect(front.left).toBe(0);
        await expectBlob({ url: registry.url, name }, content);
      }
    },
  );

  relayTest("where an upload's state is asked for", async ({ front, repository: name, registry, startRelay }) => {
    const relay = await startRelay({ args: smallChunks });
    const content = new Content(3 * MB);
    front.break({ method: "PATCH", at: 400_000 }, { method: "GET", at: "answer" }, { method: "GET", at: "answer" });
    expect(await push({ url: relay.url, name }, content, "patch")).toMatchObject({ status: 201 });
    expect(front.left).toBe(0);
    await expectBlob({ url: registry.url, name }, content);
  });

  relayTest(
    "in the final PUT, before and after it was done",
    async ({ front, repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      for (const form of ["patch", "put"] as const) {
        const content = new Content(2 * MB);
        front.break({ method: "PUT", at: "answer" }, { method: "PUT", at: "answer" });
        const sent = await push({ url: relay.url, name }, content, form);
        expect(sent).toMatchObject({ status: 201, headers: { "docker-content-digest": content.digest } });
        await expectBlob({ url: registry.url, name }, content);
      }
    },
  );

  relayTest(
    "for good is told in the envelope, and the next upload is served",
    async ({ front, repository: name, startRelay }) => {
      const relay = await startRelay({ args: [...smallChunks, "--tries=3"] });
      front.break(...Array.from({ length: 3 }, () => ({ method: "PATCH", at: 0 })));
      const sent = await push({ url: relay.url, name }, new Content(3 * MB), "patch");
      expect(sent).toMatchObject({ status: 502, headers: { "content-type": "application/json" } });
      expect(sent.text).toMatch(/"code":"BLOB_UPLOAD_INVALID".*the last of 3 tries that brought nothing further/);
      expect(relay.of("failed")).toMatchObject([{ repository: name }]);
      expect(await push({ url: relay.url, name }, new Content(3 * MB), "patch")).toMatchObject({ status: 201 });
    },
  );

  relayTest("of an upload that is not there any more is told so, in words that can be read", async ({ startRelay }) => {
    const asked: string[] = [];
    await using registry = await serve((incoming, outgoing) => {
      asked.push(incoming.method ?? "");
      if (incoming.method === "PATCH") {
        outgoing.destroy();
        return;
      }
      const isPacked = incoming.headers["accept-encoding"] !== undefined;
      const body = Buffer.from('{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"it is gone"}]}');
      outgoing.writeHead(404, {
        "Content-Type": "application/json",
        ...(isPacked ? { "Content-Encoding": "gzip" } : {}),
      });
      outgoing.end(isPacked ? gzipSync(body) : body);
    });
    const relay = await startRelay({ args: smallChunks }, registry.url);
    const headers = { "Accept-Encoding": "gzip", "Content-Range": "0-1999999" };
    const sending = { headers, body: Buffer.alloc(2 * MB) };
    const sent = await send("PATCH", `${relay.url}/v2/a/blobs/uploads/1`, sending);
    expect(sent).toMatchObject({ status: 404 });
    expect(sent.text).toContain("BLOB_UPLOAD_UNKNOWN");
    expect(asked).toEqual(["PATCH", "GET"]);
  });

  relayTest("is not waited for without end where it is only silent", async ({ repository: name, startRelay }) => {
    const silent = createServer((incoming, outgoing) => {
      const { method, url = "" } = incoming;
      // It reads on, and never answers a PATCH.
      incoming.resume();
      if (method === "PATCH") return;
      outgoing.writeHead(method === "POST" ? 202 : method === "GET" && url !== "/v2/" ? 204 : 200, {
        Location: "/v2/a/blobs/uploads/1",
        Range: "0-0",
      });
      outgoing.end();
    });
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const address = silent.address();
    if (address === null || typeof address === "string") throw new TypeError("a port was expected");
    try {
      const args = [...smallChunks, "--tries=2", "--silence=1"];
      const relay = await startRelay({ args }, `http://127.0.0.1:${String(address.port)}`);
      const sent = await push({ url: relay.url, name }, new Content(2 * MB), "patch");
      expect(sent.status).toBe(502);
      expect(sent.text).toContain("nothing moved for 1 s, the last of 2 tries");
    } finally {
      silent.close().closeAllConnections();
    }
  });
});

describe("a client", () => {
  relayTest(
    "that goes away leaves an upload that can be gone on with",
    async ({ repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      const headers = { Authorization: asAdmin };
      const content = new Content(8 * MB);
      // Each would keep a part of the window, were it not given back.
      for (let gone = 0; gone < 5; gone++) {
        const begun = await send("POST", `${relay.url}/v2/${name}/blobs/uploads/`, { headers });
        const location = new URL(begun.headers.location ?? "", relay.url);
        const abort = new AbortController();
        // It is never to end.
        const cut = content.read(0, 5 * MB);
        const broken = send("PATCH", location, {
          headers: { ...headers, "Content-Length": String(content.length) },
          body: cut,
          signal: abort.signal,
        });
        await once(cut, "end");
        abort.abort();
        await expect(broken).rejects.toThrow();
        if (gone < 4) continue;
        const done = await goOn(location, headers, content);
        expect(done).toMatchObject({ status: 202, headers: { range: `0-${String(content.length - 1)}` } });
        const end = withDigest(new URL(done.headers.location ?? "", relay.url), content);
        expect(await send("PUT", end, { headers })).toMatchObject({ status: 201 });
      }
      await expectBlob({ url: registry.url, name }, content);
    },
  );

  relayTest(
    "that stops in the middle keeps nobody else from pushing",
    async ({ repository: name, registry, startRelay }) => {
      const relay = await startRelay();
      const headers = { Authorization: asAdmin };
      const stopped = new AbortController();
      const waiting: Promise<unknown>[] = [];
      for (let held = 0; held < 4; held++) {
        const begun = await send("POST", `${relay.url}/v2/${name}/blobs/uploads/`, { headers });
        const part = new Content(1_000_000);
        const body = part.read();
        // Without its end: the client says nothing more.
        const location = new URL(begun.headers.location ?? "", relay.url);
        const sending = { headers: { ...headers, "Content-Length": "200000000" }, body, signal: stopped.signal };
        waiting.push(send("PATCH", location, sending).catch(() => undefined));
        await once(body, "end");
      }
      const content = new Content(20 * MB);
      expect(await push({ url: relay.url, name }, content, "patch")).toMatchObject({ status: 201 });
      await expectBlob({ url: registry.url, name }, content);
      stopped.abort();
      await Promise.all(waiting);
    },
  );

  relayTest(
    "learns that the digest is wrong, in the registry's words",
    async ({ repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      const [content, other] = [new Content(3 * MB), new Content(1)];
      for (const form of ["patch", "put", "post"] as const) {
        const wrong = Object.defineProperty(new Content(3 * MB), "digest", { value: other.digest });
        const sent = await push({ url: relay.url, name }, wrong, form);
        expect(sent).toMatchObject({ status: 400 });
        expect(sent.text).toContain("DIGEST_INVALID");
      }
      expect(await push({ url: relay.url, name }, content, "put")).toMatchObject({ status: 201 });
      await expectBlob({ url: registry.url, name }, content);
    },
  );

  relayTest("that begins at the wrong byte is told where to go on", async ({ repository: name, startRelay }) => {
    const relay = await startRelay({ args: smallChunks });
    const headers = { Authorization: asAdmin };
    const begun = await send("POST", `${relay.url}/v2/${name}/blobs/uploads/`, { headers });
    const range = { ...headers, "Content-Range": "5000000-7999999" };
    const body = new Content(3 * MB).bytes();
    const sent = await send("PATCH", new URL(begun.headers.location ?? "", relay.url), { headers: range, body });
    expect(sent).toMatchObject({ status: 416, headers: { range: "0-0" } });
    expect(sent.headers.location).toMatch(/^\/v2\//);
  });
});

describe("many at once", () => {
  relayTest("five layers, as docker pushes them", async ({ front, repository: name, registry, relay }) => {
    const contents = Array.from({ length: 5 }, () => new Content(30 * MB));
    front.break(...[1, 2, 3].map((times) => ({ method: "PATCH", at: times * MB })));
    const sent = await Promise.all(contents.map((content) => push({ url: relay.url, name }, content, "patch")));
    expect(sent.map(({ status, text }) => `${String(status)} ${text}`)).toEqual(Array<string>(5).fill("201 "));
    for (const content of contents) await expectBlob({ url: registry.url, name }, content);
  });

  relayTest(
    "more uploads than the window has places, of all forms",
    async ({ repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: [`--max-body=${String(2 * MB)}`] });
      const forms = ["patch", "put", "post", "patch of known length"] as const;
      const pushed = Array.from({ length: 40 }, (_, at) => ({
        content: new Content((at % 5) * 700_000 + at),
        form: forms[at % forms.length] ?? "patch",
      }));
      const sent = await Promise.all(pushed.map(({ content, form }) => push({ url: relay.url, name }, content, form)));
      expect(sent.filter(({ status }) => status !== 201)).toEqual([]);
      for (const { content } of pushed) await expectBlob({ url: registry.url, name }, content);
    },
  );

  relayTest("small requests", async ({ repository: name, registry, relay }) => {
    const content = new Content(1000);
    expect(await push({ url: registry.url, name }, content, "put")).toMatchObject({ status: 201 });
    const headers = { Authorization: asAdmin };
    const asked = Array.from({ length: 300 }, async (_, at) => {
      const method = at % 2 === 0 ? "GET" : "HEAD";
      const { status } = await fetch(`${relay.url}/v2/${name}/blobs/${content.digest}`, { method, headers });
      return status;
    });
    expect(new Set(await Promise.all(asked))).toEqual(new Set([200]));
  });
});

describe("signing in", () => {
  relayTest("the challenge leads to the relay, for the registry's own service", async ({ front, relay }) => {
    const { status, headers } = await send("GET", `${relay.url}/v2/`);
    expect(status).toBe(401);
    expect(headers["www-authenticate"]).toBe(`Bearer realm="${relay.url}/token",service="${front.host}"`);
  });

  relayTest(
    "a token of the relay's realm pushes and pulls",
    async ({ front, repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      const authorization = await bearer(relay.url, front.host, name);
      const content = new Content(3 * MB);
      const place = { url: relay.url, name, authorization };
      expect(await push(place, content, "patch")).toMatchObject({ status: 201 });
      await expectBlob(place, content);
      await expectBlob({ url: registry.url, name }, content);
      expect(relay.errors).toBe("");
    },
  );

  relayTest("a token by POST, as docker asks with an identity token", async ({ front, repository: name, relay }) => {
    const form = new URLSearchParams({
      grant_type: "password",
      username: "admin",
      password: adminPassword,
      service: front.host,
      client_id: "test",
      scope: `repository:${name}:pull,push`,
    });
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    const sent = await send("POST", `${relay.url}/token`, { headers, body: Buffer.from(form.toString()) });
    expect(sent.status).toBe(200);
    expect(sent.text).toMatch(/"access_token":"[^"]+"/);
  });

  relayTest("a token is asked for again where the connection breaks", async ({ front, repository: name, relay }) => {
    front.break(tokenAnswer, tokenAnswer);
    await bearer(relay.url, front.host, name);
    expect(front.of("GET", tokenAnswer.target)).toHaveLength(3);
  });

  relayTest("a wrong password is refused by the registry", async ({ front, repository: name, relay }) => {
    const headers = { Authorization: `Basic ${btoa("admin:wrong")}` };
    const query = new URLSearchParams({ service: front.host, scope: `repository:${name}:pull` });
    const sent = await send("GET", `${relay.url}/token?${query.toString()}`, { headers });
    expect(sent.status).toBe(401);
    expect(sent.text).toContain("UNAUTHORIZED");
    const pushed = await push({ url: relay.url, name, authorization: headers.Authorization }, new Content(10), "patch");
    expect(pushed.status).toBe(401);
    expect(JSON.stringify(relay.events) + relay.errors).not.toMatch(/wrong|Basic|Bearer/);
  });

  relayTest("nobody pulls what is public, and pushes nothing", async ({ repository: name, registry, startRelay }) => {
    const relay = await startRelay({ args: smallChunks });
    const content = new Content(2 * MB);
    const publicName = `public/${name}`;
    await push({ url: registry.url, name: publicName }, content, "put");
    const pulled = await send("GET", `${relay.url}/v2/${publicName}/blobs/${content.digest}`);
    expect(pulled.status).toBe(200);
    const begun = await send("POST", `${relay.url}/v2/${publicName}/blobs/uploads/?digest=${content.digest}`, {
      body: content.bytes(),
    });
    expect(begun.status).toBe(401);
    expect(begun.headers["www-authenticate"]).toContain(relay.url);
  });

  relayTest.for([
    ["at once", []],
    ["once the connection to the token service holds", [{}, {}]],
    ["once the token service works", [{ status: 503 }, { status: 429 }]],
  ] as const)(
    "an upload outlasts its token, with another one %s",
    async ([, failures], { front, repository: name, registry, startRelay }) => {
      const relay = await startRelay({ args: smallChunks });
      const content = new Content(6 * MB);
      const place = { url: relay.url, name, authorization: await bearer(relay.url, front.host, name) };
      const patched = await outlast(front, place, content, () => {
        front.break(...failures.map((failure) => ({ ...tokenAnswer, ...failure })));
      });
      expect(patched).toMatchObject({ status: 202, headers: { range: `0-${String(content.length - 1)}` } });
      expect(front.left).toBe(0);
      const end = withDigest(new URL(patched.headers.location ?? "", relay.url), content);
      const renewed = { Authorization: await bearer(relay.url, front.host, name) };
      expect(await send("PUT", end, { headers: renewed })).toMatchObject({ status: 201 });
      await expectBlob({ url: registry.url, name }, content);
      expect(new Set(front.of("PATCH").map(({ headers: { authorization: used } }) => used)).size).toBe(2);
      expect(front.of("PATCH").filter(({ status }) => status === 401)).not.toEqual([]);
      expect(relay.of("retry")).toHaveLength(failures.length);
    },
  );

  relayTest("an upload that is refused another token is told so", async ({ front, repository: name, startRelay }) => {
    const relay = await startRelay({ args: smallChunks });
    const place = { url: relay.url, name, authorization: await bearer(relay.url, front.host, name) };
    const patched = await outlast(front, place, new Content(6 * MB), () => {
      front.break({ ...tokenAnswer, status: 403 });
    });
    expect(patched).toMatchObject({ status: 401 });
    expect(patched.headers["www-authenticate"]).toContain(`realm="${relay.url}/token"`);
  });
});

const tokenAnswer = { method: "GET", target: /^\/token/, at: "answer" } as const;

/** Sends a blob whose token ends half way, with what is done then. @returns the answer to its PATCH */
async function outlast(
  front: Front,
  { url, name, authorization = asAdmin }: Place,
  content: Content,
  onEnd: () => void,
): Promise<Sent> {
  const headers = { Authorization: authorization };
  const begun = await send("POST", `${url}/v2/${name}/blobs/uploads/`, { headers });
  const body = content.read();
  let read = 0;
  body.on("data", (piece: Buffer) => {
    const before = read;
    read += piece.length;
    if (before >= content.length / 2 || read < content.length / 2) return;
    front.endTokens();
    onEnd();
  });
  return send("PATCH", new URL(begun.headers.location ?? "", url), { headers, body });
}

/** Sends what an upload lacks; the request that broke may still be at its end, and is waited for as clients do. */
async function goOn(location: URL, headers: Readonly<Record<string, string>>, content: Content): Promise<Sent> {
  const status = await send("GET", location, { headers });
  expect(status.status).toBe(204);
  const last = Number(/^0-(\d+)$/.exec(status.headers.range ?? "")?.[1]);
  const start = last === 0 ? 0 : last + 1;
  const at = new URL(status.headers.location ?? "", location);
  const range = { "Content-Range": `${String(start)}-${String(content.length - 1)}` };
  const sent = await send("PATCH", at, { headers: { ...headers, ...range }, body: content.bytes(start) });
  return sent.status === 416 ? goOn(at, headers, content) : sent;
}

/** As clients get it. */
async function bearer(url: string, service: string, name: string): Promise<string> {
  const query = new URLSearchParams({ service, scope: `repository:${name}:pull,push` });
  const sent = await send("GET", `${url}/token?${query.toString()}`, { headers: { Authorization: asAdmin } });
  expect(sent.status).toBe(200);
  return `Bearer ${/"token":"([^"]+)"/.exec(sent.text)?.[1] ?? ""}`;
}
