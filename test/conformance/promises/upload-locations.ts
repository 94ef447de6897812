import { locationOf, type RepositoryClient } from "../../support/client.ts";
import { randomBytes } from "../content.ts";

/** The location of a session without bytes. */
export async function newUpload(repository: RepositoryClient): Promise<string> {
  return locationOf(await repository.startUpload());
}

/** The location of a session with `length` bytes. */
export async function begunUpload(repository: RepositoryClient, length: number): Promise<string> {
  return locationOf(await repository.appendChunk(await newUpload(repository), randomBytes(length), 0));
}
