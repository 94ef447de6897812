import { describe, expect, test } from "vitest";
import type { RepositoryClient } from "../../support/client.ts";
import { bodyOf, bytesOf, imageIn } from "../content.ts";
import { type ErrorCode, expectError } from "../error-envelope.ts";
import { freshRepository } from "../registry-under-test.ts";

/** Bad input of one kind, and how it is refused. */
export interface Refusal {
  /** begins with the endpoint */
  readonly what: string;
  readonly status: number;
  readonly code: ErrorCode | readonly ErrorCode[];
  /** what the `detail` says, where that is promised too */
  readonly reason?: string;
  readonly send: (repository: RepositoryClient) => Promise<Response>;
}

/**
 * Each is answered with a code of the spec in its JSON envelope, with a `detail` that holds the reason and the request's
 * id; and what the repository held before is all that it holds afterwards.
 */
export function testRefusals(group: string, refusals: readonly Refusal[]): void {
  describe(group, () => {
    test.each(refusals)("$what: $status", async ({ send, status, code, reason }) => {
      const repository = freshRepository();
      const kept = bytesOf(await imageIn(repository));
      expect((await repository.putManifest("kept", kept)).status).toBe(201);
      const [error] = await expectError(await send(repository), status, code);
      if (reason !== undefined) expect(error?.detail).toMatchObject({ reason });
      expect(await bodyOf(await repository.getManifest("kept"))).toEqual(kept);
      expect(await (await repository.listTags()).json()).toEqual({ name: repository.name, tags: ["kept"] });
    });
  });
}
