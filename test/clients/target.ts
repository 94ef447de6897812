import { adminPassword } from "../support/credentials.ts";
import { startRegistry } from "../support/registry.ts";
import type { Credentials } from "./accounts.ts";

/** The registry that the clients are run against. */
export interface Target {
  readonly url: string;
  /** `localhost:port`: every client takes a registry on localhost to speak plain http. */
  readonly host: string;
  readonly administrator: Credentials;
  close(): Promise<void>;
}

/** Where everybody may pull, in the registry of the tests. */
export const publicRepositories = "public";

/** @param runningUrl of a registry that runs already (MOORAGE_URL); empty for one of the tests' own with fresh state */
export async function openTarget(runningUrl: string): Promise<Target> {
  if (runningUrl !== "") {
    const { origin, host } = new URL(runningUrl);
    const user = process.env["MOORAGE_USER"] ?? "admin";
    const administrator = { user, password: process.env["MOORAGE_PASSWORD"] ?? "" };
    return { url: origin, host, administrator, close: async () => undefined };
  }
  const registry = await startRegistry({ vars: { ANONYMOUS_PULL: `${publicRepositories}/**` } });
  const administrator = { user: "admin", password: adminPassword };
  return { url: registry.url, host: registry.host, administrator, close: () => registry.stop() };
}
