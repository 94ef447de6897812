/** An OpenID Connect issuer on this machine, which signs with keys of its own, and can be made to fail. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { gzipSync } from "node:zlib";
import {
  base64url,
  type CryptoKey,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWK,
  type JWTHeaderParameters,
  SignJWT,
} from "jose";

export type SigningAlgorithm = "RS256" | "ES256" | "EdDSA";

/** What the issuer does when its keys are asked for. */
export type KeysBehaviour =
  | "answers"
  /** takes the request, and never says anything */
  | "hangs"
  /** says that all is well, and never ends its body */
  | "trickles"
  /** goes on and on, a letter at a time */
  | "drips"
  /** a well-formed set of some 100 KiB */
  | "is huge"
  /** some 50 KiB on the wire, 50 MiB of it */
  | "is a gzip bomb"
  /** to where the keys are */
  | "redirects"
  | "fails"
  | "is no JSON"
  | "has no keys";

export interface SignOptions {
  readonly algorithm?: SigningAlgorithm;
  /** what else the header says, or instead */
  readonly header?: Partial<JWTHeaderParameters>;
}

interface Key {
  readonly id: string;
  readonly algorithm: SigningAlgorithm;
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly jwk: JWK;
}

const algorithms: readonly SigningAlgorithm[] = ["RS256", "ES256", "EdDSA"];

export class OidcIssuer {
  /** as its tokens have it in `iss`; without a slash at its end */
  readonly url: string;
  /** the paths that were asked for, in order */
  readonly asked: string[] = [];
  keysBehaviour: KeysBehaviour = "answers";
  /** what its OpenID configuration says instead */
  configuration: Readonly<Record<string, unknown>> = {};
  /** what it makes of its keys before it tells them */
  publish: (keys: readonly JWK[]) => readonly unknown[] = (keys) => keys;
  #keys: readonly Key[];
  readonly #close: () => void;

  private constructor(url: string, keys: readonly Key[], close: () => void) {
    this.url = url;
    this.#keys = keys;
    this.#close = close;
  }

  /**
   * At an address that no issuer of this file had: the kernel gives the port of one that was closed to another, and the
   * rules that a registry keeps of the first would take the tokens of the second.
   *
   * @param host an IPv4 address of this machine
   */
  static async start(host = "127.0.0.1"): Promise<OidcIssuer> {
    const server = createServer((request, response) => issuer.#answer(request, response));
    const url = await listenAtNewUrl(server, host);
    const issuer: OidcIssuer = new OidcIssuer(url, await newKeys(), () => {
      server.closeAllConnections();
      server.close();
    });
    return issuer;
  }

  /** Ends what hangs, too. */
  close(): void {
    this.#close();
  }

  /** From now on it signs with other keys, and tells those alone. */
  async rotate(): Promise<void> {
    this.#keys = await newKeys();
  }

  /** The claims of a token that is good for five minutes from now, but for those that are given; undefined takes one away. */
  claims(given: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: this.url, sub: "a job", kind: "job", iat: now, nbf: now, exp: now + 300, ...given };
    return Object.fromEntries(Object.entries(claims).filter(([, value]) => value !== undefined));
  }

  async sign(given: Readonly<Record<string, unknown>> = {}, options: SignOptions = {}): Promise<string> {
    const { id, privateKey, algorithm } = this.#key(options.algorithm ?? "RS256");
    return new SignJWT(this.claims(given))
      .setProtectedHeader({ alg: algorithm, kid: id, typ: "JWT", ...options.header })
      .sign(privateKey, { crit: { "urn:test": true } });
  }

  /** As who knows the public key alone would sign: with HMAC, and the key's PEM text as the secret. */
  async signWithPublicKey(given: Readonly<Record<string, unknown>> = {}): Promise<string> {
    const { id, publicKey } = this.#key("RS256");
    const secret = new TextEncoder().encode(await exportSPKI(publicKey));
    return new SignJWT(this.claims(given)).setProtectedHeader({ alg: "HS256", kid: id }).sign(secret);
  }

  /** `alg: none`, RFC 7519 section 6. */
  unsigned(given: Readonly<Record<string, unknown>> = {}): string {
    const { id } = this.#key("RS256");
    return `${encode({ alg: "none", kid: id })}.${encode(this.claims(given))}.`;
  }

  publicKey(algorithm: SigningAlgorithm): JWK {
    return this.#key(algorithm).jwk;
  }

  #key(algorithm: SigningAlgorithm): Key {
    const key = this.#keys.find((known) => known.algorithm === algorithm);
    if (key === undefined) throw new Error(`the issuer has no key for ${algorithm}`);
    return key;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? "/";
    this.asked.push(path);
    if (path === "/.well-known/openid-configuration") {
      json(response, { issuer: this.url, jwks_uri: `${this.url}/keys`, ...this.configuration });
    } else if (path === "/keys" || path === "/cdn-cgi/access/certs") {
      this.#answerKeys(response);
    } else if (path === "/moved") {
      json(response, this.#keySet());
    } else {
      response.writeHead(404).end();
    }
  }

  #answerKeys(response: ServerResponse): void {
    switch (this.keysBehaviour) {
      case "answers":
        return json(response, this.#keySet());
      case "hangs":
        return undefined;
      case "trickles":
        response.writeHead(200, { "Content-Type": "application/json" });
        response.write('{"keys":[');
        return undefined;
      case "drips":
        return drip(response);
      case "is a gzip bomb":
        response.writeHead(200, { "Content-Type": "application/json", "Content-Encoding": "gzip" });
        response.end(gzipSync(JSON.stringify({ ...this.#keySet(), padding: "x".repeat(50 * 1024 * 1024) })));
        return undefined;
      case "is huge":
        return json(response, { ...this.#keySet(), padding: "x".repeat(100 * 1024) });
      case "redirects":
        response.writeHead(302, { Location: `${this.url}/moved` }).end();
        return undefined;
      case "fails":
        response.writeHead(500).end("no");
        return undefined;
      case "is no JSON":
        response.writeHead(200, { "Content-Type": "application/json" }).end("<html>");
        return undefined;
      case "has no keys":
        return json(response, { keys: "none" });
      default:
        return this.keysBehaviour satisfies never;
    }
  }

  #keySet() {
    // As Cloudflare Access has it: more beside the keys.
    return { keys: this.publish(this.#keys.map(({ jwk }) => jwk)), public_certs: [] };
  }
}

const urlsBefore = new Set<string>();

async function listenAtNewUrl(server: Server, host: string): Promise<string> {
  for (;;) {
    server.listen(0, host);
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("the issuer has no port");
    const url = `http://${host}:${String(address.port)}`;
    if (!urlsBefore.has(url)) {
      urlsBefore.add(url);
      return url;
    }
    server.close();
    await once(server, "close");
  }
}

function drip(response: ServerResponse): void {
  response.writeHead(200, { "Content-Type": "application/json" });
  const timer = setInterval(() => response.write(" "), 50);
  response.once("close", () => clearInterval(timer));
}

async function newKeys(): Promise<readonly Key[]> {
  return Promise.all(
    algorithms.map(async (algorithm) => {
      const { privateKey, publicKey } = await generateKeyPair(algorithm, { extractable: true });
      const id = crypto.randomUUID();
      const jwk = { ...(await exportJWK(publicKey)), kid: id, alg: algorithm, use: "sig" };
      return { id, algorithm, privateKey, publicKey, jwk };
    }),
  );
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(value));
}

function encode(value: unknown): string {
  return base64url.encode(JSON.stringify(value));
}
