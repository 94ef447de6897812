/** What a registry is before anybody logs in: reached, over TLS that holds, with a clock that is right. */
import { isLoopback } from "../../src/access/trust-rule.ts";
import { seenIn } from "./answers.ts";
import type { Check, Examined } from "./examination.ts";
import type { Answer, TlsFacts } from "./exchange.ts";
import { Failed, Skipped, Warned } from "./verdict.ts";

/** end-1, distribution-spec v1.1.1 «Determining Support». */
const reach: Check = {
  name: "reach",
  needs: [],
  async run(examined) {
    const { client } = examined;
    const answer = await client.bare("GET", new URL("/v2/", client.origin), { unverified: true });
    const expected = "200 or 401 for GET /v2/";
    const { location } = answer.headers;
    if (answer.status >= 300 && answer.status < 400 && location !== undefined) {
      const target = URL.canParse(location, client.origin.href) ? new URL(location, client.origin).origin : location;
      const mend =
        target === client.origin.origin
          ? "a proxy or a login page before the registry has taken the request: let /v2/ through"
          : `clients don't follow it with their login: if that is the registry, name it as ${target}`;
      throw new Failed({ expected, seen: `${String(answer.status)} to ${target}`, mend });
    }
    if (answer.status !== 200 && answer.status !== 401) {
      const mend = "name the address of a registry; if it is one, look at what stands before it, and into its log";
      throw new Failed({ expected, seen: seenIn(answer), mend });
    }
    examined.first = answer;
    return `GET /v2/ is answered ${String(answer.status)} after ${String(answer.answeredAtMs - answer.sentAtMs)} ms`;
  },
};

const dayMs = 86_400_000;
const renewBeforeDays = 14;

const tls: Check = {
  name: "tls",
  needs: ["reach"],
  async run({ client, first }) {
    return tlsVerdict(client.origin, first?.tls ?? null, Date.now());
  },
};

/** @throws Failed, Warned */
export function tlsVerdict(origin: URL, facts: TlsFacts | null, nowMs: number): string {
  if (facts === null) {
    if (isLoopback(origin.hostname)) return "none; what is sent does not leave this machine";
    throw new Warned({
      expected: "https on an address of another machine",
      seen: "http: passwords and tokens are readable on the way",
      mend: "serve it by https; clients take http from other machines only when they are told to",
    });
  }
  const { refusal, names, issuer, protocol } = facts;
  if (refusal !== null) {
    throw new Failed({
      expected: `a certificate for ${origin.hostname} that clients trust`,
      seen: `${refusal}: a certificate for ${names}, of ${issuer}, good until ${dateOf(facts.validToMs)}`,
      mend: certificateMend(refusal),
    });
  }
  const days = Math.floor((facts.validToMs - nowMs) / dayMs);
  // Certificates of a few days are renewed at a third of their life.
  const soonDays = Math.min(renewBeforeDays, (facts.validToMs - facts.validFromMs) / dayMs / 3);
  const seen = `${protocol}, a certificate of ${issuer} that is good for ${String(days)} days more`;
  if ((facts.validToMs - nowMs) / dayMs < soonDays) {
    throw new Warned({
      expected: "a certificate that is not about to end",
      seen: `${seen}, until ${dateOf(facts.validToMs)}`,
      mend: "renew it, and look why nothing has renewed it by itself",
    });
  }
  return seen;
}

function certificateMend(refusal: string): string {
  switch (refusal) {
    case "CERT_HAS_EXPIRED":
      return "renew the certificate";
    case "CERT_NOT_YET_VALID":
      return "look at this machine's clock, or take a certificate that is good by now";
    case "ERR_TLS_CERT_ALTNAME_INVALID":
      return "take a certificate that has this name, or name the registry as the certificate does";
    case "DEPTH_ZERO_SELF_SIGNED_CERT":
    case "SELF_SIGNED_CERT_IN_CHAIN":
      return "take a certificate of a public authority; or have each client trust this one (here: NODE_EXTRA_CA_CERTS=<file>)";
    case "UNABLE_TO_VERIFY_LEAF_SIGNATURE":
    case "UNABLE_TO_GET_ISSUER_CERT":
    case "UNABLE_TO_GET_ISSUER_CERT_LOCALLY":
      return "serve the intermediate certificates too; or have each client trust the authority (here: NODE_EXTRA_CA_CERTS=<file>)";
    default:
      return "take a certificate that clients trust";
  }
}

function dateOf(timeMs: number): string {
  return Number.isNaN(timeMs) ? "a time that can't be read" : new Date(timeMs).toISOString().slice(0, 10);
}

const apiVersion: Check = {
  name: "api-version",
  needs: ["tls"],
  async run({ first }) {
    const version = first?.headers["docker-distribution-api-version"];
    if (version === "registry/2.0") return "Docker-Distribution-API-Version: registry/2.0";
    throw new Warned({
      expected: "Docker-Distribution-API-Version: registry/2.0",
      seen: version === undefined ? "no such header" : String(version),
      mend: "old clients take it for no registry: let a proxy before it pass this header on",
    });
  },
};

const skewMaxMs = 60_000;

/** After the token checks: not each server says the time by itself, but tokens have one. */
const clock: Check = {
  name: "clock",
  needs: ["tls"],
  async run(examined) {
    const told = timeTold(examined);
    if (told === null) throw new Skipped("the registry tells no time: no Date, and no issued_at with a token");
    const { atMs, source, answer } = told;
    // Of a time told in whole seconds any moment of that second may be meant, and any between question and answer.
    const aheadMs = atMs - answer.answeredAtMs;
    const behindMs = answer.sentAtMs - (atMs + 1000);
    const skewMs = Math.max(0, aheadMs, behindMs);
    if (skewMs <= skewMaxMs) return `by ${source} it is right to within ${String(Math.ceil(skewMs / 1000) + 1)} s`;
    const direction = aheadMs > 0 ? "ahead of" : "behind";
    throw new Warned({
      expected: "that both clocks agree to a minute",
      seen: `by ${source} the registry's is ${String(Math.round(skewMs / 1000))} s ${direction} this machine's`,
      mend: "set the clock that is wrong (NTP): tokens are bound to times, and are refused early or before they begin",
    });
  },
};

function timeTold({ first, issued }: Examined): { atMs: number; source: string; answer: Answer } | null {
  const date = Date.parse(first?.headers.date ?? "");
  if (first !== null && !Number.isNaN(date)) return { atMs: date, source: "Date", answer: first };
  return issued === null ? null : { ...issued, source: "issued_at" };
}

export const connectionChecks: readonly Check[] = [reach, tls, apiVersion];
export const clockChecks: readonly Check[] = [clock];
