import type { JSONWebKeySet } from "jose";
import { z } from "zod";
import {
  ISSUER_DOCUMENT_MAX_BYTES,
  ISSUER_FAILURE_KEPT_SECONDS,
  ISSUER_FETCH_SECONDS,
  ISSUER_KEYS_KEPT_SECONDS,
  ISSUER_REFRESH_SECONDS,
  ISSUER_WAIT_SECONDS,
  ISSUERS_KEPT_MAX,
} from "../limits.ts";
import { isLoopback } from "./trust-rule.ts";

/** Who signs, and where the public keys are. */
export interface KeySource {
  readonly issuer: string;
  /** null: where the issuer's OpenID configuration says */
  readonly keysUrl: string | null;
}

/** What came of asking for an issuer's keys. Data alone: what a request fetches with is that request's. */
export interface IssuerKeys {
  /** null: none are to be had */
  readonly keys: JSONWebKeySet | null;
  /** ms since 1970 */
  readonly fetchedAtMs: number;
  /** of the last attempt, which may have failed */
  readonly triedAtMs: number;
  /** why the last attempt failed */
  readonly failure: string | null;
}

/** What an issuer gives is not what it should be, or nothing comes. The message is for the audit. */
class IssuerFailure extends Error {}

/** By issuer, and where its keys are said to be. */
const kept = new Map<string, IssuerKeys>();

/** The one fetch that is under way for an issuer: the others wait for it, or a slow issuer would be asked by each. */
const underWay = new Map<string, { readonly untilMs: number; readonly done: Promise<void> }>();

/**
 * The keys of an issuer: kept ones where they do. A dead issuer costs ISSUER_FETCH_SECONDS once in a while, and only
 * those who come with its tokens.
 * @param unlike the keys that did not have the token's: others, if it is time to ask for them
 */
export async function issuerKeys(source: KeySource, unlike?: IssuerKeys): Promise<IssuerKeys> {
  const key = keyOf(source);
  for (;;) {
    const known = kept.get(key);
    const nowMs = Date.now();
    if (known !== undefined && isGood(known, nowMs, unlike)) return known;
    const other = underWay.get(key);
    if (other === undefined || other.untilMs <= nowMs) return fetchOnce(key, source, known);
    // With a timer of its own: the other request may be ended where it stands, and then nothing comes of it.
    await Promise.race([other.done, scheduler.wait(other.untilMs - nowMs)]);
  }
}

function isGood(known: IssuerKeys, nowMs: number, unlike: IssuerKeys | undefined): boolean {
  const triedMs = nowMs - known.triedAtMs;
  if (known.keys === null) return triedMs < ISSUER_FAILURE_KEPT_SECONDS * 1000;
  if (nowMs - known.fetchedAtMs >= ISSUER_KEYS_KEPT_SECONDS * 1000) return false;
  return unlike === undefined || known.fetchedAtMs > unlike.fetchedAtMs || triedMs < ISSUER_REFRESH_SECONDS * 1000;
}

async function fetchOnce(key: string, source: KeySource, known: IssuerKeys | undefined): Promise<IssuerKeys> {
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const fetching = { untilMs: Date.now() + ISSUER_WAIT_SECONDS * 1000, done };
  underWay.set(key, fetching);
  try {
    const fetched = await fetchKeys(source, known);
    kept.delete(key);
    const oldest = kept.keys().next();
    if (kept.size >= ISSUERS_KEPT_MAX && oldest.done !== true) kept.delete(oldest.value);
    kept.set(key, fetched);
    return fetched;
  } finally {
    if (underWay.get(key) === fetching) underWay.delete(key);
    resolve();
  }
}

function keyOf({ issuer, keysUrl }: KeySource): string {
  return JSON.stringify([issuer, keysUrl]);
}

async function fetchKeys(source: KeySource, known: IssuerKeys | undefined): Promise<IssuerKeys> {
  // One bound for both documents, and for their bodies.
  const signal = AbortSignal.timeout(ISSUER_FETCH_SECONDS * 1000);
  try {
    const url = source.keysUrl ?? (await discoverKeysUrl(source.issuer, signal));
    const keys = keySetSchema.safeParse(await fetchJson(url, signal));
    if (!keys.success) throw new IssuerFailure(`${url} has no set of keys`);
    const nowMs = Date.now();
    return { keys: keys.data, fetchedAtMs: nowMs, triedAtMs: nowMs, failure: null };
  } catch (error) {
    if (!(error instanceof IssuerFailure)) throw error;
    const nowMs = Date.now();
    // Keys that were asked for again too soon for their own end stay good.
    const failed = { triedAtMs: nowMs, failure: error.message };
    const isStale = known === undefined || nowMs - known.fetchedAtMs >= ISSUER_KEYS_KEPT_SECONDS * 1000;
    return isStale ? { keys: null, fetchedAtMs: nowMs, ...failed } : { ...known, ...failed };
  }
}

/** RFC 7517 section 5; what a key must have is judged where it is used. */
const keySetSchema = z.object({ keys: z.array(z.looseObject({ kty: z.string() })) });

const configurationSchema = z.object({ issuer: z.string(), jwks_uri: z.string() });

/** OpenID Connect Discovery 1.0 sections 4.1 to 4.3. */
async function discoverKeysUrl(issuer: string, signal: AbortSignal): Promise<string> {
  const url = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const configuration = configurationSchema.safeParse(await fetchJson(url, signal));
  if (!configuration.success) throw new IssuerFailure(`${url} is no OpenID configuration`);
  const { issuer: said, jwks_uri: keysUrl } = configuration.data;
  if (said !== issuer) throw new IssuerFailure(`${url} is the configuration of another issuer`);
  if (!mayHaveKeys(keysUrl, issuer))
    throw new IssuerFailure(`${url} names a jwks_uri that is not on https, or on this machine`);
  return keysUrl;
}

/** On https, and on this machine only where the issuer itself is: a stranger is not to send us to our neighbours. */
function mayHaveKeys(keysUrl: string, issuer: string): boolean {
  if (!URL.canParse(keysUrl)) return false;
  const { protocol, origin, hostname, username, password } = new URL(keysUrl);
  if (username !== "" || password !== "") return false;
  return origin === new URL(issuer).origin || (protocol === "https:" && !isLoopback(hostname));
}

/** @throws IssuerFailure */
async function fetchJson(url: string, signal: AbortSignal): Promise<unknown> {
  try {
    const response = await fetch(url, { headers: { Accept: "application/json" }, redirect: "manual", signal });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new IssuerFailure(`${url} answered ${String(response.status)}`);
    }
    const text = await readText(response, url);
    try {
      const value: unknown = JSON.parse(text);
      return value;
    } catch {
      throw new IssuerFailure(`${url} is no JSON`);
    }
  } catch (error) {
    if (error instanceof IssuerFailure) throw error;
    // What else fails here is the network.
    const why = signal.aborted ? `did not answer within ${String(ISSUER_FETCH_SECONDS)} seconds` : "can't be reached";
    throw new IssuerFailure(`${url} ${why}`, { cause: error });
  }
}

async function readText(response: Response, url: string): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  const body: AsyncIterable<Uint8Array> | null = response.body;
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > ISSUER_DOCUMENT_MAX_BYTES) {
      throw new IssuerFailure(`${url} has more than ${String(ISSUER_DOCUMENT_MAX_BYTES)} bytes`);
    }
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}
