import { fc, test } from "@fast-check/vitest";
import { expect, it } from "vitest";
import { warningHeader } from "../../../src/http/warning.ts";

it("a Warning is 299, no agent, and a quoted sentence", () => {
  expect(warningHeader("accepted, but unwise")).toBe('299 - "accepted, but unwise"');
});

test.prop([fc.string({ unit: "binary" })])(
  "a Warning of any text is a header, and its quotation ends at its end",
  (text) => {
    const header = warningHeader(text);
    expect(header).toMatch(/^299 - "(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"$/);
    expect(new Headers({ Warning: header }).get("Warning")).toBe(header);
  },
);
