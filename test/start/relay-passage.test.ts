import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { asAdmin } from "../support/credentials.ts";
import { RegistryClient, utf8 } from "../support/client.ts";
import { freePort } from "../support/free-port.ts";
import { expectLine, launched, moorage } from "./cli-test.ts";
import { makeAuthority, makeCertificate } from "./doctor-certificate.ts";
import { Content, expectBlob, push, relayTest, RunningRelay, send, serve } from "./relay-test.ts";
import { startTest } from "./start-test.ts";

const MB = 1_000_000;
/** For what another process says. */
const patience = { timeout: 30_000 };

/** A request as it is written, with what no client's library would send. @returns all that comes back */
async function sendRaw(host: string, lines: readonly string[]): Promise<string> {
  const { port } = new URL(`http://${host}`);
  const socket = connect(Number(port), "127.0.0.1");
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  return text(socket);
}

describe("what the relay passes on", () => {
  relayTest("a pull, byte for byte, whole and in ranges", async ({ repository: name, registry, relay }) => {
    const content = new Content(5 * MB);
    await push({ url: registry.url, name }, content, "put");
    await expectBlob({ url: relay.url, name }, content);
    const repository = new RegistryClient(relay.url, fetch, asAdmin).repository(name);
    const part = await repository.getBlob(content.digest, { Range: "bytes=1000000-1000099" });
    expect(part.status).toBe(206);
    expect(part.headers.get("Content-Range")).toBe(`bytes 1000000-1000099/${String(content.length)}`);
    expect(Buffer.from(await part.arrayBuffer()).equals(content.bytes(1_000_000, 1_000_100))).toBe(true);
    const head = await repository.headBlob(content.digest);
    expect(head.headers.get("Content-Length")).toBe(String(content.length));
    const missing = await repository.getBlob(`sha256:${"0".repeat(64)}`);
    expect(missing.status).toBe(404);
    expect(await missing.text()).toContain("BLOB_UNKNOWN");
  });

  relayTest(
    "manifests, tags, lists with their next page, and deletes",
    async ({ repository: name, registry, relay }) => {
      const repository = new RegistryClient(relay.url, fetch, asAdmin).repository(name);
      const config = await repository.pushBlob(utf8("{}"), { mediaType: "application/vnd.oci.empty.v1+json" });
      const manifest = {
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config,
        layers: [],
      };
      for (const reference of ["a", "b"]) await repository.pushManifest(manifest, { reference });
      const direct = new RegistryClient(registry.url, fetch, asAdmin).repository(name);
      expect(await (await repository.getManifest("a")).text()).toBe(await (await direct.getManifest("a")).text());
      const listed = await repository.listTags({ n: 1 });
      expect(await listed.json()).toMatchObject({ tags: ["a"] });
      expect(listed.headers.get("Link")).toMatch(/^<\/v2\//);
      expect((await repository.deleteManifest("a")).status).toBe(202);
      expect((await direct.getManifest("a")).status).toBe(404);
    },
  );

  relayTest("fields between two hops are not", async ({ startRelay }) => {
    let heard: readonly string[] = [];
    await using server = await serve((incoming, outgoing) => {
      heard = incoming.rawHeaders;
      outgoing.writeHead(200, [
        "Connection",
        "X-Hop",
        "X-Hop",
        "1",
        "X-End",
        "2",
        "Warning",
        '299 - "old"',
        "Upgrade",
        "h2c",
      ]);
      outgoing.end("body");
    });
    const relay = await startRelay({}, server.url);
    const answer = await sendRaw(relay.host, [
      "GET /v2/a/tags/list HTTP/1.1",
      `Host: ${relay.host}`,
      "Connection: close, X-Mine",
      "X-Mine: 1",
      "X-Theirs: 2",
      "TE: trailers",
      "Proxy-Authorization: Basic c2VjcmV0",
      "Keep-Alive: timeout=5",
    ]);
    expect(heard).toEqual(expect.arrayContaining(["Host", new URL(server.url).host, "X-Theirs", "2"]));
    expect(heard).not.toEqual(expect.arrayContaining(["X-Mine"]));
    for (const name of ["TE", "Proxy-Authorization", "Keep-Alive"]) expect(heard).not.toContain(name);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).toContain('X-End: 2\r\nWarning: 299 - "old"');
    expect(answer).not.toMatch(/X-Hop|Upgrade/);
  });

  relayTest("trailers of both sides are", async ({ startRelay }) => {
    await using server = await serve((incoming, outgoing) => {
      incoming.resume().once("end", () => {
        outgoing.writeHead(200, { Trailer: "X-Sum", "Transfer-Encoding": "chunked" });
        outgoing.write("body");
        outgoing.addTrailers({ "X-Sum": `of ${String(incoming.trailers["x-mine"])}` });
        outgoing.end();
      });
    });
    const relay = await startRelay({}, server.url);
    const sent = [
      "POST /v2/a HTTP/1.1",
      `Host: ${relay.host}`,
      "Connection: close",
      "Transfer-Encoding: chunked",
      "Trailer: X-Mine",
    ];
    const answer = await sendRaw(relay.host, [...sent, "", "1", "b", "0", "X-Mine: 7"]);
    expect(answer).toMatch(/body\r\n0\r\nX-Sum: of 7\r\n\r\n$/);
  });

  relayTest("addresses: the registry's own become paths, others and those with TLS stay", async ({ startRelay }) => {
    await using server = await serve(({ url: target = "", headers: { host = "" } }, outgoing) => {
      const own = `http://${host}`;
      const bucket = "https://bucket.example.com/object?signed=1";
      if (target.startsWith("/bucket")) outgoing.writeHead(307, { Location: bucket });
      else if (target.startsWith("/secure"))
        outgoing.writeHead(202, { Location: `https://${host}/v2/a/blobs/uploads/1?s=a%2Fb` });
      else
        outgoing.writeHead(401, {
          Location: `${own}/v2/a?x=1`,
          Link: `<${own}/v2/a?n=1>; rel="next", <${bucket}>; rel="copy"`,
          "WWW-Authenticate": [
            `Basic realm="${own}"`,
            `Bearer service="s",realm="https://auth.example.com/token?a=1",scope="x"`,
          ],
        });
      outgoing.end();
    });
    const relay = await startRelay({}, server.url);
    const bucket = await send("GET", `${relay.url}/bucket`);
    expect(bucket).toMatchObject({ status: 307, headers: { location: "https://bucket.example.com/object?signed=1" } });
    const { host } = new URL(server.url);
    const secure = await send("GET", `${relay.url}/secure`);
    expect(secure.headers.location).toBe(`https://${host}/v2/a/blobs/uploads/1?s=a%2Fb`);
    const { headers } = await send("GET", `${relay.url}/v2/a`);
    expect(headers.location).toBe("/v2/a?x=1");
    expect(headers.link).toBe('</v2/a?n=1>; rel="next", <https://bucket.example.com/object?signed=1>; rel="copy"');
    const challenges = `Basic realm="${server.url}", Bearer service="s",realm="${relay.url}/.relay/token/0?a=1",scope="x"`;
    expect(headers["www-authenticate"]).toBe(challenges);
  });

  relayTest.for([
    ["GET", "breaks", "the answer broke off"],
    ["GET", "stops", "nothing moved for 1 s"],
    ["PATCH", "breaks", "the answer broke off"],
  ] as const)("an answer to a %s that %s in the middle breaks off", async ([method, how, reason], { startRelay }) => {
    await using server = await serve((incoming, outgoing) => {
      incoming.resume().once("end", () => {
        outgoing.writeHead(200, { "Content-Length": "100" });
        outgoing.write("half", () => {
          if (how === "breaks") outgoing.destroy();
        });
      });
    });
    const relay = await startRelay({ args: ["--silence=1"] }, server.url);
    const body = method === "PATCH" ? { body: Buffer.alloc(100_000) } : {};
    await expect(send(method, `${relay.url}/v2/a/blobs/uploads/1`, body)).rejects.toThrow(/aborted/);
    const failed = [{ repository: "a", reason: `${server.url}: ${reason}` }];
    await expect.poll(() => relay.of("failed"), patience).toMatchObject(failed);
  });

  relayTest("a client that goes away in the middle is told of as such", async ({ startRelay }) => {
    const abort = new AbortController();
    await using server = await serve((_incoming, outgoing) => {
      outgoing.writeHead(200, { "Content-Length": "100" });
      outgoing.write("half", () => abort.abort());
    });
    const relay = await startRelay({}, server.url);
    const sending = { body: Buffer.alloc(100_000), signal: abort.signal };
    await expect(send("PATCH", `${relay.url}/v2/a/blobs/uploads/1`, sending)).rejects.toThrow(/abort/);
    await expect
      .poll(() => relay.of("failed"), patience)
      .toMatchObject([{ repository: "a", reason: "the client went away" }]);
  });

  relayTest("a registry that is gone is told so", async ({ startRelay }) => {
    let url = "";
    let relay: RunningRelay;
    {
      await using server = await serve((_incoming, outgoing) => outgoing.end());
      ({ url } = server);
      relay = await startRelay({}, url);
    }
    const sent = await send("GET", `${relay.url}/v2/a/tags/list`);
    expect(sent).toMatchObject({ status: 502, headers: { "content-type": "application/json" } });
    expect(sent.text).toMatch(new RegExp(`"code":"UNSUPPORTED","message":"[^"]*${url}: connect ECONNREFUSED`));
  });

  relayTest(
    "over TLS, with one connection for many requests",
    async ({ openFront, repository: name, registry, startRelay, folder }) => {
      const authority = makeAuthority();
      const year = 365 * 86_400_000;
      const validity = { validFromMs: Date.now() - year, validToMs: Date.now() + year };
      const certificate = makeCertificate({ host: "localhost", ...validity }, authority);
      const front = await openFront({ certificate });
      const trusted = path.join(folder, "authority.pem");
      await writeFile(trusted, authority.cert);
      const relay = await startRelay(
        { args: ["--max-body=1000000"], env: { NODE_EXTRA_CA_CERTS: trusted } },
        front.url,
      );
      const content = new Content(10 * MB);
      front.break({ method: "PATCH", at: 300_000 });
      expect(await push({ url: relay.url, name }, content, "patch")).toMatchObject({ status: 201 });
      await expectBlob({ url: registry.url, name }, content);
      await expectBlob({ url: relay.url, name }, content);
      expect(front.connections).toBeLessThan(6);
      const { headers } = await send("GET", `${relay.url}/v2/`);
      expect(headers["www-authenticate"]).toContain(`realm="${relay.url}/token"`);
      const untrusted = await moorage(["relay", front.url, "--port=0"]);
      expectLine(untrusted, 1, /can't be reached: .*certificate/);
    },
  );
});

describe("who may use it", () => {
  relayTest.for([
    ["a name of a page's own that leads here", "GET", { Host: "evil.example.com" }],
    ["a name that only begins as this machine's", "GET", { Host: "localhost.evil.example.com:5000" }],
    ["a user in Host", "GET", { Host: "localhost@evil.example.com" }],
    ["a script", "POST", { Origin: "https://evil.example.com" }],
    ["a script of a page of the relay's own", "POST", { Origin: "http://localhost:5000" }],
    ["a picture in a page", "GET", { "Sec-Fetch-Site": "cross-site" }],
  ] as const)("not %s", async ([, method, headers], { front, relay }) => {
    const before = front.seen.length;
    const target = new URL("/v2/a/blobs/uploads/", relay.url);
    const sent = await send(method, target, { headers: { ...headers } });
    expect(sent).toMatchObject({ status: 403, headers: { "content-type": "application/json" } });
    expect(sent.text).toContain('"code":"DENIED"');
    expect(front.seen.length).toBe(before);
  });

  relayTest("whoever says localhost, in any of its forms", async ({ relay }) => {
    const { port } = new URL(relay.url);
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, `LOCALHOST:${port}`]) {
      expect(await send("GET", `${relay.url}/v2/`, { headers: { Host: host } })).toMatchObject({ status: 401 });
    }
  });

  relayTest("nobody as a proxy to elsewhere", async ({ front, relay }) => {
    const before = front.seen.length;
    const lines = ["GET http://example.com/v2/ HTTP/1.1", `Host: ${relay.host}`, "Connection: close"];
    expect(await sendRaw(relay.host, lines)).toMatch(/^HTTP\/1\.1 400 /);
    expect(await sendRaw(relay.host, ["CONNECT example.com:443 HTTP/1.1", `Host: ${relay.host}`])).toBe("");
    expect(front.seen.length).toBe(before);
  });

  relayTest("it listens on this machine alone unless it is told another host", async ({ startRelay }) => {
    const relay = await startRelay({ args: ["--host=127.0.0.1"] });
    expect(relay.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const open = await startRelay({ args: ["--host=0.0.0.0"] });
    const { port } = new URL(open.url);
    const at = `http://127.0.0.1:${port}/v2/`;
    expect(await send("GET", at, { headers: { Host: `192.0.2.7:${port}` } })).toMatchObject({ status: 401 });
    expect(await send("GET", at, { headers: { Host: `evil.example.com:${port}` } })).toMatchObject({ status: 403 });
  });
});

describe("moorage relay", () => {
  relayTest(
    "tells each upload in a line, and ends by Ctrl-C with 0",
    async ({ front, repository: name, startRelay }) => {
      const relay = await startRelay({ isJson: false, args: ["--max-body=1000000"] });
      const content = new Content(2 * MB);
      front.break({ method: "PATCH", at: 1000 });
      expect(await push({ url: relay.url, name }, content, "patch")).toMatchObject({ status: 201 });
      expect(await relay.stop("SIGINT")).toBe(0);
      expect(relay.errors).toMatch(new RegExp(`^moorage: ${relay.url} relays to ${front.url}; Ctrl-C ends it\n`));
      expect(relay.errors).toMatch(new RegExp(`^moorage: ${name}: .*; trying again$`, "m"));
      const line = `^moorage: ${name}@${content.digest}: 2\\.00 MB in [23] requests, \\d made again, [\\d.]+ s, [\\d.]+ [kM]B/s$`;
      expect(relay.errors).toMatch(new RegExp(line, "m"));
    },
  );

  relayTest("shows a bar on a terminal", async ({ front, repository: name, startRelay }) => {
    // `script` gives it a terminal, and shows on its own output what is written there.
    const command = `exec script -qefc "'${process.execPath}' scripts/moorage.ts $*" /dev/null`;
    const relay = await startRelay({ isJson: false, program: ["sh", "-c", command, "sh"] });
    const content = new Content(101 * MB);
    expect(await push({ url: relay.url, name }, content, "put")).toMatchObject({ status: 201 });
    await relay.stop();
    expect(front.of("PATCH").length).toBeGreaterThan(1);
    expect(relay.errors).toMatch(new RegExp(`=+-* \\d+% [\\d.]+ MB ${name}`));
    expect(relay.errors).toContain(`${name}@${content.digest}: 101 MB in`);
  });

  relayTest("ends at once and with 0, whatever is on its way", async ({ front, repository: name, startRelay }) => {
    const relay = await startRelay();
    const pushing = push({ url: relay.url, name }, new Content(60 * MB), "patch").catch(() => null);
    await front.saw("PATCH");
    expect(await relay.stop("SIGTERM")).toBe(0);
    expect(await pushing).toBeNull();
  });

  relayTest("ends with 0 while the registry has not said what it is", async () => {
    const asked = Promise.withResolvers<void>();
    await using silent = await serve(() => asked.resolve(), false);
    const interrupted = asked.promise;
    expect(await moorage(["relay", silent.url, "--port=0"], { interrupted })).toEqual({
      code: 0,
      stdout: "",
      stderr: "",
    });
  });

  relayTest("ends with 0 where it is told twice to", async ({ startRelay }) => {
    const relay = await startRelay({ program: launched });
    expect(await relay.stop("SIGINT")).toBe(0);
  });

  relayTest.for([
    ["itself", {}],
    ["launch.js", { program: launched }],
  ] as const)("ends with 0 where %s is told again and again to", async ([, options], { startRelay }) => {
    const relay = await startRelay(options);
    expect(await relay.stopInsistently("SIGINT")).toBe(0);
  });

  relayTest("refuses in one line what can't be", async ({ front }) => {
    await using other = await serve((_incoming, outgoing) => outgoing.writeHead(404).end(), false);
    const { port } = new URL(other.url);
    const lines = [
      [["http://127.0.0.1:1"], 1, /^moorage: http:\/\/127\.0\.0\.1:1 can't be reached: connect ECONNREFUSED/],
      [[other.url], 1, /is no registry: \/v2\/ answers 404$/m],
      [[front.url, `--port=${port}`], 1, /: port \d+ is in use: choose another by --port$/m],
      [["http://registry.example.com"], 2, /unencrypted: use https, or --plain-http/],
      [["https://registry.example.com/v2"], 2, /takes no path/],
      [[front.url, "--port=70000"], 2, /--port.* not a whole number from 0 to 65535/],
      [[front.url, "--max-body=0"], 2, /--max-body/],
      [[], 2, /missing required argument 'url'/],
    ] as const;
    for (const [args, code, message] of lines) expectLine(await moorage(["relay", ...args]), code, message);
  });
});

startTest("a registry that is started anew in the middle of an upload", async ({ start }) => {
  const port = await freePort();
  const registry = await start({ port });
  const relay = await RunningRelay.start(registry.url);
  try {
    const content = new Content(60 * MB);
    const headers = { Authorization: asAdmin };
    const begun = await send("POST", `${relay.url}/v2/relay/restart/blobs/uploads/`, { headers });
    const body = content.read();
    let read = 0;
    const restarted = new Promise<void>((resolve, reject) => {
      body.on("data", (piece: Buffer) => {
        const before = read;
        read += piece.length;
        // The window holds 24 MiB: some of it is upstream by then.
        if (before >= 40 * MB || read < 40 * MB) return;
        registry
          .stop()
          .then(() => start({ port }))
          .then(() => resolve(), reject);
      });
    });
    const patched = await send("PATCH", new URL(begun.headers.location ?? "", relay.url), { headers, body });
    await restarted;
    expect(patched).toMatchObject({ status: 202, headers: { range: `0-${String(content.length - 1)}` } });
    expect(relay.of("retry")).not.toEqual([]);
    const end = new URL(patched.headers.location ?? "", relay.url);
    end.searchParams.set("digest", content.digest);
    expect(await send("PUT", end, { headers })).toMatchObject({ status: 201 });
    await expectBlob({ url: registry.url, name: "relay/restart" }, content);
  } finally {
    await relay.stop();
  }
});
