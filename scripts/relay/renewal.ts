/**
 * Tokens of uploads that outlast them. A layer goes up for as long as the line takes; a token lasts for minutes, and the
 * client, which sends the layer as one request, can't give another one before its end. So what it was given its token
 * for is kept, in memory, until that token's time is over and no upload uses it: the relay asks again with that.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { Field } from "./headers.ts";
import { type Answer, authorizationOf, isTransient } from "./upstream.ts";

const ENTRIES_MAX = 1000;
/** A client ends an upload with the token that it began it with, which may have ended by itself meanwhile. */
const GRACE_MS = 60_000;
/** What a timer can wait for at most, some 25 days. */
const LIFE_MAX_MS = 2 ** 31 - 1;

/** What a client asked for a token with. */
export interface TokenRequest {
  readonly method: string;
  readonly url: URL;
  readonly fields: readonly Field[];
  readonly body: Buffer;
}

interface Entry {
  readonly request: TokenRequest;
  token: string;
  /** When the client's own token ends, ms since 1970. */
  readonly expiresAtMs: number;
  /** Until when the client may end an upload that outlasted it, ms since 1970. */
  graceEndsAtMs: number;
  uses: number;
  /** Forgets it, where nothing uses it. */
  timer: NodeJS.Timeout | null;
  renewing: Promise<Renewed> | null;
}

/** The distribution project's token specification; RFC 6749 has `access_token`. A token without a time lasts 60 s. */
const tokenSchema = z.object({
  token: z.string().min(1).optional(),
  access_token: z.string().min(1).optional(),
  expires_in: z.number().positive().catch(60).default(60),
});

/** What came of asking for another token; an answer: it may be had by another try. */
export type Renewed = "renewed" | "refused" | Answer;

/** What an upload proves itself by. */
export interface Proof {
  /** The `Authorization` of its next request; null: none. */
  authorization(): string | null;
  /**
   * Sees to it that there is another one than the one that was refused.
   * @throws Broken
   */
  renew(refused: string | null): Promise<Renewed>;
  release(): void;
}

export class Renewal {
  readonly #entries = new Map<string, Entry>();
  readonly #ask: (request: TokenRequest) => Promise<Answer>;

  constructor(ask: (request: TokenRequest) => Promise<Answer>) {
    this.#ask = ask;
  }

  /** Clients whose passwords are kept. */
  get size(): number {
    return this.#entries.size;
  }

  /** Takes notice of an answer to a request for a token. */
  learn(request: TokenRequest, answer: Answer): void {
    const given = tokenOf(answer);
    if (given === null) return;
    this.#makeRoom();
    const key = keyOf(`Bearer ${given.token}`);
    this.#forget(key);
    const expiresAtMs = Date.now() + given.lifeMs;
    const entry = { request, token: given.token, expiresAtMs, graceEndsAtMs: 0, uses: 0, timer: null, renewing: null };
    this.#entries.set(key, entry);
    this.#forgetAfter(given.lifeMs, key, entry);
  }

  /** @param isEnd it is for the end of an upload, and for no more bytes */
  proofOf(fields: readonly Field[], isEnd: boolean): Proof {
    const given = authorizationOf(fields);
    const key = keyOf(given ?? "");
    const entry = this.#entries.get(key);
    const endsAtMs = isEnd ? Math.max(entry?.expiresAtMs ?? 0, entry?.graceEndsAtMs ?? 0) : (entry?.expiresAtMs ?? 0);
    // Whoever has a token that has ended gets no other one for it.
    if (entry === undefined || endsAtMs <= Date.now()) {
      return { authorization: () => given, renew: async () => "refused", release: () => {} };
    }
    entry.uses += 1;
    return {
      authorization: () => `Bearer ${entry.token}`,
      renew: async (refused) => (refused === `Bearer ${entry.token}` ? this.#renew(entry) : "renewed"),
      release: () => {
        entry.uses -= 1;
        const now = Date.now();
        // An end grants no time for another one: it would never be over.
        if (!isEnd) entry.graceEndsAtMs = now + GRACE_MS;
        this.#forgetAfter(Math.max(entry.expiresAtMs, entry.graceEndsAtMs) - now, key, entry);
      },
    };
  }

  /** Once, however many uploads have come to the token's end. */
  #renew(entry: Entry): Promise<Renewed> {
    entry.renewing ??= this.#askAgain(entry).finally(() => {
      entry.renewing = null;
    });
    return entry.renewing;
  }

  async #askAgain(entry: Entry): Promise<Renewed> {
    const answer = await this.#ask(entry.request);
    if (isTransient(answer.status)) return answer;
    const given = tokenOf(answer);
    if (given === null || given.token === entry.token) return "refused";
    entry.token = given.token;
    return "renewed";
  }

  #makeRoom(): void {
    for (const [key, { uses }] of this.#entries) {
      if (uses === 0 && this.#entries.size >= ENTRIES_MAX) this.#forget(key);
    }
  }

  #forgetAfter(ms: number, key: string, entry: Entry): void {
    clearTimeout(entry.timer ?? undefined);
    entry.timer = setTimeout(() => {
      // The token may have been given once more, and then it is another's.
      if (entry.uses === 0 && this.#entries.get(key) === entry) this.#entries.delete(key);
    }, ms).unref();
  }

  #forget(key: string): void {
    clearTimeout(this.#entries.get(key)?.timer ?? undefined);
    this.#entries.delete(key);
  }
}

function tokenOf({ status, body }: Answer): { readonly token: string; readonly lifeMs: number } | null {
  if (status !== 200) return null;
  const { data } = tokenSchema.safeParse(jsonOf(body));
  const token = data?.token ?? data?.access_token;
  return data === undefined || token === undefined
    ? null
    : { token, lifeMs: Math.min(data.expires_in * 1000, LIFE_MAX_MS) };
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}

/** Not the token itself: it is in one place less. Schemes are told apart from names without regard to case, RFC 9110. */
function keyOf(authorization: string): string {
  const normal = authorization.replace(/^bearer +/i, "Bearer ");
  return createHash("sha256").update(normal).digest("base64");
}
