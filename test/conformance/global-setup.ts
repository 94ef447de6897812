import type { TestProject } from "vitest/node";
import { startRegistry } from "../support/registry.ts";
import { sparseRepositories } from "./content.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** base URL of the registry under test, without a slash at its end */
    registryUrl: string;
  }
}

/**
 * Finds the registry under test: the one that MOORAGE_URL names, else a fresh one of this project, with its own state,
 * for the time of the run.
 */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const given = process.env["MOORAGE_URL"];
  if (given !== undefined && given !== "") {
    project.provide("registryUrl", given.replace(/\/+$/, ""));
    return undefined;
  }
  const registry = await startRegistry({ vars: { ALLOW_SPARSE: `${sparseRepositories}/**` } });
  project.provide("registryUrl", registry.url.replace(/\/+$/, ""));
  return () => registry.stop();
}
