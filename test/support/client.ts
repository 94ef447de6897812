/**
 * A small OCI client for tests. It needs nothing but `fetch` and WebCrypto, so it drives a registry over a socket
 * (Node) and a Worker in its own isolate (workerd) alike.
 *
 * Methods named after a request return the answer as it came, whatever its status: tests look at it. Methods that
 * begin with `push` are for getting content in place; they throw where the registry does not take it.
 */

export type Fetch = (url: string, init?: RequestInit) => Promise<Response>;
export type Bytes = Uint8Array<ArrayBuffer>;
export type DigestAlgorithm = "sha256" | "sha512";
export type Query = Readonly<Record<string, string | number | readonly string[]>>;

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  /** bytes */
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface RequestOptions {
  readonly query?: Query;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Bytes | string;
}

/** What distribution-spec v1.1.1 «Listing Tags» answers. */
export interface TagList {
  readonly name: string;
  readonly tags: readonly string[];
}

/** What distribution-spec v1.1.1 «Listing Referrers» answers. */
export interface ReferrersIndex {
  readonly schemaVersion: number;
  readonly mediaType: string;
  readonly manifests: readonly Descriptor[];
}

export const octetStream = "application/octet-stream";
export const imageManifest = "application/vnd.oci.image.manifest.v1+json";
export const imageIndex = "application/vnd.oci.image.index.v1+json";
export const dockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
export const dockerManifestList = "application/vnd.docker.distribution.manifest.list.v2+json";

/** What real clients say; some registries answer 404 for a type that is not accepted. */
const acceptedManifests = [imageManifest, imageIndex, dockerManifest, dockerManifestList, "*/*"].join(", ");

export function utf8(text: string): Bytes {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** The digest of bytes, image-spec v1.1.1 «Digests». */
export async function digestOf(bytes: Bytes, algorithm: DigestAlgorithm = "sha256"): Promise<string> {
  const hash = await crypto.subtle.digest(algorithm === "sha256" ? "SHA-256" : "SHA-512", bytes);
  const hex = [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${algorithm}:${hex}`;
}

/** An answer with a status that the caller had no use for. */
export class UnexpectedAnswer extends Error {
  readonly status: number;

  constructor(request: string, status: number, body: string) {
    super(`${request} was answered ${String(status)}: ${body.slice(0, 2000)}`);
    this.name = "UnexpectedAnswer";
    this.status = status;
  }
}

/** A registry at a base URL such as `http://localhost:8787`, without a slash at its end. */
export class RegistryClient {
  readonly baseUrl: string;
  readonly #fetch: Fetch;
  readonly #authorization: string | null;

  /** @param authorization the header that goes with every request; null: none */
  constructor(baseUrl: string, fetchFunction: Fetch, authorization: string | null = null) {
    this.baseUrl = baseUrl.replace(/\/+$/, "");
    this.#fetch = fetchFunction;
    this.#authorization = authorization;
  }

  /** The same registry, as somebody else; null: as nobody. */
  as(authorization: string | null): RegistryClient {
    return new RegistryClient(this.baseUrl, this.#fetch, authorization);
  }

  repository(name: string): RepositoryClient {
    return new RepositoryClient(this, name);
  }

  /** `target` is a path or what a `Location` said: absolute, or relative to the registry. */
  resolve(target: string, query: Query = {}): string {
    const url = new URL(target, `${this.baseUrl}/`);
    for (const [key, value] of Object.entries(query)) {
      const values = typeof value === "object" ? value : [String(value)];
      for (const each of values) url.searchParams.append(key, each);
    }
    return url.href;
  }

  async request(method: string, target: string, options: RequestOptions = {}): Promise<Response> {
    const authorization = this.#authorization === null ? {} : { Authorization: this.#authorization };
    const init: RequestInit = { method, headers: { ...authorization, ...options.headers } };
    if (options.body !== undefined) init.body = options.body;
    return this.#fetch(this.resolve(target, options.query), init);
  }

  ping(method = "GET"): Promise<Response> {
    return this.request(method, "/v2/");
  }

  listRepositories(query: Query = {}): Promise<Response> {
    return this.request("GET", "/v2/_catalog", { query });
  }
}

/** One repository of a registry; each method says its endpoint. */
export class RepositoryClient {
  readonly registry: RegistryClient;
  readonly name: string;

  constructor(registry: RegistryClient, name: string) {
    this.registry = registry;
    this.name = name;
  }

  request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    return this.registry.request(method, `/v2/${this.name}/${path}`, options);
  }

  /** end-2 */
  getBlob(digest: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return this.request("GET", `blobs/${digest}`, { headers });
  }

  /** end-2 */
  headBlob(digest: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return this.request("HEAD", `blobs/${digest}`, { headers });
  }

  /** end-10 */
  deleteBlob(digest: string): Promise<Response> {
    return this.request("DELETE", `blobs/${digest}`);
  }

  /** end-3 */
  getManifest(reference: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return this.request("GET", `manifests/${reference}`, { headers: { Accept: acceptedManifests, ...headers } });
  }

  /** end-3 */
  headManifest(reference: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
    return this.request("HEAD", `manifests/${reference}`, { headers: { Accept: acceptedManifests, ...headers } });
  }

  /** end-7a; with `tags` end-7b */
  putManifest(
    reference: string,
    manifest: Bytes | string,
    mediaType: string = imageManifest,
    tags: readonly string[] = [],
  ): Promise<Response> {
    return this.request("PUT", `manifests/${reference}`, {
      query: { tag: tags },
      headers: { "Content-Type": mediaType },
      body: manifest,
    });
  }

  /** end-9 */
  deleteManifest(reference: string): Promise<Response> {
    return this.request("DELETE", `manifests/${reference}`);
  }

  /** end-8 */
  listTags(query: Query = {}): Promise<Response> {
    return this.request("GET", "tags/list", { query });
  }

  /** end-12 */
  listReferrers(digest: string, query: Query = {}): Promise<Response> {
    return this.request("GET", `referrers/${digest}`, { query });
  }

  /** end-4a; `digest-algorithm` makes it end-4c, `digest` and a body end-4b, `mount` end-11 */
  startUpload(query: Query = {}, body?: Bytes): Promise<Response> {
    const options = body === undefined ? {} : { headers: { "Content-Type": octetStream }, body };
    return this.request("POST", "blobs/uploads/", { query, ...options });
  }

  /** end-11 */
  mountBlob(digest: string, from?: string): Promise<Response> {
    return this.startUpload(from === undefined ? { mount: digest } : { mount: digest, from });
  }

  /** end-5; `start` is the offset of the chunk in bytes, for its Content-Range: none is sent without it */
  appendChunk(location: string, chunk: Bytes, start?: number): Promise<Response> {
    return this.registry.request("PATCH", location, { headers: chunkHeaders(chunk, start), body: chunk });
  }

  /** end-6 */
  finishUpload(location: string, digest: string, chunk?: Bytes, start?: number): Promise<Response> {
    const options = chunk === undefined ? {} : { headers: chunkHeaders(chunk, start), body: chunk };
    return this.registry.request("PUT", location, { query: { digest }, ...options });
  }

  /** end-13 */
  uploadStatus(location: string): Promise<Response> {
    return this.registry.request("GET", location);
  }

  /** end-14 */
  cancelUpload(location: string): Promise<Response> {
    return this.registry.request("DELETE", location);
  }

  /** POST, then PUT. @throws UnexpectedAnswer */
  async pushBlob(
    bytes: Bytes,
    options: { readonly algorithm?: DigestAlgorithm; readonly mediaType?: string } = {},
  ): Promise<Descriptor> {
    const digest = await digestOf(bytes, options.algorithm);
    const started = await expectStatus(await this.startUpload(), 202);
    await expectStatus(await this.finishUpload(locationOf(started), digest, bytes), 201);
    return { mediaType: options.mediaType ?? octetStream, digest, size: bytes.length };
  }

  /** Stores a manifest under its digest, or under a tag. @throws UnexpectedAnswer */
  async pushManifest(
    manifest: object | Bytes,
    options: { readonly reference?: string; readonly algorithm?: DigestAlgorithm; readonly mediaType?: string } = {},
  ): Promise<Descriptor> {
    const bytes = manifest instanceof Uint8Array ? new Uint8Array(manifest) : utf8(JSON.stringify(manifest));
    const declared = "mediaType" in manifest && typeof manifest.mediaType === "string" ? manifest.mediaType : undefined;
    const mediaType = options.mediaType ?? declared ?? imageManifest;
    const digest = await digestOf(bytes, options.algorithm);
    await expectStatus(await this.putManifest(options.reference ?? digest, bytes, mediaType), 201);
    return { mediaType, digest, size: bytes.length };
  }
}

/** The Location of an answer. @throws Error where it has none */
export function locationOf(response: Response): string {
  const location = response.headers.get("Location");
  if (location === null) throw new Error(`an answer ${String(response.status)} without a Location`);
  return location;
}

/** @throws UnexpectedAnswer with the body, where the status is another */
export async function expectStatus(response: Response, status: number): Promise<Response> {
  if (response.status === status) return response;
  throw new UnexpectedAnswer(response.url, response.status, await response.text());
}

function chunkHeaders(chunk: Bytes, start: number | undefined): Record<string, string> {
  const range = start === undefined ? {} : { "Content-Range": `${String(start)}-${String(start + chunk.length - 1)}` };
  return { "Content-Type": octetStream, ...range };
}
