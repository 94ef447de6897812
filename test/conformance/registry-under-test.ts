import { inject } from "vitest";
import { RegistryClient, type RepositoryClient } from "../support/client.ts";

/** The registry that global-setup.ts found. */
export function registryUnderTest(): RegistryClient {
  return new RegistryClient(inject("registryUrl"), (url, init) => fetch(url, { redirect: "follow", ...init }));
}

/** A repository that no other test knows, so that tests need no order and may run at once. */
export function freshRepository(under = "conformance"): RepositoryClient {
  return registryUnderTest().repository(`${under}/${crypto.randomUUID()}`);
}
