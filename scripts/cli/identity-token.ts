/** What `docker login` keeps in place of a password, where the registry's token service gives it a refresh token. */
import { seenIn } from "../doctor/answers.ts";
import { parseChallenges } from "../doctor/challenge.ts";
import { exchange, Unanswered } from "../doctor/exchange.ts";
import { mayHavePassword, postToken, type TokenService, tokenServiceOf } from "../doctor/token-service.ts";
import { Refusal } from "./refusal.ts";
import type { TokenLogin } from "./stored-login.ts";

const options = { timeoutMs: 60_000 };

/**
 * The bearer token that the registry's token service gives for it: one without scopes, that says whose it is.
 * @throws Refusal where there is no such service, or it does not take the token
 */
export async function bearerOf(registry: URL, login: TokenLogin): Promise<string> {
  try {
    const { answer, token } = await postToken(await serviceOf(registry), login, "", options);
    if (token !== null) return token;
    throw new Refusal(
      `the token that docker login got is not good at ${registry.origin} any more (${seenIn(answer)}); npx moorage login ${registry.origin} keeps another login`,
    );
  } catch (error) {
    if (error instanceof Unanswered) throw new Refusal(`${error.seen}; ${error.mend}`, { cause: error });
    throw error;
  }
}

async function serviceOf(registry: URL): Promise<TokenService> {
  const answer = await exchange({ method: "GET", url: new URL("/v2/", registry), headers: {} }, options);
  for (const challenge of parseChallenges(answer.headers["www-authenticate"] ?? "")) {
    const service = tokenServiceOf(challenge);
    if (service !== null && mayHavePassword(service, registry)) return service;
  }
  throw new Refusal(
    `${registry.origin} names no service that takes a token of docker login (GET /v2/: ${seenIn(answer)}); npx moorage login ${registry.origin} keeps another login`,
  );
}
