import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Field } from "../../scripts/relay/headers.ts";
import { lines } from "../../scripts/relay/progress.ts";
import { Relay } from "../../scripts/relay/relay.ts";
import { Renewal, type TokenRequest } from "../../scripts/relay/renewal.ts";
import type { Answer } from "../../scripts/relay/upstream.ts";
import { send, serve } from "./relay-test.ts";

const request: TokenRequest = {
  method: "GET",
  url: new URL("https://registry.example.com/token?service=s"),
  fields: [["Authorization", "Basic c2VjcmV0"]],
  body: Buffer.alloc(0),
};
const lifeMs = 300_000;
const graceMs = 60_000;
const first: readonly Field[] = [["Authorization", "Bearer first"]];

function given(token: string, lifeSeconds = lifeMs / 1000): Answer {
  const body = Buffer.from(JSON.stringify({ token, expires_in: lifeSeconds }));
  return { status: 200, message: "OK", fields: [], body };
}

/** One that has learned of a token that is named `first`; the next ones are numbered. */
function renewalOfFirst(lifeSeconds?: number) {
  let asked = 0;
  const renewal = new Renewal(async () => {
    asked += 1;
    return given(`renewed ${String(asked)}`);
  });
  renewal.learn(request, given("first", lifeSeconds));
  return renewal;
}

describe("what a token was asked for with", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  test("is used as long as the token holds, and then forgotten", async () => {
    const renewal = renewalOfFirst();
    vi.advanceTimersByTime(lifeMs - 1);
    const proof = renewal.proofOf(first, false);
    expect(await proof.renew("Bearer first")).toBe("renewed");
    expect(proof.authorization()).toBe("Bearer renewed 1");
    const unused = renewalOfFirst();
    vi.advanceTimersByTime(lifeMs);
    expect(unused.size).toBe(0);
    for (const isEnd of [false, true]) {
      expect(await unused.proofOf(first, isEnd).renew("Bearer first")).toBe("refused");
    }
  });

  test("is used by an upload that outlasts it, and by nothing else that begins then", async () => {
    const renewal = renewalOfFirst();
    const proof = renewal.proofOf(first, false);
    vi.advanceTimersByTime(10 * lifeMs);
    expect(renewal.size).toBe(1);
    expect(await proof.renew("Bearer first")).toBe("renewed");
    expect(await renewal.proofOf(first, false).renew("Bearer first")).toBe("refused");
    proof.release();
    expect(await renewal.proofOf(first, false).renew("Bearer first")).toBe("refused");
    const end = renewal.proofOf(first, true);
    expect(end.authorization()).toBe("Bearer renewed 1");
    expect(await end.renew("Bearer renewed 1")).toBe("renewed");
    end.release();
    vi.advanceTimersByTime(graceMs);
    expect(renewal.size).toBe(0);
  });

  test("is forgotten a minute after the upload, however often that is ended", async () => {
    const renewal = renewalOfFirst();
    const proof = renewal.proofOf(first, false);
    vi.advanceTimersByTime(lifeMs);
    proof.release();
    for (let passedMs = 0; passedMs < graceMs; passedMs += graceMs / 4) {
      const end = renewal.proofOf(first, true);
      expect(await end.renew("Bearer first")).toBe("renewed");
      end.release();
      vi.advanceTimersByTime(graceMs / 4);
    }
    expect(renewal.size).toBe(0);
    expect(await renewal.proofOf(first, true).renew("Bearer first")).toBe("refused");
  });

  test("stays where the same token is given once more", () => {
    const renewal = renewalOfFirst();
    const proof = renewal.proofOf(first, false);
    vi.advanceTimersByTime(lifeMs - graceMs);
    renewal.learn(request, given("first"));
    proof.release();
    vi.advanceTimersByTime(lifeMs - 1);
    expect(renewal.size).toBe(1);
    vi.advanceTimersByTime(1);
    expect(renewal.size).toBe(0);
  });

  test("stays for a token that holds for longer than a timer waits", () => {
    const renewal = renewalOfFirst(10 * 365 * 86_400);
    vi.advanceTimersByTime(86_400_000);
    expect(renewal.size).toBe(1);
  });
});

test("a token that has ended pushes nothing through the relay", async () => {
  let asked = 0;
  await using registry = await serve((incoming, outgoing) => {
    incoming.resume().once("end", () => {
      if (incoming.url?.startsWith("/token") === true) {
        asked += 1;
        outgoing.end(given(asked === 1 ? "first" : "second").body);
        return;
      }
      const realm = `http://${incoming.headers.host ?? ""}/token`;
      const isSecond = incoming.headers.authorization === "Bearer second";
      outgoing.writeHead(isSecond ? 202 : 401, { "WWW-Authenticate": `Bearer realm="${realm}"` }).end();
    });
  });
  vi.useFakeTimers({ toFake: ["Date"] });
  const relay = new Relay({
    upstream: new URL(registry.url),
    host: "127.0.0.1",
    port: 0,
    maxBodyBytes: 1000,
    patience: { tries: 2, silentMs: 10_000 },
    progress: lines(() => {}),
  });
  try {
    const url = `http://127.0.0.1:${String(await relay.listen())}`;
    const target = `${url}/v2/a/blobs/uploads/1`;
    expect(await send("GET", target)).toMatchObject({ status: 401 });
    expect(await send("GET", `${url}/token`, { headers: { Authorization: "Basic c2VjcmV0" } })).toMatchObject({
      status: 200,
    });
    vi.setSystemTime(Date.now() + lifeMs);
    const headers = { Authorization: "Bearer first" };
    const digest = `sha256:${"0".repeat(64)}`;
    for (const method of ["PATCH", "PUT"] as const) {
      const body = Buffer.alloc(2000);
      expect(await send(method, `${target}?digest=${digest}`, { headers, body })).toMatchObject({ status: 401 });
    }
    expect(await send("PUT", `${target}?digest=${digest}`, { headers })).toMatchObject({ status: 401 });
    expect(asked).toBe(1);
  } finally {
    vi.useRealTimers();
    await relay.close();
  }
});
