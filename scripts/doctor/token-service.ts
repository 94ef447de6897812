/** The service that hands out a registry's bearer tokens, as the distribution project's token specification has it. */
import { z } from "zod";
import { isLoopback } from "../../src/access/trust-rule.ts";
import type { Login } from "../cli/stored-login.ts";
import type { Challenge } from "./challenge.ts";
import { type Answer, exchange, type ExchangeOptions, jsonIn } from "./exchange.ts";

export interface TokenService {
  readonly realm: URL;
  /** "" where the challenge names none */
  readonly service: string;
}

/** null where it has no realm that a client could ask. */
export function tokenServiceOf({ scheme, parameters }: Challenge): TokenService | null {
  const realm = parameters.get("realm") ?? "";
  if (scheme !== "bearer" || !URL.canParse(realm)) return null;
  const url = new URL(realm);
  return ["http:", "https:"].includes(url.protocol) ? { realm: url, service: parameters.get("service") ?? "" } : null;
}

/**
 * Whether a password may go there: encrypted, or where the user sends it anyway, or where all of it is on this machine. What
 * a registry elsewhere names here is whatever program listens on that port.
 */
export function mayHavePassword({ realm }: Pick<TokenService, "realm">, registry: URL): boolean {
  const isHere = isLoopback(realm.hostname) && isLoopback(registry.hostname);
  return realm.protocol === "https:" || isHere || realm.origin === registry.origin;
}

export interface TokenAnswer {
  readonly answer: Answer;
  /** null where the answer is none of success, or has none */
  readonly token: string | null;
  /** ms since 1970; null where it does not say */
  readonly issuedAtMs: number | null;
}

export const clientId = "moorage";

/**
 * The form that most clients use: GET, with Basic where there is a password.
 * @param scope such as `repository:team/app:pull`; "" for a token that only says who it is
 * @throws Unanswered, Interrupted
 */
export async function getToken(
  { realm, service }: TokenService,
  login: Login | null,
  scope: string,
  options: ExchangeOptions,
): Promise<TokenAnswer> {
  const url = new URL(realm);
  if (service !== "") url.searchParams.set("service", service);
  for (const each of scope.split(" ")) if (each !== "") url.searchParams.append("scope", each);
  url.searchParams.set("client_id", clientId);
  if (login?.kind === "password") url.searchParams.set("account", login.user);
  const headers = login?.kind === "password" ? { Authorization: basicOf(login.user, login.password) } : {};
  return tokenIn(await exchange({ method: "GET", url, headers: { Accept: "application/json", ...headers } }, options));
}

/**
 * The form of OAuth 2, for a password or a refresh token.
 * @throws Unanswered, Interrupted
 */
export async function postToken(
  { realm, service }: TokenService,
  login: Login,
  scope: string,
  options: ExchangeOptions,
): Promise<TokenAnswer> {
  const form = new URLSearchParams({
    client_id: clientId,
    service,
    ...(scope === "" ? {} : { scope }),
    ...(login.kind === "password"
      ? { grant_type: "password", username: login.user, password: login.password }
      : { grant_type: "refresh_token", refresh_token: login.token }),
  });
  const headers = { Accept: "application/json", "Content-Type": "application/x-www-form-urlencoded" };
  return tokenIn(await exchange({ method: "POST", url: realm, headers, body: Buffer.from(form.toString()) }, options));
}

/** RFC 7617 */
export function basicOf(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}

const tokenSchema = z.object({
  token: z.string().optional(),
  access_token: z.string().optional(),
  issued_at: z.iso.datetime({ offset: true }).optional().catch(undefined),
});

function tokenIn(answer: Answer): TokenAnswer {
  const parsed = answer.status === 200 && !answer.isCut ? tokenSchema.safeParse(jsonIn(answer)) : null;
  const token = parsed?.data?.token ?? parsed?.data?.access_token ?? null;
  const issuedAt = parsed?.data?.issued_at;
  return {
    answer,
    token: token === "" ? null : token,
    issuedAtMs: issuedAt === undefined ? null : Date.parse(issuedAt),
  };
}
