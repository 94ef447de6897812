import { createHash } from "node:crypto";
import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { ResumableHash } from "../../../src/integrity/sha2.ts";
import { digestAlgorithms } from "../../../src/oci/digest.ts";

describe.each(digestAlgorithms)("%s", (algorithm) => {
  const platforms = (bytes: Uint8Array): string => createHash(algorithm).update(bytes).digest("hex");

  it("is the platform's, of every length around a block", () => {
    for (let length = 0; length <= 300; length++) {
      const bytes = new Uint8Array(length).map((_, at) => (at * 31 + length) % 256);
      const hash = new ResumableHash(algorithm);
      hash.update(bytes);
      expect(hash.hex()).toBe(platforms(bytes));
    }
  });

  test.prop([fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 8 })])(
    "comes to the same in whatever pieces, saved and loaded between them",
    (pieces) => {
      let hash = new ResumableHash(algorithm);
      for (const piece of pieces) {
        hash.update(piece);
        // The digest so far may be asked for at any time.
        hash.hex();
        const loaded = ResumableHash.load(algorithm, hash.save());
        expect(loaded?.lengthBytes).toBe(hash.lengthBytes);
        if (loaded !== null) hash = loaded;
      }
      expect(hash.hex()).toBe(platforms(new Uint8Array(pieces.flatMap((piece) => [...piece]))));
    },
  );

  it("is not loaded from what was not saved", () => {
    const hash = new ResumableHash(algorithm);
    hash.update(new Uint8Array(70));
    const saved = hash.save();
    for (const text of ["", "!", saved.slice(4), `${saved}AAAA`, "A".repeat(400)]) {
      expect(ResumableHash.load(algorithm, text)).toBeNull();
    }
  });
});
