/** Uploads that went through the relay, by their locations, which each answer may change. */

/** One that is forgotten costs a question to upstream. */
const SESSIONS_MAX = 2000;

export interface Session {
  /** null: its location, the first that is known of it, has none */
  readonly repository: string | null;
  /** Bytes that upstream has; null: it is to be asked. */
  offset: number | null;
  /** Smallest chunk that upstream takes but as the last, `OCI-Chunk-Min-Length`; bytes. */
  chunkMinBytes: number;
  /** What was sent by the relay, in all, without what had to be sent again. */
  bytes: number;
  readonly beganAtMs: number;
  /** Requests with bytes. */
  requests: number;
  /** Requests that had to be made again. */
  retries: number;
}

/** One that has no location yet. */
export function newSession(known: Pick<Session, "repository" | "offset">): Session {
  return { ...known, chunkMinBytes: 0, bytes: 0, beganAtMs: Date.now(), requests: 0, retries: 0 };
}

export class Sessions {
  readonly #byLocation = new Map<string, Session>();

  begin(location: URL, known: Pick<Session, "repository" | "offset">): Session {
    const session = newSession(known);
    this.move(session, location);
    return session;
  }

  /** The location is another by now; the earlier ones stay good, for clients that keep to them. */
  move(session: Session, location: URL): void {
    const key = keyOf(location);
    this.#byLocation.delete(key);
    this.#byLocation.set(key, session);
    const [oldest] = this.#byLocation.keys();
    if (this.#byLocation.size > SESSIONS_MAX && oldest !== undefined) this.#byLocation.delete(oldest);
  }

  find(location: URL): Session | null {
    return this.#byLocation.get(keyOf(location)) ?? null;
  }
}

/** A client adds the digest to the location of its last request. */
function keyOf({ origin, pathname, search }: URL): string {
  const parameters = search.slice(1).split("&");
  return `${origin}${pathname}?${parameters.filter((text) => text !== "" && !text.startsWith("digest=")).join("&")}`;
}
