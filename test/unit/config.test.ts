import { describe, expect, it } from "vitest";
import { configOf } from "../../src/config.ts";
import { environmentWith } from "../fixtures/registry.ts";

describe("the settings", () => {
  it("are read from the bindings", () => {
    const config = configOf(
      environmentWith({
        ACCESS_ADMINS: "Ann@example.com, bob@example.com",
        ACCESS_AUD: "f00d",
        ACCESS_TEAM_DOMAIN: "my-team.cloudflareaccess.com",
        ALLOW_SPARSE: "mirror/** ,team/*\n",
        ANONYMOUS_PULL: "public/*",
        AUDIT_PULLS: "paid/**",
        AUDIT_RETENTION_DAYS: "7",
        CACHE_BLOB_MAX_BYTES: "1000000",
        CACHE_MEMORY_BYTES: "0",
        CACHE_TTL: "5",
        GC_GRACE_SECONDS: "0",
        LOG_REQUESTS: "errors",
        MAX_BODY_BYTES: "100000000",
        R2_S3_URL: "https://account.r2.cloudflarestorage.com/bucket/",
        REDIRECT_MIN_BYTES: "1000",
        TAG_STALENESS_SECONDS: "30",
        UPLOAD_TTL_SECONDS: "60",
      }),
    );
    expect(config).toEqual({
      ACCESS_ADMINS: ["ann@example.com", "bob@example.com"],
      ACCESS_AUD: ["f00d"],
      ACCESS_TEAM_DOMAIN: "https://my-team.cloudflareaccess.com",
      ALLOW_SPARSE: ["mirror/**", "team/*"],
      ANONYMOUS_PULL: ["public/*"],
      AUDIT_PULLS: ["paid/**"],
      AUDIT_RETENTION_DAYS: 7,
      CACHE_BLOB_MAX_BYTES: 1_000_000,
      CACHE_MEMORY_BYTES: 0,
      CACHE_TTL: 5,
      GC_GRACE_SECONDS: 0,
      LOG_REQUESTS: "errors",
      MAX_BODY_BYTES: 100_000_000,
      R2_S3_URL: "https://account.r2.cloudflarestorage.com/bucket",
      REDIRECT_MIN_BYTES: 1000,
      TAG_STALENESS_SECONDS: 30,
      UPLOAD_TTL_SECONDS: 60,
    });
  });

  it("allow nothing sparse and nothing without login, trust no Cloudflare Access, and keep what nobody names for a day, as wrangler.toml has them", () => {
    expect(configOf(environmentWith({}))).toEqual({
      ACCESS_ADMINS: [],
      ACCESS_AUD: [],
      ACCESS_TEAM_DOMAIN: null,
      ALLOW_SPARSE: [],
      ANONYMOUS_PULL: [],
      AUDIT_PULLS: [],
      AUDIT_RETENTION_DAYS: 90,
      CACHE_BLOB_MAX_BYTES: 104_857_600,
      CACHE_MEMORY_BYTES: 33_554_432,
      CACHE_TTL: 60,
      GC_GRACE_SECONDS: 86_400,
      // As the tests have it; wrangler.toml says all.
      LOG_REQUESTS: "none",
      MAX_BODY_BYTES: 0,
      R2_S3_URL: null,
      REDIRECT_MIN_BYTES: 0,
      TAG_STALENESS_SECONDS: 0,
      UPLOAD_TTL_SECONDS: 86_400,
    });
  });

  it.each([
    ["ACCESS_AUD", { ACCESS_TEAM_DOMAIN: "my-team.cloudflareaccess.com" }],
    ["ACCESS_AUD", { ACCESS_TEAM_DOMAIN: "my-team.cloudflareaccess.com", ACCESS_ADMINS: "ann@example.com" }],
    ["ACCESS_TEAM_DOMAIN", { ACCESS_AUD: "f00d" }],
    ["ACCESS_TEAM_DOMAIN", { ACCESS_ADMINS: "ann@example.com" }],
  ])("of Cloudflare Access are all there or none: %s is missed in %j", (name, settings) => {
    expect(() => configOf(environmentWith(settings))).toThrow(new RegExp(`^setting ${name}\\b.* and ACCESS_`));
  });

  it("name where R2 speaks S3, if blobs are pulled from there", () => {
    expect(() => configOf(environmentWith({ REDIRECT_MIN_BYTES: "1" }))).toThrow(
      /^setting R2_S3_URL: .*REDIRECT_MIN_BYTES/,
    );
  });

  it.each([
    ["CACHE_BLOB_MAX_BYTES", "536870913"],
    ["CACHE_MEMORY_BYTES", "67108865"],
    ["CACHE_TTL", "a minute"],
    ["LOG_REQUESTS", "some"],
    ["MAX_BODY_BYTES", "100 MB"],
    ["R2_S3_URL", "account.r2.cloudflarestorage.com/bucket"],
    ["REDIRECT_MIN_BYTES", "-1"],
    ["TAG_STALENESS_SECONDS", "1.5"],
    ["ACCESS_ADMINS", "ann"],
    ["ACCESS_TEAM_DOMAIN", "my-team.cloudflareaccess.com.example.com"],
    ["ACCESS_TEAM_DOMAIN", "a.my-team.cloudflareaccess.com"],
    ["ACCESS_TEAM_DOMAIN", "http://my-team.cloudflareaccess.com"],
    ["ACCESS_TEAM_DOMAIN", "https://somebody@my-team.cloudflareaccess.com"],
    ["ACCESS_TEAM_DOMAIN", "http://127.0.0.1.example.com"],
    ["ACCESS_TEAM_DOMAIN", "http://10.0.0.1"],
    ["ACCESS_TEAM_DOMAIN", "https://example.com"],
    ["GC_GRACE_SECONDS", ""],
    ["GC_GRACE_SECONDS", "-1"],
    ["GC_GRACE_SECONDS", "1.5"],
    ["GC_GRACE_SECONDS", "1h"],
    ["GC_GRACE_SECONDS", "9999999999"],
    ["UPLOAD_TTL_SECONDS", "0"],
    ["UPLOAD_TTL_SECONDS", "never"],
    ["AUDIT_RETENTION_DAYS", "0"],
    ["AUDIT_RETENTION_DAYS", "ever"],
    ["ALLOW_SPARSE", "/mirror/**"],
    ["ALLOW_SPARSE", "mirror/"],
    ["ALLOW_SPARSE", "mirror//*"],
    ["ALLOW_SPARSE", "Team/*"],
    ["ALLOW_SPARSE", "team/[ab]"],
    ["ALLOW_SPARSE", "(a+)+"],
    ["ANONYMOUS_PULL", "public/"],
    ["AUDIT_PULLS", "/paid"],
  ])("that are wrong fail by their name: %s=%j", (name, value) => {
    expect(() => configOf(environmentWith({ [name]: value }))).toThrow(new RegExp(`^setting ${name}\\b`));
  });
});
