import fc from "fast-check";
import { expect, test } from "vitest";
import { type Bytes, digestOf, locationOf, type RepositoryClient } from "../../support/client.ts";
import { bodyOf, randomBytes } from "../content.ts";
import { freshRepository } from "../registry-under-test.ts";

/** However a body is cut, repeated, or sent wrong in between, it always ends in the same digest. */

const MIB = 1024 * 1024;
const LONG_MS = 300_000;

type Step =
  | { readonly kind: "append"; readonly bytes: number; readonly ranged: boolean }
  | { readonly kind: "repeat"; readonly back: number }
  | { readonly kind: "gap"; readonly skip: number }
  | { readonly kind: "status" };

function steps(largest: number): fc.Arbitrary<readonly Step[]> {
  const append = fc.record({
    kind: fc.constant("append" as const),
    bytes: fc.integer({ min: 1, max: largest }),
    ranged: fc.boolean(),
  });
  return fc.array(
    fc.oneof(
      { weight: 5, arbitrary: append },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("repeat" as const), back: fc.integer({ min: 1, max: 1000 }) }),
      },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("gap" as const), skip: fc.integer({ min: 1, max: 1000 }) }),
      },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant("status" as const) }) },
    ),
    { minLength: 1, maxLength: 9 },
  );
}

async function take(
  repository: RepositoryClient,
  location: string,
  bytes: Bytes,
  offset: number,
  step: Step,
): Promise<{ location: string; offset: number }> {
  switch (step.kind) {
    case "append": {
      const chunk = bytes.slice(offset, offset + step.bytes);
      if (chunk.length === 0) return { location, offset };
      const response = await repository.appendChunk(location, chunk, step.ranged ? offset : undefined);
      expect(response.status).toBe(202);
      expect(response.headers.get("Range")).toBe(`0-${offset + chunk.length - 1}`);
      return { location: locationOf(response), offset: offset + chunk.length };
    }
    case "repeat":
    case "gap": {
      const start = step.kind === "gap" ? offset + step.skip : Math.max(0, offset - step.back);
      if (start === offset) return { location, offset };
      const response = await repository.appendChunk(location, randomBytes(100), start);
      expect(response.status).toBe(416);
      expect(response.headers.get("Range")).toBe(`0-${Math.max(0, offset - 1)}`);
      return { location: locationOf(response), offset };
    }
    case "status":
    default: {
      const response = await repository.uploadStatus(location);
      expect(response.status).toBe(204);
      expect(response.headers.get("Range")).toBe(`0-${Math.max(0, offset - 1)}`);
      return { location: locationOf(response), offset };
    }
  }
}

test.each([
  ["small chunks", 5000, 40],
  ["chunks around the size of a part", 9 * MIB, 6],
])("end-5 PATCH, end-6 PUT: %s, in any split", { timeout: LONG_MS }, async (_name, largest, runs) => {
  await fc.assert(
    fc.asyncProperty(
      steps(largest),
      fc.integer({ min: 0, max: largest * 3 }),
      fc.constantFrom("sha256" as const, "sha512" as const),
      fc.constantFrom(undefined, "sha256", "sha512"),
      fc.constantFrom("empty", "ranged", "unranged"),
      async (plan, length, algorithm, announced, closing) => {
        const repository = freshRepository();
        const bytes = randomBytes(length);
        const digest = await digestOf(bytes, algorithm);
        const started = await repository.startUpload(announced === undefined ? {} : { "digest-algorithm": announced });
        let at = { location: locationOf(started), offset: 0 };
        for (const step of plan) at = await take(repository, at.location, bytes, at.offset, step);
        if (closing === "empty" && at.offset < length) {
          at = await take(repository, at.location, bytes, at.offset, { kind: "append", bytes: length, ranged: true });
        }
        const rest = bytes.slice(at.offset);
        const chunk = rest.length === 0 ? undefined : rest;
        const finished = await repository.finishUpload(
          at.location,
          digest,
          chunk,
          closing === "ranged" ? at.offset : undefined,
        );
        expect(finished.status, await finished.text()).toBe(201);
        expect(await digestOf(await bodyOf(await repository.getBlob(digest)), algorithm)).toBe(digest);
      },
    ),
    { numRuns: runs },
  );
});
