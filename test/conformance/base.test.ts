import { expect, test } from "vitest";
import { registryUnderTest } from "./registry-under-test.ts";

test("end-1 GET /v2/: says that the registry implements the specification", async () => {
  const response = await registryUnderTest().ping();
  expect(response.status).toBe(200);
});
