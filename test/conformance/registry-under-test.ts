import { inject } from "vitest";
import { type Fetch, RegistryClient, type RepositoryClient } from "../support/client.ts";

/** The registry that global-setup.ts found, as its administrator. */
export function registryUnderTest(redirect: "follow" | "manual" = "follow"): RegistryClient {
  const send: Fetch = (url, init) => fetch(url, { ...init, redirect });
  return new RegistryClient(inject("registryUrl"), send, inject("registryAuthorization"));
}

/** A repository that no other test knows, so that tests need no order and may run at once. */
export function freshRepository(under = "conformance"): RepositoryClient {
  return registryUnderTest().repository(`${under}/${crypto.randomUUID()}`);
}
