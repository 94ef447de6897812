import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { projectRoot } from "../support/registry.ts";

/** The line of all that no other line names: what joins several nouns, and a noun's own pieces. */
const verbs = /(?!)/;

/**
 * Imports go downward: index, app, routes, verb, store, oci. Each line is a layer, given by a pattern of paths under src;
 * a file imports from the lines below its own, and within its line from its own folder alone.
 */
const layers: readonly RegExp[] = [
  /^index$/,
  /^registry$/,
  /^app$|^warm-pull$/,
  /^[\w-]+\/routes$|^lifecycle\/schedule$/,
  verbs,
  /^access\/(?!(policy|scope|grants|trust-rule|public-issuers|store)$)|^edge\//,
  /^[\w-]+\/store$|^blobs\/(keys|garbage)$|^uploads\/upload-id$|^events\//,
  /^env$|^config$|^databases$/,
  /^users\/user$|^access-tokens\/token$|^trust-rules\/rule$|^audit\/record$|^integrity\/finding$|^manifests\/quarantined$/,
  /^access\/(policy|scope|grants|trust-rule|public-issuers)$/,
  /^http\/|^trace\//,
  /^oci\//,
  /^limits$|^sql$|^requester$|^environment$|^read-plan$/,
];

/** What a folder may know beside itself; `oci` and the files of src itself stand open to all above them. */
const known: Readonly<Record<string, readonly string[]>> = {
  oci: [],
  http: [],
  trace: [],
  edge: ["http", "trace"],
  health: ["http", "access", "trace"],
  metrics: ["http", "access", "edge", "trace"],
  audit: ["access", "api", "trace"],
  access: ["http", "audit", "trace"],
  token: ["http", "access", "audit"],
  api: ["http", "access"],
  users: ["access", "access-tokens", "api", "audit"],
  "access-tokens": ["access", "users", "api", "audit"],
  "trust-rules": ["access", "api", "audit"],
  events: [],
  blobs: ["http", "access", "events", "audit", "edge", "trace"],
  uploads: ["http", "access", "blobs", "audit"],
  tags: ["http", "access", "events"],
  referrers: ["http", "access"],
  repositories: ["http", "access"],
  manifests: ["http", "access", "blobs", "tags", "referrers", "repositories", "events", "audit", "edge", "trace"],
  integrity: ["access", "api", "audit", "blobs", "edge", "manifests"],
  lifecycle: ["blobs", "uploads", "events", "audit", "integrity", "metrics", "trace"],
};

/** Who may import a package; `hono` stands for `hono/factory` too. */
const packages: Readonly<Record<string, RegExp>> = {
  hono: /^app$|\/routes$|^access\/|^http\/|^edge\/|^trace\/|^api\//,
  "@hono": /\/routes$|^api\//,
  zod: /./,
  "node:async_hooks": /^trace\//,
  "node:crypto": /./,
  "node:buffer": /./,
  aws4fetch: /^blobs\//,
  jose: /^access\//,
  "cloudflare:workers": /^uploads\//,
};

const root = path.join(projectRoot, "src");
const modules = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts") && !file.endsWith(".d.ts"))
  .map((file) => file.slice(0, -".ts".length));

describe("imports in src", () => {
  it.each(modules)("%s is on no two lines of the table", (module) => {
    expect(layers.filter((layer) => layer.test(module)).length).toBeLessThanOrEqual(1);
  });

  it.each(modules)("%s imports only from below", (module) => {
    expect(importsOf(module).filter((imported) => !isAllowed(module, imported))).toEqual([]);
  });
});

describe("the database of a repository", () => {
  const ofRepositories = modules.filter((module) => /^(blobs|manifests|referrers|tags|uploads)\//.test(module));

  // What a Durable Object lets go of is told the database that it is bound to; it has no repository any more.
  it.each(ofRepositories.filter((module) => module !== "uploads/session"))(
    "%s leaves the choice to databases.ts",
    (module) => {
      expect(readFileSync(path.join(root, `${module}.ts`), "utf8")).not.toMatch(/\benv\.DB\b/);
    },
  );
});

/** What a module imports: paths under src without their ending, and packages as they are written. */
function importsOf(module: string): string[] {
  const source = readFileSync(path.join(root, `${module}.ts`), "utf8");
  const written = [...source.matchAll(/^(?:import|export)(?: type)? (?:[\w\s,{}*]+ from )?"([^"]+)";/gm)].map(
    (match) => match[1] ?? "",
  );
  return written.map((name) =>
    name.startsWith(".") ? path.join(path.dirname(module), name).replace(/\.(ts|tsx)$/, "") : name,
  );
}

function isAllowed(module: string, imported: string): boolean {
  if (!modules.includes(imported)) return packages[packageOf(imported)]?.test(module) ?? false;
  const isBelow = layerOf(imported) > layerOf(module);
  if (folderOf(module) === folderOf(imported)) return isBelow || layerOf(imported) === layerOf(module);
  return isBelow && mayKnow(folderOf(module), folderOf(imported));
}

function mayKnow(folder: string, other: string): boolean {
  // Files that stand in src itself join everything, and their layer says who may import them.
  return folder === "." || other === "." || other === "oci" || (known[folder]?.includes(other) ?? false);
}

function layerOf(module: string): number {
  const named = layers.findIndex((layer) => layer.test(module));
  return named === -1 ? layers.indexOf(verbs) : named;
}

function folderOf(module: string): string {
  return path.dirname(module);
}

function packageOf(imported: string): string {
  return imported.includes(":") ? imported : (imported.split("/")[0] ?? imported);
}
