import { fc, test } from "@fast-check/vitest";
import { Hono } from "hono";
import { describe, expect, it } from "vitest";
import { type PageQuery, nextLink, pageQuery } from "../../../src/http/page.ts";
import { OciError } from "../../../src/oci/errors.ts";

const MOST = 500;

/** What a handler reads from a request with this query. */
async function queryOf(query: string): Promise<PageQuery | OciError> {
  const app = new Hono();
  let read: PageQuery | OciError | undefined;
  app.get("/list", (c) => {
    read = pageQuery(c, MOST);
    return c.body(null);
  });
  app.onError((error, c) => {
    if (error instanceof OciError) read = error;
    return c.body(null);
  });
  await app.request(`/list${query}`);
  if (read === undefined) throw new Error("no handler ran");
  return read;
}

describe("n and last of a list", () => {
  it.each([
    ["", { limit: MOST, last: "" }],
    ["?n=0", { limit: 0, last: "" }],
    ["?n=7&last=v1.0", { limit: 7, last: "v1.0" }],
    ["?n=999999999999999", { limit: MOST, last: "" }],
    ["?last=a%2Bb", { limit: MOST, last: "a+b" }],
  ])("%j", async (query, expected) => {
    expect(await queryOf(query)).toEqual(expected);
  });

  it.each(["?n=", "?n=-1", "?n=1.5", "?n=ten", "?n=1e3", "?n=%201", "?n=9999999999999999"])(
    "%j is refused: n is no whole number",
    async (query) => {
      expect(await queryOf(query)).toMatchObject({ code: "UNSUPPORTED", status: 400 });
    },
  );
});

describe("a Link to the next page", () => {
  it("has the form that oras-go and ggcr read", () => {
    expect(nextLink("/v2/a/tags/list", { last: "v1", n: "2" })).toEqual({
      Link: '</v2/a/tags/list?last=v1&n=2>; rel="next"',
    });
  });

  test.prop([fc.string({ unit: "grapheme", minLength: 1 }), fc.nat({ max: MOST })])(
    "leads to the page after any name",
    async (last, limit) => {
      const target = /^<\/list(\?[^<>"\s]*)>; rel="next"$/.exec(
        nextLink("/list", { last, n: String(limit) })["Link"] ?? "",
      )?.[1];
      expect(await queryOf(target ?? "")).toEqual({ limit, last });
    },
  );
});
