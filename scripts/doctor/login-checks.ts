/** The way to a token: where a registry sends its clients, and what they get there. */
import { mendOf, requireStatus, seenIn } from "./answers.ts";
import { type Challenge, parseChallenges } from "./challenge.ts";
import type { Check, Examined } from "./examination.ts";
import { type Answer, Unanswered } from "./exchange.ts";
import { getToken, mayHavePassword, postToken, type TokenAnswer, tokenServiceOf } from "./token-service.ts";
import { Failed, Skipped, Warned } from "./verdict.ts";

/** RFC 9110 section 11.6.1, and the distribution project's token specification. */
const challenge: Check = {
  name: "challenge",
  needs: ["tls"],
  async run(examined) {
    const { first } = examined;
    if (first === null || first.status === 200)
      throw new Skipped("GET /v2/ is open to everybody: no login is asked for");
    const header = first.headers["www-authenticate"];
    if (header === undefined) {
      throw new Failed({
        expected: 'WWW-Authenticate: Bearer realm="…",service="…" with the 401 for GET /v2/',
        seen: "a 401 without WWW-Authenticate: no client knows how to log in",
        mend: "let the proxy before the registry pass this header on",
      });
    }
    const challenges = parseChallenges(header);
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    if (bearer !== undefined) return requireService(examined, bearer);
    if (challenges.some(({ scheme }) => scheme === "basic")) return "Basic: the password goes along with each request";
    throw new Failed({
      expected: "a challenge of Bearer or Basic",
      seen: header.slice(0, 200),
      mend: "a login page or a proxy before the registry asks for its own login: let /v2/ through",
    });
  },
};

async function requireService(examined: Examined, bearer: Challenge): Promise<string> {
  const { client } = examined;
  const given = bearer.parameters.get("realm");
  const service = tokenServiceOf(bearer);
  if (service === null) {
    throw new Failed({
      expected: "a realm that is a URL",
      seen: given === undefined ? "no realm" : `realm="${given}"`,
      mend: "set the realm to where the registry's tokens are had, such as https://registry.example.com/token",
    });
  }
  const { realm } = service;
  if (!mayHavePassword(service, client.origin) || (client.origin.protocol === "https:" && realm.protocol === "http:")) {
    throw new Failed({
      expected: "a realm by https, as the registry is",
      seen: `realm="${realm.href}": passwords would go there unencrypted`,
      mend: "let the proxy before the registry tell it that clients come by https, or set its public address",
    });
  }
  const isElsewhere = realm.host !== client.origin.host;
  await requireRealm(examined, realm, isElsewhere);
  if (service.service === "") {
    throw new Failed({
      expected: "a service in the challenge",
      seen: "none: a token service with several registries can't tell for which a token is",
      mend: "let the registry name itself in it",
    });
  }
  examined.tokens = service;
  if (isElsewhere) {
    throw new Warned({
      expected: `a realm at ${client.origin.host}`,
      seen: `clients send their password to ${realm.host}`,
      mend: "nothing, if that is the registry's token service; else let the proxy pass Host on, or set the public address",
    });
  }
  return `Bearer, tokens at ${realm.pathname} for the service ${service.service}`;
}

/** It may refuse nobody's request, but must be there. */
async function requireRealm({ client }: Examined, realm: URL, isElsewhere: boolean): Promise<void> {
  const mend = isElsewhere
    ? `the registry takes another name for its own: let the proxy before it pass Host on, or set its public address to ${client.origin.origin}`
    : "let the token service's path through to the registry";
  const fault = (seen: string): Failed =>
    new Failed({ expected: "a realm where tokens are had", seen: `realm="${realm.href}": ${seen}`, mend });
  const answer = await client.bare("GET", realm).catch((error: unknown) => {
    throw error instanceof Unanswered ? fault(error.seen) : error;
  });
  if (answer.status === 404 || answer.status >= 500) throw fault(seenIn(answer));
}

const tokenGet: Check = {
  name: "token-get",
  needs: ["challenge", "login"],
  async run(examined) {
    const { client, tokens } = examined;
    if (tokens === null) throw new Skipped("no bearer tokens are asked for");
    if (client.login?.kind === "identity-token") {
      throw new Skipped("this login is an identity token, which is sent by POST");
    }
    const told = await getToken(tokens, client.login, "", client.exchangeOptions);
    if (client.login === null && told.token === null) {
      throw new Skipped(`nobody is logged in, and gets no token: ${seenIn(told.answer)}`);
    }
    return requireToken(examined, told, "GET");
  },
};

const tokenPost: Check = {
  name: "token-post",
  needs: ["challenge", "login"],
  async run(examined) {
    const { client, tokens } = examined;
    if (tokens === null) throw new Skipped("no bearer tokens are asked for");
    if (client.login === null) throw new Skipped("nobody is logged in");
    const told = await postToken(tokens, client.login, "", client.exchangeOptions);
    // containerd and buildkit take these for a service that has the other form alone.
    if ([404, 405].includes(told.answer.status)) {
      throw new Warned({
        expected: "a token for POST, as OAuth 2 has it",
        seen: seenIn(told.answer),
        mend: "clients get on by GET; let POST through to the token service, so that refresh tokens can be used",
      });
    }
    return requireToken(examined, told, "POST");
  },
};

/** That there is one, and that the registry takes it. */
async function requireToken(
  examined: Examined,
  { answer, token, issuedAtMs }: TokenAnswer,
  method: string,
): Promise<string> {
  requireStatus(answer, [200], `${method} at the realm with this login`);
  if (token === null) {
    throw new Failed({
      expected: `JSON with a token for ${method} at the realm`,
      seen: `200 with ${answer.headers["content-type"] ?? "no Content-Type"} and no token in it`,
      mend: "look at what serves the realm: it is no token service, or something before it changes answers",
    });
  }
  if (issuedAtMs !== null) examined.issued = { atMs: issuedAtMs, answer };
  const { client } = examined;
  if (client.login !== null) requireTaken(await client.sendWith(`Bearer ${token}`, "GET", "/v2/"));
  return `${method} gives a token${client.login === null ? " to nobody" : ", which the registry takes"}`;
}

function requireTaken(answer: Answer): void {
  if (answer.status === 200) return;
  throw new Failed({
    expected: "200 for GET /v2/ with the token",
    seen: seenIn(answer),
    mend: answer.status === 401 ? "let proxies pass Authorization on, and look at both clocks" : mendOf(answer),
  });
}

const login: Check = {
  name: "login",
  needs: ["tls"],
  async run({ client, first }) {
    if (client.login === null) {
      return first?.status === 200 ? "none is needed" : "nobody is logged in: only what is public can be looked at";
    }
    const answer = await client.send("GET", "/v2/");
    if (answer.status === 401) {
      throw new Failed({
        expected: "200 for GET /v2/ with this login",
        seen: seenIn(answer),
        mend: "look at user name and password, and log in again: npx moorage login",
      });
    }
    requireStatus(answer, [200], "GET /v2/ with this login");
    return client.login.kind === "password" ? `as ${client.login.user}` : "by identity token";
  },
};

export const loginChecks: readonly Check[] = [challenge, login, tokenGet, tokenPost];
