/** What was pushed to be looked at, until it is deleted again. Each is noted before it is sent: an answer may be lost. */
import type { Client } from "./client.ts";
import { Unanswered } from "./exchange.ts";

export class Pushed {
  readonly #repository: string;
  /** By path, in the order of pushing. */
  readonly #paths = new Set<string>();
  readonly #uploads = new Set<string>();

  constructor(repository: string) {
    this.#repository = repository;
  }

  /** @returns its path */
  manifest(reference: string): string {
    return this.#note(`/v2/${this.#repository}/manifests/${reference}`);
  }

  /** @returns its path */
  blob(digest: string): string {
    return this.#note(`/v2/${this.#repository}/blobs/${digest}`);
  }

  /** @param location of an upload that was begun */
  upload(location: URL): void {
    this.#uploads.add(location.href);
  }

  /** Its blob was made of it, or it was cancelled. */
  uploadEnded(location: URL): void {
    this.#uploads.delete(location.href);
  }

  get isEmpty(): boolean {
    return this.#paths.size === 0 && this.#uploads.size === 0;
  }

  /** Those that still stand; where one can't be deleted, `remove` tells of it. */
  async removeManifests(client: Client): Promise<void> {
    for (const path of [...this.#paths].filter((each) => each.includes("/manifests/")).toReversed()) {
      if ((await deleted(client, path)) === null) this.#paths.delete(path);
    }
  }

  /**
   * Deletes all of it, the last first: what refers to something goes before it.
   * @returns what stays, with why; an upload that can't be cancelled ends by itself
   */
  async remove(client: Client): Promise<readonly string[]> {
    for (const location of this.#uploads) await deleted(client, location);
    this.#uploads.clear();
    const staying: string[] = [];
    for (const path of [...this.#paths].toReversed()) {
      const why = await deleted(client, path);
      if (why === null) this.#paths.delete(path);
      else staying.push(`${path} (${why})`);
    }
    return staying;
  }

  #note(path: string): string {
    this.#paths.add(path);
    return path;
  }
}

/** @returns why it is not; null: it is gone */
async function deleted(client: Client, target: string): Promise<string | null> {
  try {
    const { status } = await client.send("DELETE", new URL(target, client.origin));
    return (status >= 200 && status < 300) || status === 404 ? null : String(status);
  } catch (error) {
    if (error instanceof Unanswered) return error.seen;
    throw error;
  }
}
