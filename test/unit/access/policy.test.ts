import { describe, expect, it } from "vitest";
import { decide } from "../../../src/access/policy.ts";
import { parseRepositoryName } from "../../../src/oci/repository.ts";

const rights = ["pull", "push", "delete"] as const;

describe("today's policy", () => {
  it.each(["localhost", "127.0.0.1", "[::1]"])("lets %s do everything", (hostname) => {
    for (const right of rights) {
      expect(decide({ hostname, right, repository: parseRepositoryName("a/b") })).toBe(true);
      expect(decide({ hostname, right, repository: null })).toBe(true);
    }
  });

  it.each(["registry.example.com", "localhost.example.com", "127.0.0.2", "0.0.0.0", "", "[::2]"])(
    "lets %j do nothing",
    (hostname) => {
      for (const right of rights)
        expect(decide({ hostname, right, repository: parseRepositoryName("a/b") })).toBe(false);
    },
  );
});
