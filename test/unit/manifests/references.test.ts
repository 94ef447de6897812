import { describe, expect, it } from "vitest";
import { z } from "zod";
import { encodeReferences } from "../../../src/manifests/references.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import type { ManifestReference } from "../../../src/oci/manifest.ts";

const D1_VALUE_MAX_BYTES = 2_000_000;

const entries = z.array(z.tuple([z.string(), z.number(), z.number(), z.number()]));

function manyReferences(number: number, algorithm: "sha256" | "sha512"): ManifestReference[] {
  return Array.from({ length: number }, (_, at) => ({
    digest: parseDigest(`${algorithm}:${at.toString(16).padStart(algorithm === "sha256" ? 64 : 128, "0")}`),
    size: at,
    kind: at % 2 === 0 ? "blob" : "child",
    required: at % 3 !== 0,
  }));
}

describe("a manifest's references as lists for D1", () => {
  it.each([0, 1, 60, 40_000])("are all there, in order, in values that D1 takes (%i references)", (number) => {
    for (const algorithm of ["sha256", "sha512"] as const) {
      const references = manyReferences(number, algorithm);
      const lists = encodeReferences(references, false);
      for (const list of lists) expect(list.length).toBeLessThanOrEqual(D1_VALUE_MAX_BYTES / 2);
      expect(lists.flatMap((list) => entries.parse(JSON.parse(list)))).toEqual(
        references.map(({ digest, size, kind, required }) => [
          digest,
          size,
          kind === "child" ? 1 : 0,
          required ? 1 : 0,
        ]),
      );
    }
  });

  it("are one value where they are few, and none where there are none", () => {
    expect(encodeReferences(manyReferences(60, "sha512"), false)).toHaveLength(1);
    expect(encodeReferences([], false)).toEqual([]);
  });

  it("are none of them required where the repository takes sparse manifests", () => {
    const [list = "[]"] = encodeReferences(manyReferences(5, "sha256"), true);
    expect(entries.parse(JSON.parse(list)).map(([, , , required]) => required)).toEqual([0, 0, 0, 0, 0]);
  });
});
