import { startRegistry } from "../support/registry.ts";

/** The registry that the clients are run against. */
export interface Target {
  readonly url: string;
  /** `localhost:port`: every client takes a registry on localhost to speak plain http. */
  readonly host: string;
  close(): Promise<void>;
}

/** @param runningUrl of a registry that runs already (MOORAGE_URL); empty for one of the tests' own with fresh state */
export async function openTarget(runningUrl: string): Promise<Target> {
  if (runningUrl !== "") {
    const { origin, host } = new URL(runningUrl);
    return { url: origin, host, close: async () => undefined };
  }
  const registry = await startRegistry();
  return { url: registry.url, host: registry.host, close: () => registry.stop() };
}
