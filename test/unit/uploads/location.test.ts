import { fc, test } from "@fast-check/vitest";
import { describe, expect, it } from "vitest";
import { parseRepositoryName } from "../../../src/oci/repository.ts";
import { formatUploadReference, newUploadLocation, parseUploadReference } from "../../../src/uploads/location.ts";
import { refusalOf } from "../../fixtures/oci-errors.ts";

const nowMs = Date.UTC(2026, 0, 1);
const context = { key: "secret", principal: { name: "somebody", tokenId: null }, ttlSeconds: 100 };
const repository = parseRepositoryName("team/app");

const location = fc
  .record({ algorithm: fc.constantFrom(null, "sha256" as const, "sha512" as const), opened: fc.boolean() })
  .map(({ algorithm, opened }) => ({ ...newUploadLocation(repository, algorithm, context.ttlSeconds, nowMs), opened }));

describe("an upload location", () => {
  test.prop([location])("is read back as it was handed out", (handedOut) => {
    expect(parseUploadReference(formatUploadReference(handedOut, context), repository, context, nowMs)).toEqual(
      handedOut,
    );
  });

  test.prop([location, fc.nat(), fc.constantFrom(..."0aZ-_n5o".split(""))])(
    "is refused with any character changed",
    (handedOut, at, other) => {
      const reference = formatUploadReference(handedOut, context);
      const place = at % reference.length;
      const tampered = `${reference.slice(0, place)}${other}${reference.slice(place + 1)}`;
      fc.pre(tampered !== reference);
      refusalOf(() => parseUploadReference(tampered, repository, context, nowMs), "BLOB_UPLOAD_UNKNOWN");
    },
  );

  const reference = formatUploadReference(newUploadLocation(repository, "sha512", context.ttlSeconds, nowMs), context);

  it.each([
    ["in another repository", parseRepositoryName("team/other"), context],
    ["by another principal", repository, { ...context, principal: { name: "nobody", tokenId: null } }],
    ["under another key", repository, { ...context, key: "guess" }],
  ])("is refused %s", (_case, where, other) => {
    refusalOf(() => parseUploadReference(reference, where, other, nowMs), "BLOB_UPLOAD_UNKNOWN");
  });

  it("lives for its time, counted from its POST, and no longer", () => {
    const lastMs = nowMs + context.ttlSeconds * 1000 - 1;
    expect(parseUploadReference(reference, repository, context, lastMs).expiresAtMs).toBe(lastMs + 1);
    refusalOf(() => parseUploadReference(reference, repository, context, lastMs + 1), "BLOB_UPLOAD_UNKNOWN");
  });

  it.each(["", "x", "0".repeat(9), "../../etc", `${reference}x`, reference.toUpperCase(), encodeURIComponent("é")])(
    "is not %j",
    (value) => {
      refusalOf(() => parseUploadReference(value, repository, context, nowMs), "BLOB_UPLOAD_UNKNOWN");
    },
  );

  it("fits into any URL as it is", () => {
    expect(encodeURIComponent(reference)).toBe(reference);
  });
});
