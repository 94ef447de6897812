import { once } from "node:events";
import http, { type IncomingMessage, type ServerResponse } from "node:http";
import { describe, expect, test } from "vitest";
import { HeldBody } from "../../scripts/relay/held-body.ts";
import { Places } from "../../scripts/relay/places.ts";
import { FRAMES, Window } from "../../scripts/relay/window.ts";
import { Content, type Place, push, relayTest, send, serve } from "./relay-test.ts";

/** What a registry says that takes whatever comes. */
function accept(outgoing: ServerResponse): void {
  outgoing.writeHead(202, { Location: "/v2/a/blobs/uploads/1" }).end();
}

describe("a registry that does not answer", () => {
  relayTest("is asked once, for as long as --silence says", async ({ startRelay }) => {
    const asked: string[] = [];
    await using registry = await serve(({ method = "", url = "" }) => {
      asked.push(`${method} ${url}`);
    });
    const relay = await startRelay({ args: ["--silence=1"] }, registry.url);
    const requests = [
      ["GET", "/v2/a/manifests/v1"],
      ["GET", "/v2/a/blobs/b"],
      ["HEAD", "/v2/a/manifests/v1"],
      ["DELETE", "/v2/a/manifests/v1"],
      ["POST", "/v2/a/blobs/uploads/"],
    ] as const;
    const sent = await Promise.all(requests.map(([method, target]) => send(method, relay.url + target)));
    expect(sent.map(({ status }) => status)).toEqual([502, 502, 502, 502, 502]);
    expect(sent[0]?.headers["content-type"]).toBe("application/json");
    expect(sent[0]?.text).toMatch(/^\{"errors":\[\{"code":"UNSUPPORTED","message":"[^"]*: nothing moved for 1 s"/);
    expect(asked.toSorted()).toEqual(requests.map((request) => request.join(" ")).toSorted());
  });

  relayTest("has longer for the end of an upload", async ({ startRelay }) => {
    const held: ServerResponse[] = [];
    await using registry = await serve((incoming, outgoing) => {
      incoming.resume();
      if (incoming.method === "PUT") held.push(outgoing);
    });
    const relay = await startRelay({ args: ["--silence=1"] }, registry.url);
    const target = `${relay.url}/v2/a/blobs/uploads/1?digest=sha256:${"0".repeat(64)}`;
    const puts = [send("PUT", target), send("PUT", target, { body: Buffer.alloc(100_000) })];
    await silences(relay.url, 2);
    expect(held).toHaveLength(2);
    for (const outgoing of held) outgoing.writeHead(201).end();
    expect((await Promise.all(puts)).map(({ status }) => status)).toEqual([201, 201]);
  });

  relayTest("is not to blame for a client that reads slowly", async ({ startRelay }) => {
    // More than the system keeps for two connections.
    const length = 64 << 20;
    await using registry = await serve((incoming, outgoing) => {
      if (incoming.url === "/v2/a/blobs/large") outgoing.end(Buffer.alloc(length));
    });
    const relay = await startRelay({ args: ["--silence=1"] }, registry.url);
    const request = http.get(`${relay.url}/v2/a/blobs/large`, { agent: false });
    const answer = await new Promise<http.IncomingMessage>((resolve, reject) => {
      request.once("response", resolve).once("error", reject);
    });
    await silences(relay.url, 2);
    let read = 0;
    answer.on("data", (piece: Buffer) => {
      read += piece.length;
    });
    await once(answer, "end");
    expect(read).toBe(length);
  });
});

describe("clients that stop in the middle keep nobody else from pushing", () => {
  const known = { "Content-Length": "100000" };
  const cut = { "Content-Length": "200000000" };
  const chunked = { "Transfer-Encoding": "chunked" };

  relayTest.for([
    ["that are passed on", known],
    ["whose length nobody knows", chunked],
    ["over the limit", cut],
  ] as const)("after the first byte of bodies %s", async ([, headers], { startRelay }) => {
    await using registry = await serve((incoming, outgoing) => {
      // Whoever has no login may be left without an answer.
      if (incoming.url?.startsWith("/v2/stalled") === true) return;
      incoming.resume().once("end", () => accept(outgoing));
    });
    const relay = await startRelay({}, registry.url);
    await using stalled = await stall(relay.url, headers, { count: 20, firstBytes: 1 });
    for (const length of [100_000, 400_000]) await expectPushes({ url: relay.url, name: "a" }, new Content(length));
    expect(stalled.open).toBe(20);
  });

  relayTest.for([
    ["whose length nobody knows", chunked, 17],
    ["over the limit", cut, 4],
  ] as const)("where they dribble on, with bodies %s", async ([, headers, count], { startRelay }) => {
    await using registry = await serve((incoming, outgoing) => {
      if (incoming.url?.startsWith("/v2/stalled") === true) outgoing.writeHead(401).end();
      else incoming.resume().once("end", () => accept(outgoing));
    });
    const relay = await startRelay({}, registry.url);
    await using dribbling = await stall(relay.url, headers, { count, firstBytes: 20_000, everyMs: 50 });
    expect(dribbling.open).toBe(count);
    await expectPushes({ url: relay.url, name: "a" }, new Content(400_000));
  });
});

describe("a body that stops at the end of a frame", () => {
  const frameBytes = 20_000;

  test.for([
    { length: frameBytes, least: 1, sent: 1 },
    { length: 3 * frameBytes, least: 1, sent: 1 },
    { length: frameBytes, least: 2, sent: 1 },
    { length: frameBytes, least: 3, sent: 1 },
    { length: 2 * frameBytes, least: 3, sent: 2 },
    // Not quite there: what it has not begun is free too.
    { length: frameBytes - 1, least: 3, sent: 1 },
  ])("of $length bytes, in chunks of $least frames, gives them all back", async ({ length, least, sent }) => {
    const { signal } = new AbortController();
    const window = new Window(frameBytes);
    const { promise, resolve } = Promise.withResolvers<IncomingMessage>();
    await using server = await serve((incoming) => resolve(incoming));
    const request = http.request(server.url, { method: "PATCH", headers: { "Content-Length": "1000000" } });
    request.on("error", () => {}).write(Buffer.alloc(length));
    const most = Math.max(least, FRAMES - 1);
    const times = { idleMs: 200, fillMs: null };
    const body = new HeldBody(await promise, window, {
      lengthBytes: 1_000_000,
      owner: "",
      least,
      most,
      ...times,
      signal,
    });
    try {
      for (let rest = length - sent * frameBytes; rest > 0; rest -= most * frameBytes) body.release(await body.next());
      const next = body.next();
      const held = Math.max(least, sent);
      await expect.poll(() => window.frames.has(FRAMES - held + 1), { timeout: 30_000 }).toBe(false);
      const all = window.frames.take(FRAMES, { owner: "another", isUrgent: () => true }, signal);
      const chunk = await next;
      expect(chunk.frames).toHaveLength(sent);
      body.release(chunk);
      await all;
    } finally {
      body.close();
      request.destroy();
    }
  });
});

describe("places", () => {
  const claimant = { owner: "192.0.2.1", isUrgent: () => true };

  test("one address waits for the others' turn, and not for all of theirs", async () => {
    const { signal } = new AbortController();
    const places = new Places(1);
    await places.take(1, claimant, signal);
    const served: string[] = [];
    const take = async (owner: string, isUrgent: boolean): Promise<void> => {
      await places.take(1, { owner, isUrgent: () => isUrgent }, signal);
      served.push(`${owner}${isUrgent ? "" : " reads ahead"}`);
      places.give(1);
    };
    const all = [
      ...["many", "many", "many"].map((owner) => take(owner, true)),
      ...["one", "one"].map((owner, at) => take(owner, at === 0)),
      take("another", true),
    ];
    places.give(1);
    await Promise.all(all);
    expect(served).toEqual(["many", "one", "another", "many", "many", "one reads ahead"]);
    expect(places.awaited).toBe(false);
  });

  test("whoever leaves just as it is served takes nobody else out of the line", async () => {
    const { signal } = new AbortController();
    const places = new Places(1);
    await places.take(1, claimant, signal);
    const leaving = new AbortController();
    const served = places.take(1, claimant, leaving.signal);
    const next = places.take(1, claimant, signal);
    places.give(1);
    leaving.abort();
    await served;
    places.give(1);
    await next;
    expect(places.awaited).toBe(false);
  });
});

/** Resolves after so many silences of the relay: of a registry that answers none of these requests. */
async function silences(url: string, count: number): Promise<void> {
  for (let at = 0; at < count; at++) {
    expect(await send("GET", `${url}/v2/a/manifests/mute`)).toMatchObject({ status: 502 });
  }
}

/** That a body gets through in each way that it may go. */
async function expectPushes({ url, name }: Place, content: Content): Promise<void> {
  for (const form of ["put", "patch"] as const) {
    expect(await push({ url, name }, content, form)).toMatchObject({ status: 202 });
  }
}

/** Clients who begin a body and never end it. */
async function stall(
  url: string,
  headers: Readonly<Record<string, string>>,
  { count, firstBytes, everyMs }: { readonly count: number; readonly firstBytes: number; readonly everyMs?: number },
) {
  const requests = await Promise.all(
    Array.from({ length: count }, async () => {
      const target = `${url}/v2/stalled/blobs/uploads/1`;
      const request = http.request(target, { method: "PATCH", headers, agent: false });
      request.on("response", (answer) => answer.resume()).on("error", () => {});
      await new Promise<void>((resolve) => {
        request.write(Buffer.alloc(firstBytes), () => resolve());
      });
      return request;
    }),
  );
  const dribble = setInterval(() => {
    for (const request of requests) if (everyMs !== undefined && request.writable) request.write(".");
  }, everyMs ?? 1000);
  // They are read by the time that a request is answered that came after them.
  await send("GET", `${url}/v2/`);
  return {
    /** Those that are not over. */
    get open(): number {
      return requests.filter(({ closed }) => !closed).length;
    },
    async [Symbol.asyncDispose]() {
      clearInterval(dribble);
      await Promise.all(
        requests.map(
          (request) =>
            new Promise<void>((resolve) => {
              if (request.closed) resolve();
              request.once("close", resolve).destroy();
            }),
        ),
      );
    },
  };
}
