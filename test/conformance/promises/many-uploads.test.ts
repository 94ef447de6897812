import { connect, type Socket } from "node:net";
import { expect, inject, test } from "vitest";
import { digestOf, imageManifest, locationOf } from "../../support/client.ts";
import { imageIn, randomBytes } from "../content.ts";
import { freshRepository } from "../registry-under-test.ts";

const MIB = 1024 * 1024;
const LONG_MS = 180_000;

// Over a socket, where a request that waits for its turn is woken by another one's end.
test("end-5 PATCH: sixteen layers of more than a part at once all get their turn", { timeout: LONG_MS }, async () => {
  const repository = freshRepository();
  const common = randomBytes(9 * MIB);
  await Promise.all(
    Array.from({ length: 16 }, async (_, number) => {
      const bytes = common.slice();
      bytes[0] = number;
      const begun = await repository.startUpload();
      const appended = await repository.appendChunk(locationOf(begun), bytes);
      expect(appended.status).toBe(202);
      const digest = await digestOf(bytes);
      expect((await repository.finishUpload(locationOf(appended), digest)).status).toBe(201);
      expect((await repository.headBlob(digest)).headers.get("Content-Length")).toBe(String(bytes.length));
    }),
  );
});

test("end-7 PUT manifest: waits for nobody's layer", { timeout: LONG_MS }, async () => {
  const repository = freshRepository();
  const stalled = await Promise.all(
    Array.from({ length: 16 }, async () => stalledChunk(locationOf(await repository.startUpload()))),
  );
  const image = await imageIn(repository);
  expect((await repository.putManifest("latest", JSON.stringify(image), imageManifest)).status).toBe(201);
  for (const socket of stalled) socket.destroy();
});

/** A PATCH without a length that has sent more than a small body may hold, and then falls silent. */
async function stalledChunk(location: string): Promise<Socket> {
  const { hostname, port, pathname } = new URL(location, inject("registryUrl"));
  const socket = connect(Number(port), hostname);
  socket.write(`PATCH ${pathname} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n`);
  const sent = Promise.withResolvers<void>();
  socket.write(`${MIB.toString(16)}\r\n`);
  socket.write(randomBytes(MIB), () => sent.resolve());
  await sent.promise;
  return socket;
}
