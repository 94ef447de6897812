import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { app } from "../../src/app.ts";
import { errorCodes } from "../../src/oci/errors.ts";
import { createToken, createUser, read, refused, send } from "../fixtures/management.ts";
import { bearerFor, freshAddress } from "../fixtures/principals.ts";
import { registryWith } from "../fixtures/registry.ts";
import { basic } from "../support/credentials.ts";

/**
 * The form of a document, after the OpenAPI Specification 3.1.1, section 4.8; what is not written here is not allowed, so
 * that nothing of another version slips in. A schema is one of JSON Schema 2020-12.
 */

const types = z.enum(["string", "integer", "number", "boolean", "object", "array", "null"]);

interface JsonSchema {
  readonly [keyword: string]: unknown;
}

const schema: z.ZodType<JsonSchema> = z.lazy(() =>
  z.union([
    z.strictObject({ $ref: z.string() }),
    z.strictObject({
      type: z.union([types, z.array(types).min(1)]).optional(),
      properties: z.record(z.string(), schema).optional(),
      required: z.array(z.string()).optional(),
      additionalProperties: z.union([z.boolean(), schema]).optional(),
      propertyNames: schema.optional(),
      items: schema.optional(),
      anyOf: z.array(schema).min(1).optional(),
      enum: z.array(z.json()).min(1).optional(),
      minItems: z.int().optional(),
      maxItems: z.int().optional(),
      minLength: z.int().optional(),
      maxLength: z.int().optional(),
      minProperties: z.int().optional(),
      minimum: z.number().optional(),
      maximum: z.number().optional(),
      pattern: z.string().refine(isPattern).optional(),
      format: z.string().optional(),
      default: z.json().optional(),
      description: z.string().optional(),
      examples: z.array(z.json()).optional(),
    }),
  ]),
);

const content = z.strictObject({ "application/json": z.strictObject({ schema }) });

const operation = z.strictObject({
  summary: z.string().min(1),
  tags: z.array(z.string()).min(1),
  security: z.array(z.record(z.string(), z.array(z.string()))),
  parameters: z
    .array(
      z.strictObject({
        name: z.string(),
        in: z.enum(["path", "query"]),
        required: z.boolean(),
        schema,
        description: z.string().optional(),
        example: z.json().optional(),
      }),
    )
    .optional(),
  requestBody: z.strictObject({ required: z.literal(true), content }).optional(),
  responses: z.record(
    z.string().regex(/^[2345]\d\d$/),
    z.strictObject({ description: z.string().min(1), content: content.optional() }),
  ),
});

const methods = ["get", "post", "put", "patch", "delete"] as const;

const documentSchema = z.strictObject({
  openapi: z.string().regex(/^3\.1\.\d+$/),
  info: z.strictObject({
    title: z.string(),
    version: z.string(),
    description: z.string().optional(),
    license: z.strictObject({ name: z.string(), url: z.url() }).optional(),
  }),
  servers: z.array(z.strictObject({ url: z.string() })),
  paths: z.record(z.string().startsWith("/"), z.partialRecord(z.enum(methods), operation)),
  components: z.strictObject({
    schemas: z.record(z.string().regex(/^[\w.-]+$/), schema),
    securitySchemes: z.record(z.string(), z.strictObject({ type: z.literal("http"), scheme: z.string() })),
    parameters: z.strictObject({}),
  }),
  webhooks: z.strictObject({}).optional(),
});

type OpenApi = z.infer<typeof documentSchema>;
type Operation = z.infer<typeof operation>;

/** ECMA 262 with `u`, JSON Schema 2020-12 section 6.4. */
function isPattern(pattern: string): boolean {
  try {
    return new RegExp(pattern, "u") instanceof RegExp;
  } catch {
    return false;
  }
}

let openApi: OpenApi;
beforeAll(async () => {
  openApi = await read(await send("GET", "openapi.json", undefined, null), 200, documentSchema);
});

function operations(): readonly { readonly name: string; readonly path: string; readonly operation: Operation }[] {
  return Object.entries(openApi.paths).flatMap(([path, item]) =>
    methods.flatMap((method) => {
      const found = item[method];
      return found === undefined ? [] : [{ name: `${method.toUpperCase()} ${path}`, path, operation: found }];
    }),
  );
}

/** Every `$ref` in it. */
function refsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "$ref" && typeof inner === "string" ? [inner] : refsIn(inner),
  );
}

describe("GET /api/v1/openapi.json", () => {
  it("is open to everybody, and of the form of OpenAPI 3.1", () => {
    expect(openApi.openapi).toBe("3.1.1");
  });

  it("has each route of /api/v1 that the application has, and no other", () => {
    const routes = app.routes
      .filter(({ method, path }) => method !== "ALL" && path.startsWith("/api/"))
      .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`);
    expect(
      operations()
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual([...new Set(routes)].toSorted());
  });

  it("leads nowhere that is not in it", () => {
    const known = Object.keys(openApi.components.schemas).map((name) => `#/components/schemas/${name}`);
    const refs = new Set(refsIn(openApi));
    expect([...refs].filter((ref) => !known.includes(ref))).toEqual([]);
    expect(known.filter((ref) => !refs.has(ref))).toEqual([]);
  });

  it("has a parameter for each part of a path that is one, and requires it", () => {
    for (const {
      name,
      path,
      operation: { parameters = [] },
    } of operations()) {
      const inPath = parameters.filter((parameter) => parameter.in === "path");
      expect({ name, parts: inPath.map((parameter) => parameter.name).toSorted() }).toEqual({
        name,
        parts: [...path.matchAll(/\{(\w+)\}/g)].map(([, part = ""]) => part).toSorted(),
      });
      expect(inPath.every(({ required }) => required)).toBe(true);
      expect(new Set(parameters.map((parameter) => `${parameter.in} ${parameter.name}`)).size).toBe(parameters.length);
    }
  });

  it("requires only properties that there are, and lets no body have others", () => {
    for (const [name, { properties = {}, required = [] }] of Object.entries(openApi.components.schemas)) {
      const there = Object.keys(z.record(z.string(), z.unknown()).parse(properties));
      expect({
        name,
        missing: z
          .array(z.string())
          .parse(required)
          .filter((each) => !there.includes(each)),
      }).toEqual({
        name,
        missing: [],
      });
    }
    for (const {
      name,
      operation: { requestBody },
    } of operations()) {
      if (requestBody === undefined) continue;
      const { $ref = "" } = requestBody.content["application/json"].schema;
      const resolved = openApi.components.schemas[String($ref).replace("#/components/schemas/", "")];
      expect({ name, additional: resolved?.["additionalProperties"] }).toEqual({ name, additional: false });
    }
  });

  it("says of each route what it needs, and how it may be refused", () => {
    const schemes = Object.keys(openApi.components.securitySchemes);
    for (const {
      name,
      operation: { security, responses, requestBody },
    } of operations()) {
      expect(security.flatMap((each) => Object.keys(each)).filter((each) => !schemes.includes(each))).toEqual([]);
      const statuses = Object.keys(responses);
      const expected = [
        ...(security.length === 0 ? [] : ["401", "403", "429"]),
        ...(requestBody === undefined ? [] : ["400", "413", "415"]),
      ];
      expect({ name, missing: expected.filter((status) => !statuses.includes(status)) }).toEqual({ name, missing: [] });
    }
  });

  it("says of each route with a body the bounds that are held", () => {
    expect(openApi.components.schemas["NewUser"]).toMatchObject({
      type: "object",
      additionalProperties: false,
      required: ["name", "grants"],
      properties: { name: { maxLength: 64 }, grants: { maxItems: 100 }, password: { minLength: 12 } },
    });
    expect(openApi.components.schemas["NewAccessToken"]).toMatchObject({
      properties: { expiresInDays: { type: "integer", minimum: 1, maximum: 3650 } },
    });
  });

  it("tells nothing that is kept secret: no answer but that of a new token has one", () => {
    const told = JSON.stringify({ ...openApi.components.schemas, NewUser: null, UserChange: null });
    expect(told).not.toContain('"hash"');
    expect(told).not.toContain('"password"');
    expect(told.match(/"token"/g)).toHaveLength(2);
  });

  it("answers HEAD as GET, and nothing but the two", async () => {
    const head = await send("HEAD", "openapi.json", undefined, null);
    expect([head.status, await head.text()]).toEqual([200, ""]);
    const response = await send("POST", "openapi.json", {}, null);
    expect(response.headers.get("Allow")).toBe("GET, HEAD");
    await refused(response, 405, "UNSUPPORTED");
  });
});

const identity = z.strictObject({
  principal: z.string(),
  tokenId: z.string().nullable(),
  admin: z.boolean(),
  grants: z.array(z.array(z.string())).nullable(),
  scopes: z.array(z.string()).nullable(),
});

const whoami = async (authorization: string | null): Promise<Response> =>
  send("GET", "whoami", undefined, authorization);

describe("GET /api/v1/whoami", () => {
  it("tells the administrator", async () => {
    expect(await read(await send("GET", "whoami"), 200, identity)).toEqual({
      principal: "admin",
      tokenId: null,
      admin: true,
      grants: [],
      scopes: null,
    });
  });

  it("tells a user, its token and both lists of grants", async () => {
    const { name } = await createUser({ grants: ["a/*:pull,push", "b:pull"] });
    const { id, token } = await createToken(name, { grants: ["b:pull"] });
    for (const authorization of [basic(name, token), `Bearer ${token}`]) {
      expect(await read(await whoami(authorization), 200, identity)).toEqual({
        principal: `user:${name}`,
        tokenId: id,
        admin: false,
        grants: [["a/*:pull,push", "b:pull"], ["b:pull"]],
        scopes: null,
      });
    }
  });

  it("tells a bearer what it was given, which may be less than was asked", async () => {
    const { name } = await createUser({ grants: ["a:pull"] });
    const { id, authorization } = await createToken(name);
    const scopes = ["repository:a:pull,push", "registry:catalog:*"];
    const bearer = await bearerFor(registryWith(env, freshAddress()), authorization, ...scopes);
    expect(await read(await whoami(bearer), 200, identity)).toEqual({
      principal: `user:${name}`,
      tokenId: id,
      admin: false,
      grants: null,
      scopes: ["repository:a:pull", "registry:catalog:*"],
    });
  });

  it("does not know nobody, and sends it to /token", async () => {
    for (const authorization of [null, "Bearer QQ==", basic("", "")]) {
      const response = await whoami(authorization);
      expect(response.headers.get("WWW-Authenticate")).toContain("/token");
      await refused(response, 401, "UNAUTHORIZED");
    }
    await refused(await whoami(basic("admin", "a guess")), 401, "UNAUTHORIZED");
  });
});

describe("the management API", () => {
  it("is kept by no cache, whatever it answers", async () => {
    for (const [path, authorization] of [
      ["users", undefined],
      ["users/none", undefined],
      ["users", null],
      ["nothing", null],
      ["openapi.json", null],
    ] as const) {
      const response = await send("GET", path, undefined, authorization);
      expect({ path, cache: response.headers.get("Cache-Control") }).toEqual({ path, cache: "no-store" });
    }
  });

  it("says of an unknown path where the known ones are", async () => {
    expect(await refused(await send("GET", "nothing"), 404, "UNSUPPORTED")).toContain("openapi.json");
  });

  it("says of a wrong method which there are", async () => {
    const response = await send("PUT", "users/x", {});
    expect(response.headers.get("Allow")?.split(", ").toSorted()).toEqual(["DELETE", "GET", "HEAD", "PATCH"]);
    await refused(response, 405, "UNSUPPORTED");
  });

  it("leaves the spec's codes to the spec", () => {
    expect(errorCodes.filter((code) => ["INVALID_REQUEST", "NOT_FOUND", "CONFLICT"].includes(code))).toEqual([]);
  });
});
