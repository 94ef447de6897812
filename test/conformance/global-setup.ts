import type { TestProject } from "vitest/node";
import type { Provided } from "./provided.ts";
import { asAdmin, basic } from "../support/credentials.ts";
import { startRegistry } from "../support/registry.ts";
import { publicRepositories, sparseRepositories } from "./content.ts";

/**
 * Finds the registry under test: the one that MOORAGE_URL names, else a fresh one of this project, with its own state,
 * for the time of the run.
 */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const provide = ({ registryUrl, registryAuthorization }: Provided): void => {
    project.provide("registryUrl", registryUrl.replace(/\/+$/, ""));
    project.provide("registryAuthorization", registryAuthorization);
  };
  const given = process.env["MOORAGE_URL"];
  if (given !== undefined && given !== "") {
    const user = process.env["MOORAGE_USER"] ?? "";
    const password = process.env["MOORAGE_PASSWORD"] ?? "";
    provide({ registryUrl: given, registryAuthorization: user === "" ? null : basic(user, password) });
    return undefined;
  }
  const registry = await startRegistry({
    vars: { ALLOW_SPARSE: `${sparseRepositories}/**`, ANONYMOUS_PULL: `${publicRepositories}/**` },
  });
  provide({ registryUrl: registry.url, registryAuthorization: asAdmin });
  return () => registry.stop();
}
