/** Certificates for tests, made in place: X.509 (RFC 5280) in DER (X.690), signed with ECDSA over P-256. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";

export interface Certificate {
  /** PEM */
  readonly cert: string;
  /** PEM */
  readonly key: string;
}

export interface Authority extends Certificate {
  readonly name: string;
}

export interface CertificateOptions {
  /** the host that it is for, an IP address of four bytes or a name */
  readonly host: string;
  /** ms since 1970 */
  readonly validFromMs: number;
  readonly validToMs: number;
}

const dayMs = 86_400_000;

export function makeAuthority(): Authority {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const name = `authority of a test ${randomBytes(4).toString("hex")}`;
  const validity = { validFromMs: Date.now() - 3650 * dayMs, validToMs: Date.now() + 3650 * dayMs };
  const extensions = [
    // basicConstraints, critical: it is an authority
    sequence(oid("551d13"), boolean(true), octets(sequence(boolean(true)))),
  ];
  const cert = certificate({ subject: name, issuer: name, publicKey, signedBy: privateKey, ...validity }, extensions);
  return { name, cert, key: pemOfKey(privateKey) };
}

/** @param authority signs it; without one it signs itself */
export function makeCertificate(options: CertificateOptions, authority?: Authority): Certificate {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const signedBy = authority === undefined ? privateKey : authority.key;
  const issuer = authority?.name ?? options.host;
  const extensions = [sequence(oid("551d11"), octets(sequence(generalName(options.host))))];
  const cert = certificate({ subject: options.host, issuer, publicKey, signedBy, ...options }, extensions);
  return { cert, key: pemOfKey(privateKey) };
}

interface Parts {
  readonly subject: string;
  readonly issuer: string;
  readonly publicKey: KeyObject;
  readonly signedBy: KeyObject | string;
  readonly validFromMs: number;
  readonly validToMs: number;
}

function certificate(parts: Parts, extensions: readonly Buffer[]): string {
  const ecdsaWithSha256 = sequence(oid("2a8648ce3d040302"));
  const body = sequence(
    tagged(0xa0, tagged(0x02, Buffer.from([2]))),
    tagged(0x02, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ecdsaWithSha256,
    nameOf(parts.issuer),
    sequence(time(parts.validFromMs), time(parts.validToMs)),
    nameOf(parts.subject),
    parts.publicKey.export({ type: "spki", format: "der" }),
    tagged(0xa3, sequence(...extensions)),
  );
  const signature = sign("sha256", body, parts.signedBy);
  const der = sequence(body, ecdsaWithSha256, tagged(0x03, Buffer.concat([Buffer.from([0]), signature])));
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`;
}

function pemOfKey(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }).toString();
}

function tagged(tag: number, content: Buffer): Buffer {
  const { byteLength: length } = content;
  const bytes = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...bytes]), content]);
}

function sequence(...contents: readonly Buffer[]): Buffer {
  return tagged(0x30, Buffer.concat(contents));
}

function octets(content: Buffer): Buffer {
  return tagged(0x04, content);
}

function oid(hex: string): Buffer {
  return tagged(0x06, Buffer.from(hex, "hex"));
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.from([value ? 0xff : 0]));
}

/** With a common name alone. */
function nameOf(commonName: string): Buffer {
  return sequence(tagged(0x31, sequence(oid("550403"), tagged(0x0c, Buffer.from(commonName)))));
}

function generalName(host: string): Buffer {
  const isAddress = /^\d+(?:\.\d+){3}$/.test(host);
  return isAddress ? tagged(0x87, Buffer.from(host.split(".").map(Number))) : tagged(0x82, Buffer.from(host));
}

/** GeneralizedTime, to the second. */
function time(atMs: number): Buffer {
  const digits = new Date(atMs).toISOString().replaceAll(/[-:T]/g, "").slice(0, 14);
  return tagged(0x18, Buffer.from(`${digits}Z`));
}
