import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { createServer as createSecureServer } from "node:https";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { Translation } from "../../scripts/relay/answers.ts";
import { resolveLocation } from "../../scripts/relay/append.ts";
import { Realms } from "../../scripts/relay/realms.ts";
import { makeAuthority, makeCertificate } from "./doctor-certificate.ts";
import { relayTest, send, serve } from "./relay-test.ts";

const host = "localhost:5000";
const basic = `Basic ${btoa("bob:secret")}`;

describe("an address in an answer", () => {
  test.for([
    ["https://registry.example.com:5050", "https://registry.example.com:5050/v2/a?x=1", "/v2/a?x=1"],
    ["https://registry.example.com", "https://registry.example.com:443/v2/a", "/v2/a"],
    ["https://registry.example.com", "//registry.example.com/v2/a", "/v2/a"],
    // A proxy before the registry took TLS off, and did or did not say the port.
    ["https://registry.example.com:5050", "http://registry.example.com:5050/v2/a", "/v2/a"],
    ["https://registry.example.com:5050", "http://registry.example.com/v2/a", "/v2/a"],
    ["https://registry.example.com", "http://registry.example.com/v2/a", "/v2/a"],
  ] as const)("%s: %s is its own", ([upstream, address, expected]) => {
    expect(locationOf(upstream, address)).toBe(expected);
    expect(resolveLocation(address, new URL("/v2/b", upstream), new URL(upstream)).href).toBe(
      new URL(expected, upstream).href,
    );
  });

  test.for([
    ["https://registry.example.com:5050", "https://registry.example.com/bucket/x?signed=1"],
    ["https://registry.example.com", "https://registry.example.com:5050/bucket/x"],
    ["https://registry.example.com", "http://registry.example.com:8080/bucket/x"],
    ["https://registry.example.com", "https://bucket.example.com/x"],
    ["http://127.0.0.1:5050", "https://127.0.0.1:5050/v2/a"],
    ["http://127.0.0.1:5050", "https://127.0.0.1/v2/a"],
    ["http://127.0.0.1:5050", "http://127.0.0.1/v2/a"],
    ["http://127.0.0.1", "https://127.0.0.1/v2/a"],
  ] as const)("%s: %s is another's, and stays", ([upstream, address]) => {
    expect(locationOf(upstream, address)).toBe(address);
    expect(resolveLocation(address, new URL("/v2/b", upstream), new URL(upstream)).href).toBe(address);
  });

  test("a path of a realm elsewhere does not become one of the registry's", () => {
    const upstream = new URL("http://127.0.0.1:5050");
    const translation = new Translation(upstream, new Realms(upstream), host);
    const asked = new URL("https://auth.example.com/jwt/token");
    const located = (address: string) => translation.fields([["Location", address]], asked)[0]?.[1];
    expect(located("/login")).toBe("https://auth.example.com/login");
    expect(located("//auth.example.com/login")).toBe("https://auth.example.com/login");
  });
});

describe("a realm", () => {
  test.for([
    ["https://registry.example.com", "https://registry.example.com/token"],
    ["http://127.0.0.1:5050", "http://127.0.0.1:5050/token"],
    ["https://registry.example.com:5050", "https://registry.example.com/jwt/auth"],
    ["http://127.0.0.1:5050", "https://127.0.0.1/token"],
    ["http://127.0.0.1:5050", "https://127.0.0.1:5050/token"],
    ["http://127.0.0.1:5050", "http://127.0.0.1/token"],
    ["https://registry.example.com", "https://auth.example.com:8443/token"],
  ] as const)("of %s at %s is asked there", ([upstream, realm]) => {
    expect(askedAt(upstream, realm)).toBe(`${realm}?service=s`);
  });

  test("that a registry behind a proxy says without TLS is asked with it", () => {
    const upstream = "https://registry.example.com:5050";
    expect(askedAt(upstream, "http://registry.example.com:5050/token")).toBe(`${upstream}/token?service=s`);
    expect(askedAt(upstream, "http://registry.example.com/token")).toBe(`${upstream}/token?service=s`);
  });

  test("elsewhere without TLS is left to the client, where the registry is reached by https", () => {
    const challenge = 'Bearer realm="http://auth.example.com/token",service="s"';
    expect(new Realms(new URL("https://registry.example.com")).localize(challenge, host)).toBe(challenge);
    expect(askedAt("http://127.0.0.1:5050", "http://auth.example.com/token")).toBe(
      "http://auth.example.com/token?service=s",
    );
  });

  relayTest("of the registry's host at 443 is no business of its other port", async ({ startRelay }) => {
    const seen: string[] = [];
    await using registry = await serve((incoming, outgoing) => {
      seen.push(`${incoming.url ?? ""} ${incoming.headers.authorization ?? ""}`);
      outgoing.writeHead(401, { "WWW-Authenticate": 'Bearer realm="https://127.0.0.1/token",service="s"' }).end();
    }, false);
    const relay = await startRelay({}, registry.url);
    const realm = realmOf(await send("GET", `${relay.url}/v2/`));
    // What is at this machine's port 443, if anything, is not known here, nor what it answers.
    await send("GET", `${realm}?service=s`, { headers: { Authorization: basic } });
    expect(new Set(seen)).toEqual(new Set(["/v2/ "]));
  });

  relayTest("elsewhere gets the client's login over TLS, and nobody else does", async ({ folder, startRelay }) => {
    const authority = makeAuthority();
    const day = 86_400_000;
    const validity = { validFromMs: Date.now() - day, validToMs: Date.now() + day };
    const certificate = makeCertificate({ host: "localhost", ...validity }, authority);
    const trusted = path.join(folder, "authority.pem");
    await writeFile(trusted, authority.cert);
    const asked: string[] = [];
    const issuer = createSecureServer({ ...certificate }, (incoming, outgoing) => {
      asked.push(`${incoming.url ?? ""} ${incoming.headers.authorization ?? ""}`);
      if (incoming.url?.startsWith("/token") === true) outgoing.end('{"token":"t"}');
      else outgoing.writeHead(307, { Location: "/token" }).end();
    });
    issuer.listen(0, "127.0.0.1");
    await once(issuer, "listening");
    try {
      const address = issuer.address();
      if (address === null || typeof address === "string") throw new TypeError("a port was expected");
      const origin = `https://localhost:${String(address.port)}`;
      const seen: (string | undefined)[] = [];
      await using registry = await serve((incoming, outgoing) => {
        seen.push(incoming.headers.authorization);
        if (incoming.headers.authorization !== undefined) outgoing.end("{}");
        else {
          const realms = [`Bearer realm="${origin}/token",service="s"`, `Bearer realm="${origin}/old",service="s"`];
          outgoing.writeHead(401, { "WWW-Authenticate": realms }).end();
        }
      }, false);
      const relay = await startRelay({ env: { NODE_EXTRA_CA_CERTS: trusted } }, registry.url);
      const challenged = await send("GET", `${relay.url}/v2/`);
      const headers = { Authorization: basic };
      const given = await send("GET", `${realmOf(challenged)}?service=s`, { headers });
      expect(given).toMatchObject({ status: 200, text: '{"token":"t"}' });
      expect(asked).toEqual([`/token?service=s ${basic}`]);
      const old = await send("GET", `${relay.url}/.relay/token/1?service=s`, { headers });
      expect(old).toMatchObject({ status: 307, headers: { location: `${origin}/token` } });
      expect(await send("GET", `${relay.url}/v2/`, { headers: { Authorization: "Bearer t" } })).toMatchObject({
        status: 200,
      });
      expect(new Set(seen)).toEqual(new Set([undefined, "Bearer t"]));
    } finally {
      issuer.close().closeAllConnections();
      await once(issuer, "close");
    }
  });
});

/** What the client is told in place of a `Location` of upstream. */
function locationOf(upstream: string, address: string): string | undefined {
  const url = new URL(upstream);
  const translation = new Translation(url, new Realms(url), host);
  return translation.fields([["Location", address]], new URL("/v2/b", url))[0]?.[1];
}

/** Where the relay asks for a token that a client asks it for. */
function askedAt(upstream: string, realm: string): string | undefined {
  const realms = new Realms(new URL(upstream));
  const told = new URL(/realm="([^"]+)"/.exec(realms.localize(`Bearer realm="${realm}"`, host))?.[1] ?? "");
  expect(told.host).toBe(host);
  return realms.remote(`${told.pathname}?service=s`)?.href;
}

/** The first that a challenge names. */
function realmOf({ headers }: { readonly headers: NodeJS.Dict<string | string[]> }): string {
  return /realm="([^"]+)"/.exec(String(headers["www-authenticate"]))?.[1] ?? "";
}
