/**
 * Where upstream gives tokens. A client asks the relay for them: it may be logged in at the relay's name alone, and an
 * upload that outlasts its token needs another (renewal.ts). `service` and `scope` stay upstream's, and so is the token.
 */

/** Challenges name one realm, or a few; a registry that makes them up is not remembered without end. */
const REALMS_MAX = 64;
const foreignPath = "/.relay/token/";

/** A realm's own query stays with it: clients add theirs to it. */
export class Realms {
  readonly #upstream: URL;
  /** Origins and paths, by what the relay answers at. */
  readonly #known = new Map<string, URL>();

  constructor(upstream: URL) {
    this.#upstream = upstream;
  }

  /**
   * A `WWW-Authenticate` of upstream for the client of a relay at that host.
   * Only the realm of a Bearer challenge is an address; those of others are names, and go into what is hashed or shown.
   */
  localize(challenge: string, host: string): string {
    return challenge.replace(
      /(\bBearer\s+(?:[^\s",=]+\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",]+)\s*,\s*)*?realm\s*=\s*)"((?:[^"\\]|\\.)*)"/gi,
      (whole, before: string, realm: string) => {
        const path = this.#learn(realm);
        return path === null ? whole : `${before}"http://${host}${path}"`;
      },
    );
  }

  /** Where a request for a token goes on to; null: it is none. */
  remote(target: string): URL | null {
    const [path = "", ...query] = target.split("?");
    const realm = this.#known.get(path);
    if (realm === undefined) return null;
    const url = new URL(realm);
    url.search = query.join("?");
    return url;
  }

  /** @returns what the relay answers at; null: the client is left to go there by itself */
  #learn(realm: string): string | null {
    if (!/^https?:\/\//i.test(realm) || !URL.canParse(realm)) return null;
    const url = new URL(realm);
    const own = isUpstream(url, this.#upstream);
    // Who said https for the registry has not said that a password may go to others without.
    if (!own && url.protocol === "http:" && this.#upstream.protocol === "https:") return null;
    const bare = own ? new URL(url.pathname, this.#upstream) : new URL(url.pathname, url.origin);
    const known = [...this.#known].find(([, { href }]) => href === bare.href)?.[0];
    if (known !== undefined) return known + url.search;
    if (this.#known.size >= REALMS_MAX) return null;
    const path = own ? url.pathname : `${foreignPath}${String(this.#known.size)}`;
    this.#known.set(path, bare);
    return path + url.search;
  }
}

/**
 * Whether an address that upstream gives is its own: scheme, host and port are the same. One that is reached by https may
 * say http, and leave the port out, where a proxy before it takes TLS off. The other way round never: what was to go over
 * TLS would go without it.
 */
export function isUpstream(url: URL, upstream: URL): boolean {
  if (url.origin === upstream.origin) return true;
  const isBehindTls = url.protocol === "http:" && upstream.protocol === "https:";
  return isBehindTls && url.hostname === upstream.hostname && (url.port === "" || url.port === upstream.port);
}
