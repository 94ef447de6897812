import { env, exports } from "cloudflare:workers";
import { expect, it, onTestFinished, vi } from "vitest";
import { EDGE_MEMORY_ITEM_MAX_BYTES, EDGE_READING_BYTES, LOGINS_AT_ONCE_MAX } from "../../src/limits.ts";
import { bodyOf, randomBytes } from "../fixtures/content.ts";
import { freshAddress, makeRobot } from "../fixtures/principals.ts";
import { freshRepository, registry } from "../fixtures/registry.ts";
import { asAdmin } from "../support/credentials.ts";

/** A client that goes away while D1 or R2 is asked for it takes nothing with it that others need. */

type Headers = Readonly<Record<string, string>>;
type Around = (run: () => Promise<unknown>) => Promise<unknown>;

/** Of all bindings of the kind, until the test has ended. @param around runs what a call of the method would do */
function intercept(binding: object, method: string, around: Around): void {
  const prototype: unknown = Object.getPrototypeOf(binding);
  if (typeof prototype !== "object" || prototype === null) throw new TypeError("the binding has no methods");
  const original: unknown = Reflect.get(prototype, method);
  if (typeof original !== "function") throw new TypeError(`the binding has no ${method}`);
  Reflect.set(prototype, method, async function (this: unknown, ...values: unknown[]): Promise<unknown> {
    return around(async () => {
      const result: unknown = await Reflect.apply(original, this, values);
      return result;
    });
  });
  onTestFinished(() => void Reflect.set(prototype, method, original));
}

/** Where requests wait until their client is gone. */
class Gate {
  waiting = 0;
  #isOpen = false;

  /** By timers of each request's own: none can wait for another one's promise. */
  async wait(): Promise<void> {
    if (this.#isOpen) return;
    this.waiting++;
    do await scheduler.wait(5);
    while (!this.#isOpen);
  }

  open(): void {
    this.#isOpen = true;
  }
}

/** Sends them, and goes away when all of them wait. */
async function sendAndGo(
  gate: Gate,
  requests: readonly { readonly method: string; readonly path: string; readonly headers: Headers }[],
): Promise<void> {
  const client = new AbortController();
  const sent = requests.map(async ({ method, path, headers }) =>
    exports.default.fetch(registry.resolve(path), { method, headers, signal: client.signal }),
  );
  const ended = Promise.allSettled(sent);
  await vi.waitFor(() => {
    expect(gate.waiting).toBe(requests.length);
  });
  client.abort();
  await ended;
  gate.open();
}

async function get(path: string, headers: Headers): Promise<number> {
  const response = await exports.default.fetch(registry.resolve(path), { headers });
  await bodyOf(response);
  return response.status;
}

it("leaves room for the reads of others into memory", async () => {
  const repository = freshRepository();
  const { token } = await makeRobot([`${repository.name}:pull`]);
  const headers = { Authorization: token.authorization, ...freshAddress() };
  const push = async (bytes: number): Promise<string> => {
    const { digest } = await repository.pushBlob(randomBytes(bytes));
    return `/v2/${repository.name}/blobs/${digest}`;
  };
  const paths: string[] = [];
  for (let bytes = 0; bytes < EDGE_READING_BYTES; bytes += EDGE_MEMORY_ITEM_MAX_BYTES) {
    paths.push(await push(EDGE_MEMORY_ITEM_MAX_BYTES));
  }
  const small = await push(1000);
  const gate = new Gate();
  let reads = 0;
  intercept(env.BLOBS, "get", async (run) => {
    reads++;
    await gate.wait();
    return run();
  });
  await sendAndGo(
    gate,
    paths.map((path) => ({ method: "GET", path, headers })),
  );
  await vi.waitFor(async () => {
    reads = 0;
    expect(await get(small, headers)).toBe(200);
    expect(reads).toBe(0);
  });
});

it("has deleted what it deleted: this isolate says so at once", async () => {
  const repository = freshRepository();
  const { token } = await makeRobot([`${repository.name}:pull`]);
  const headers = { Authorization: token.authorization, ...freshAddress() };
  const { digest } = await repository.pushBlob(randomBytes(1000));
  const path = `/v2/${repository.name}/blobs/${digest}`;
  expect(await get(path, headers)).toBe(200);
  const gate = new Gate();
  intercept(env.DB, "batch", async (run) => {
    const results = await run();
    await gate.wait();
    return results;
  });
  await sendAndGo(gate, [{ method: "DELETE", path, headers: { Authorization: asAdmin } }]);
  await vi.waitFor(async () => {
    expect(await get(path, headers)).toBe(404);
  });
});

it("leaves others of its address their logins", async () => {
  const address = freshAddress();
  const login = async (): Promise<Headers> => {
    const { token } = await makeRobot(["a/**:pull"]);
    return { Authorization: token.authorization, ...address };
  };
  const path = "/token?service=localhost";
  const logins: Headers[] = [];
  while (logins.length < LOGINS_AT_ONCE_MAX) logins.push(await login());
  const gate = new Gate();
  intercept(env.DB, "batch", async (run) => {
    await gate.wait();
    return run();
  });
  await sendAndGo(
    gate,
    logins.map((headers) => ({ method: "GET", path, headers })),
  );
  const other = await login();
  await vi.waitFor(async () => {
    expect(await get(path, other)).toBe(200);
  });
});
