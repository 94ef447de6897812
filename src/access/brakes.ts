import {
  BRAKE_SECONDS,
  BRAKED_KEPT_MAX,
  FAILED_LOGINS_MAX,
  LOGINS_AT_ONCE_MAX,
  REQUESTS_PER_COUNT,
  REQUESTS_WAIT_SECONDS,
} from "../limits.ts";
import { OciError } from "../oci/errors.ts";
import { Kept } from "./kept.ts";
import { Tally } from "./tally.ts";
import { administrator, anonymous, type Principal } from "../requester.ts";

/**
 * Against guessing, and against one who takes all. The counters are the platform's (Rate Limiting binding): one for
 * each location, shared by its isolates.
 */

/** Addresses whose failures have reached the limit, by the end of it, ms: their next guess is not even looked at. */
const braked = new Kept<number>(BRAKED_KEPT_MAX);

/** Failed logins by address, of this isolate alone: known at once, where the platform's counter is to be asked. */
const failures = new Tally(BRAKED_KEPT_MAX, BRAKE_SECONDS);

/** Logins by address whose outcome is not known yet: no more guesses come through by coming all at once. */
const underWay = new Map<string, number>();

/**
 * Looks into a login, unless its address has guessed wrong too often. Only where something is compared or looked up: what
 * is known to be right is no guess, and an address is often that of a whole office.
 * @throws OciError TOOMANYREQUESTS
 */
export async function attemptLogin<T>(address: string | null, nowMs: number, look: () => Promise<T>): Promise<T> {
  const key = keyOf(address);
  requireNotBraked(key, nowMs);
  const others = underWay.get(key) ?? 0;
  if (others >= LOGINS_AT_ONCE_MAX) throw tooMany("too many logins at once from this address", 1000);
  underWay.set(key, others + 1);
  try {
    return await look();
  } finally {
    const left = (underWay.get(key) ?? 1) - 1;
    if (left === 0) underWay.delete(key);
    else underWay.set(key, left);
  }
}

/**
 * Counts a failed login. Those that succeed count nothing: a farm of machines behind one address logs in all day.
 * @throws OciError TOOMANYREQUESTS where the address was braked before this one's outcome was known
 */
export async function countFailedLogin(env: Env, address: string | null, nowMs: number): Promise<void> {
  const key = keyOf(address);
  requireNotBraked(key, nowMs);
  const brakedUntilMs = nowMs + BRAKE_SECONDS * 1000;
  const brake = (): void => braked.set(key, brakedUntilMs, brakedUntilMs);
  if (failures.add(key, nowMs) >= FAILED_LOGINS_MAX) brake();
  if (!(await env.FAILED_LOGINS.limit({ key })).success) brake();
}

function requireNotBraked(key: string, nowMs: number): void {
  const untilMs = braked.get(key, nowMs);
  if (untilMs !== undefined) throw tooMany("too many failed logins from this address", untilMs - nowMs);
}

/** Requests of a principal that this isolate has not told the platform's counter yet. */
const untold = new Kept<{ count: number }>(BRAKED_KEPT_MAX);

/** Principals, and addresses, that have had too many requests, by the time until which they wait, ms. */
const waiting = new Kept<number>(BRAKED_KEPT_MAX);

/**
 * Counts a request of a principal; of an address, where nobody logged in. Not of the administrator, who must come in
 * to mend whatever it is. The platform's counter is asked once in REQUESTS_PER_COUNT: it costs as much as five warm pulls
 * in the local runtime.
 * @returns undefined where the counter is not asked: a promise would cost more than all the rest
 * @throws OciError TOOMANYREQUESTS
 */
export function countRequest(env: Env, principal: Principal, address: string | null): Promise<void> | undefined {
  if (principal.name === administrator.name) return undefined;
  const key = principal.name === anonymous.name ? `address:${keyOf(address)}` : principal.name;
  const nowMs = Date.now();
  const waitsUntilMs = waiting.get(key, nowMs);
  if (waitsUntilMs !== undefined) throw tooMany("too many requests", waitsUntilMs - nowMs);
  const known = untold.get(key, nowMs);
  if (known === undefined) {
    untold.set(key, { count: 1 }, nowMs + BRAKE_SECONDS * 1000);
    return undefined;
  }
  known.count++;
  if (known.count < REQUESTS_PER_COUNT) return undefined;
  untold.delete(key);
  return askCounter(env, key, nowMs);
}

async function askCounter(env: Env, key: string, nowMs: number): Promise<void> {
  if ((await env.REQUESTS.limit({ key })).success) return;
  const untilMs = nowMs + REQUESTS_WAIT_SECONDS * 1000;
  waiting.set(key, untilMs, untilMs);
  throw tooMany("too many requests", REQUESTS_WAIT_SECONDS * 1000);
}

/** RFC 9110 section 10.2.3. docker, podman and crane wait for so long and try again. */
function tooMany(what: string, waitMs: number): OciError {
  const seconds = Math.max(1, Math.ceil(waitMs / 1000));
  return new OciError(
    "TOOMANYREQUESTS",
    { reason: `${what}: try again in ${String(seconds)} seconds`, retryAfterSeconds: seconds },
    { headers: { "Retry-After": String(seconds) } },
  );
}

/** Of an IPv6 address the network: who has one has all 2^64 of it. */
function keyOf(address: string | null): string {
  if (address === null) return "none";
  return address.includes(":") ? networkOf(address) : address;
}

function networkOf(address: string): string {
  const [head = "", tail] = address.split("::");
  const groups = head === "" ? [] : head.split(":");
  const rest = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - rest.length);
  return [...groups, ...Array.from({ length: zeros }, () => "0"), ...rest]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":");
}
