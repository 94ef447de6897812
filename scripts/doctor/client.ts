/** A registry as a client sees it that has a login, or none: with the tokens that it is asked for, and after redirects. */
import { setTimeout } from "node:timers/promises";
import type { Login } from "../cli/stored-login.ts";
import { parseChallenges } from "./challenge.ts";
import { type Answer, exchange, type ExchangeOptions, Interrupted, type Streamed, Unanswered } from "./exchange.ts";
import {
  basicOf,
  getToken,
  mayHavePassword,
  postToken,
  type TokenAnswer,
  type TokenService,
  tokenServiceOf,
} from "./token-service.ts";

export interface SendOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | Streamed;
}

/** An answer, and those that led to it. */
export interface Led extends Answer {
  readonly redirects: readonly Answer[];
}

const redirectsMax = 5;

/** How long a 429 may make wait. */
const waitMaxSeconds = 30;

export class Client {
  readonly origin: URL;
  readonly login: Login | null;
  readonly #options: ExchangeOptions;
  /** The Authorization by what it is good for. */
  readonly #authorizations = new Map<string, string>();

  constructor(origin: URL, login: Login | null, options: ExchangeOptions) {
    this.origin = origin;
    this.login = login;
    this.#options = options;
  }

  /** The same, for who no longer hears the signal. */
  afterInterrupt(): Client {
    return new Client(this.origin, this.login, { ...this.#options, signal: undefined });
  }

  /** Without login, and without anything else that a client does for its user. @throws Unanswered, Interrupted */
  bare(method: string, url: URL, options: Partial<ExchangeOptions> = {}): Promise<Answer> {
    return exchange({ method, url, headers: { "User-Agent": userAgent } }, { ...this.#options, ...options });
  }

  get exchangeOptions(): ExchangeOptions {
    return this.#options;
  }

  /** With this Authorization alone. @throws Unanswered, Interrupted */
  sendWith(authorization: string, method: string, path: string): Promise<Answer> {
    return this.#sendPatiently(method, new URL(path, this.origin), {}, authorization);
  }

  /**
   * @param target a path, or what a Location said
   * @throws Unanswered, Interrupted
   */
  async send(method: string, target: string | URL, options: SendOptions = {}): Promise<Led> {
    const redirects: Answer[] = [];
    let url = new URL(target, this.origin);
    for (;;) {
      const answer = await this.#sendAuthorized(method, url, options);
      const next = ["GET", "HEAD"].includes(method) ? redirectOf(answer) : null;
      if (next === null || redirects.length === redirectsMax) return { ...answer, redirects };
      redirects.push(answer);
      url = next;
    }
  }

  async #sendAuthorized(method: string, url: URL, options: SendOptions): Promise<Answer> {
    const key = rightOf(method, url);
    const answer = await this.#sendPatiently(method, url, options, this.#authorizations.get(key));
    if (answer.status !== 401 || url.origin !== this.origin.origin) return answer;
    const authorization = await this.#authorize(answer);
    if (authorization === null) return answer;
    if (typeof authorization !== "string") return authorization;
    this.#authorizations.set(key, authorization);
    return this.#sendPatiently(method, url, options, authorization);
  }

  async #sendPatiently(
    method: string,
    url: URL,
    { headers = {}, body }: SendOptions,
    authorization: string | undefined,
  ): Promise<Answer> {
    // The registry's alone: a storage to which it leads knows nobody here.
    const isOwn = authorization !== undefined && url.origin === this.origin.origin;
    const request = {
      method,
      url,
      headers: {
        "User-Agent": userAgent,
        "Accept-Encoding": "identity",
        ...(isOwn ? { Authorization: authorization } : {}),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
    };
    const answer = await exchange(request, this.#options);
    const seconds = Number(answer.headers["retry-after"] ?? Number.NaN);
    if (answer.status !== 429 || !(seconds <= waitMaxSeconds)) return answer;
    await this.#wait(seconds);
    return exchange(request, this.#options);
  }

  async #wait(seconds: number): Promise<void> {
    const { signal } = this.#options;
    await setTimeout(seconds * 1000, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
      throw signal?.aborted === true ? new Interrupted() : error;
    });
  }

  /**
   * What a 401 asks for; where it asks for nothing that can be had, the password itself. null: there is none. Where the
   * token service refuses the login, its answer, which says why.
   */
  async #authorize(answer: Answer): Promise<string | Answer | null> {
    const challenges = parseChallenges(answer.headers["www-authenticate"] ?? "");
    for (const challenge of challenges) {
      const service = tokenServiceOf(challenge);
      if (service === null || !mayHavePassword(service, this.origin)) continue;
      const told = await this.#token(service, challenge.parameters.get("scope") ?? "");
      if (told !== null && told.token !== null) return `Bearer ${told.token}`;
      if (told !== null && [401, 403].includes(told.answer.status)) return told.answer;
    }
    return this.login?.kind === "password" ? basicOf(this.login.user, this.login.password) : null;
  }

  /** null of a service that does not answer: that is the finding of the check that asks it for its own sake. */
  async #token(service: TokenService, scope: string): Promise<TokenAnswer | null> {
    const { login } = this;
    try {
      return await (login?.kind === "identity-token"
        ? postToken(service, login, scope, this.#options)
        : getToken(service, login, scope, this.#options));
    } catch (error) {
      if (error instanceof Unanswered) return null;
      throw error;
    }
  }
}

const userAgent = "moorage-doctor";

/** Requests that one token is good for. */
function rightOf(method: string, { pathname }: URL): string {
  const right = ["GET", "HEAD"].includes(method) ? "pull" : method === "DELETE" ? "delete" : "push";
  const repository = /^\/v2\/(.+)\/(?:manifests|blobs|tags|referrers)\//.exec(pathname)?.[1] ?? "";
  const isUpload = pathname.includes("/blobs/uploads/");
  return `${isUpload ? "push" : right} ${repository}`;
}

function redirectOf({ status, headers, url }: Answer): URL | null {
  const { location } = headers;
  if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return null;
  return URL.canParse(location, url.href) ? new URL(location, url) : null;
}
