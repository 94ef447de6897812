/**
 * Whether a registry that was just deployed works: an artifact of a few bytes is pushed, pulled by tag and by digest, found
 * as a referrer, and deleted, by its administrator. Nothing of it stays.
 */
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";

/** The registry answered, and not as it should. */
export class SmokeTestFailure extends Error {}

/** A new address, certificate or secret needs its time: what says so by no answer, or by a fault, is asked again. */
class NotYet extends Error {}

export interface SmokeTestOptions {
  readonly registry: URL;
  readonly password: string;
  /** How long all of it may be asked again, in ms. */
  readonly patienceMs?: number;
  /** Between two tries, in ms. */
  readonly pauseMs?: number;
}

const defaultPatienceMs = 60_000;
const defaultPauseMs = 2_000;
/** One request's. */
const timeoutMs = 30_000;

/** No other has it as a rule, and where one does, this one's tags and bytes are random. A list of repositories has only those with manifests. */
const repository = "moorage-smoke/test";

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const artifactType = "application/vnd.moorage.smoke-test";

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  /** bytes */
  readonly size: number;
}

interface Content {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly descriptor: Descriptor;
}

/** @throws SmokeTestFailure; what was pushed until then is deleted where it can be */
export async function smokeTest({
  registry,
  password,
  patienceMs = defaultPatienceMs,
  pauseMs = defaultPauseMs,
}: SmokeTestOptions): Promise<void> {
  const client = new SmokeClient(registry, password, { until: Date.now() + patienceMs, pauseMs });
  await client.ping();
  const pushed: string[] = [];
  try {
    await pushAndPull(client, pushed);
    await removeAll(client, pushed);
  } catch (error) {
    const left = await removeWhatCanBe(client, pushed);
    const reason = error instanceof Error ? error.message : String(error);
    throw new SmokeTestFailure(left.length === 0 ? reason : `${reason}; left behind: ${left.join(", ")}`, {
      cause: error,
    });
  }
}

/** @param pushed gets the path of each thing that is there from now on, in the order in which it is pushed */
async function pushAndPull(client: SmokeClient, pushed: string[]): Promise<void> {
  const tag = `smoke-${randomBytes(8).toString("hex")}`;
  const layer = contentOf(randomBytes(4096), "application/octet-stream");
  const config = contentOf(jsonBytes({ tag }), "application/vnd.oci.image.config.v1+json");
  const image = manifestOf({ config: config.descriptor, layers: [layer.descriptor] });
  const referrer = manifestOf({
    artifactType,
    config: config.descriptor,
    layers: [layer.descriptor],
    subject: image.descriptor,
  });

  pushed.push(`blobs/${layer.descriptor.digest}`, `blobs/${config.descriptor.digest}`);
  await client.pushInChunks(layer);
  await client.pushWhole(config);
  pushed.push(`manifests/${image.descriptor.digest}`, `manifests/${tag}`);
  await client.putManifest(tag, image);
  pushed.push(`manifests/${referrer.descriptor.digest}`);
  await client.putManifest(referrer.descriptor.digest, referrer);

  await client.expectBytes(`manifests/${tag}`, image);
  await client.expectBytes(`manifests/${image.descriptor.digest}`, image);
  await client.expectBytes(`blobs/${layer.descriptor.digest}`, layer);
  await client.expectBytes(`blobs/${config.descriptor.digest}`, config);
  await client.expectReferrer(image, referrer);
}

async function removeAll(client: SmokeClient, pushed: string[]): Promise<void> {
  const paths = pushed.toReversed();
  for (const path of paths) {
    await client.remove(path);
    pushed.pop();
  }
  for (const path of paths) await client.expectGone(path);
}

/** @returns what is there still */
async function removeWhatCanBe(client: SmokeClient, pushed: readonly string[]): Promise<string[]> {
  const left: string[] = [];
  for (const path of pushed.toReversed()) {
    const isGone = await client.remove(path).then(
      () => true,
      () => false,
    );
    if (!isGone) left.push(`${repository}/${path}`);
  }
  return left;
}

function contentOf(bytes: Uint8Array, mediaType: string): Content {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  return { bytes: new Uint8Array(bytes), descriptor: { mediaType, digest, size: bytes.length } };
}

function manifestOf(fields: object): Content {
  return contentOf(jsonBytes({ schemaVersion: 2, mediaType: manifestType, ...fields }), manifestType);
}

function jsonBytes(value: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

interface RequestContent {
  readonly body?: Uint8Array<ArrayBuffer>;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Patience {
  /** ms since 1970 */
  readonly until: number;
  readonly pauseMs: number;
}

const referrersSchema = z.object({
  manifests: z.array(z.looseObject({ digest: z.string(), artifactType: z.string().optional() })),
});

/** What the registry says of an error, distribution-spec v1.1.1 «Error Codes». */
const errorsSchema = z.object({
  errors: z.array(z.object({ code: z.string(), detail: z.looseObject({ reason: z.string() }) })).min(1),
});

/** Each method is a promise that the registry makes, asked again until `until` where there is no answer of its own. */
class SmokeClient {
  readonly #registry: URL;
  readonly #authorization: string;
  readonly #patience: Patience;

  constructor(registry: URL, password: string, patience: Patience) {
    this.#registry = registry;
    this.#authorization = `Basic ${Buffer.from(`admin:${password}`).toString("base64")}`;
    this.#patience = patience;
  }

  /** end-1 */
  async ping(): Promise<void> {
    await this.#patiently(() => this.#expect("login", 200, "GET", this.#versionTwo()));
  }

  /** end-4a, end-5, end-6: by the upload's ledger. A repeated one begins anew. */
  async pushInChunks({ bytes, descriptor }: Content): Promise<void> {
    await this.#patiently(async () => {
      const middle = Math.floor(bytes.length / 2);
      const opened = await this.#startUpload();
      const first = await this.#expect("PATCH of a blob", 202, "PATCH", opened, bytes.slice(0, middle));
      await this.#finishUpload(this.#locationOf(first), descriptor, bytes.slice(middle));
    });
  }

  /** end-4a, end-6 */
  async pushWhole({ bytes, descriptor }: Content): Promise<void> {
    await this.#patiently(async () => this.#finishUpload(await this.#startUpload(), descriptor, bytes));
  }

  /** end-7a */
  async putManifest(reference: string, { bytes, descriptor }: Content): Promise<void> {
    const url = this.#target(`manifests/${reference}`);
    await this.#patiently(() => this.#expect("PUT of a manifest", 201, "PUT", url, bytes, descriptor.mediaType));
  }

  /** end-2, end-3 */
  async expectBytes(path: string, { bytes }: Content): Promise<void> {
    await this.#patiently(async () => {
      const response = await this.#expect(`pull of ${path}`, 200, "GET", this.#target(path));
      const answered = new Uint8Array(await response.arrayBuffer());
      if (!Buffer.from(bytes).equals(answered)) {
        throw new SmokeTestFailure(`pull of ${path}: other bytes than were pushed`);
      }
    });
  }

  /** end-12a */
  async expectReferrer(subject: Content, { descriptor }: Content): Promise<void> {
    await this.#patiently(async () => {
      const url = this.#target(`referrers/${subject.descriptor.digest}`);
      const response = await this.#expect("list of referrers", 200, "GET", url);
      const list = referrersSchema.safeParse(await response.json());
      const found = list.data?.manifests.find(({ digest }) => digest === descriptor.digest);
      if (found?.artifactType !== artifactType) {
        throw new SmokeTestFailure("list of referrers: a manifest with a subject is not among its referrers");
      }
    });
  }

  /** end-9, end-10; what is gone already is gone */
  async remove(path: string): Promise<void> {
    await this.#patiently(async () => {
      const response = await this.#send("DELETE", this.#target(path));
      await response.body?.cancel();
      if (response.status !== 202 && response.status !== 404) throw unexpected(`DELETE of ${path}`, response.status);
    });
  }

  async expectGone(path: string): Promise<void> {
    await this.#patiently(() => this.#expect(`${path} after its DELETE`, 404, "HEAD", this.#target(path)));
  }

  async #startUpload(): Promise<URL> {
    const url = this.#target("blobs/uploads/");
    return this.#locationOf(await this.#expect("POST of an upload", 202, "POST", url));
  }

  async #finishUpload(location: URL, { digest }: Descriptor, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    location.searchParams.set("digest", digest);
    await this.#expect("PUT of a blob", 201, "PUT", location, bytes);
  }

  #locationOf(response: Response): URL {
    const location = response.headers.get("Location");
    const url = location !== null && URL.canParse(location, response.url) ? new URL(location, response.url) : null;
    // The password goes along: to this registry, and to nobody to whom it points.
    if (url?.origin === this.#registry.origin) return url;
    throw new SmokeTestFailure(
      `an upload's Location is ${location ?? "missing"}, which is not on ${this.#registry.origin}`,
    );
  }

  #versionTwo(): URL {
    return new URL("/v2/", this.#registry);
  }

  #target(path: string): URL {
    return new URL(`/v2/${repository}/${path}`, this.#registry);
  }

  async #expect(
    promise: string,
    status: number,
    method: string,
    url: URL,
    body?: Uint8Array<ArrayBuffer>,
    mediaType = "application/octet-stream",
  ): Promise<Response> {
    const content = body === undefined ? {} : { body, headers: { "Content-Type": mediaType } };
    const response = await this.#send(method, url, content);
    if (response.status === status) return response;
    const said = errorsSchema.safeParse(await response.json().catch(() => null)).data?.errors[0];
    throw unexpected(promise, response.status, said?.detail.reason);
  }

  /** @throws NotYet where the answer is none of the registry's, or a fault */
  async #send(method: string, url: URL, content: RequestContent = {}): Promise<Response> {
    const headers = { Accept: "*/*", ...content.headers, Authorization: this.#authorization };
    const response = await fetch(url, {
      ...content,
      method,
      headers,
      redirect: "manual",
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((error: unknown) => {
      throw new NotYet(`${this.#registry.origin} can't be reached: ${reasonOf(error)}`, { cause: error });
    });
    // workers.dev answers 404 for a name that is not yet known everywhere, and a proxy before it has pages of its own.
    if (!response.headers.has("Docker-Distribution-API-Version")) {
      await response.body?.cancel();
      throw new NotYet(`${this.#registry.origin} answers ${String(response.status)}, and not as a registry`);
    }
    if (response.status >= 500) {
      const said = errorsSchema.safeParse(await response.json().catch(() => null)).data?.errors[0];
      throw new NotYet(`${method} ${url.pathname} answers ${String(response.status)}: ${said?.detail.reason ?? ""}`);
    }
    return response;
  }

  async #patiently<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        const mayWait = error instanceof NotYet && Date.now() + this.#patience.pauseMs < this.#patience.until;
        if (!mayWait) throw error instanceof NotYet ? new SmokeTestFailure(error.message, { cause: error }) : error;
        await sleep(this.#patience.pauseMs);
      }
    }
  }
}

function unexpected(promise: string, status: number, reason?: string): SmokeTestFailure {
  const why = reason === undefined ? "" : ` (${reason})`;
  const mend = status === 401 ? "; look that ADMIN_PASSWORD is the password that the Worker has" : "";
  return new SmokeTestFailure(`${promise}: the answer is ${String(status)}${why}${mend}`);
}

/** fetch has its reason in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (cause instanceof Error) return "code" in cause && cause.message === "" ? String(cause.code) : cause.message;
  return error.message;
}
