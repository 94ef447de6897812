import { z } from "zod";
import { ARTIFACT_TYPE_MAX_CHARACTERS, MANIFEST_MAX_CONTAINERS, MANIFEST_MAX_DEPTH } from "../limits.ts";
import { type Descriptor, descriptorSchema } from "./descriptor.ts";
import type { Digest } from "./digest.ts";
import { OciError, zodReason } from "./errors.ts";
import {
  imageIndex,
  imageManifest,
  isMediaType,
  isNonDistributable,
  isSchema1,
  type ManifestKind,
  manifestKind,
} from "./media-types.ts";

/** Content that a manifest names, other than its subject. */
export interface ManifestReference {
  readonly digest: Digest;
  /** bytes, as the descriptor says */
  readonly size: number;
  /** A `child` is a descriptor of an index: a manifest or, for older build caches, a blob. */
  readonly kind: "blob" | "child";
  /** Whether the repository must have it before it takes the manifest. */
  readonly required: boolean;
}

export interface Manifest {
  readonly mediaType: string;
  /** The text, where the bytes are valid UTF-8; else null, and only the bytes are the manifest. */
  readonly text: string | null;
  readonly references: readonly ManifestReference[];
  readonly subject: Digest | null;
  /** As the referrers API shows it: the manifest's own, else the config's media type (distribution-spec v1.1.1 end-12). */
  readonly artifactType: string | null;
  readonly annotations: Readonly<Record<string, string>> | null;
  /** Sentences for `Warning` headers: accepted, but unwise. */
  readonly warnings: readonly string[];
}

const shared = {
  mediaType: z.string().nullish(),
  // A media type by image-spec; its form is not insisted on, but it is a column, and rides in every referrers list.
  artifactType: z.string().max(ARTIFACT_TYPE_MAX_CHARACTERS).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  subject: descriptorSchema.nullish(),
};

/** Of a list that may be anything, the entries that are descriptors. */
const readableDescriptors = z
  .unknown()
  .optional()
  .transform((value) => {
    const entries: readonly unknown[] = Array.isArray(value) ? value : [];
    return entries.flatMap((entry) => {
      const parsed = descriptorSchema.safeParse(entry);
      return parsed.success ? [parsed.data] : [];
    });
  });

const schemas = {
  image: z.looseObject({
    ...shared,
    schemaVersion: z.literal(2),
    config: descriptorSchema,
    layers: z.array(descriptorSchema).nullish(),
  }),
  index: z.looseObject({
    ...shared,
    schemaVersion: z.literal(2),
    manifests: z.array(descriptorSchema).nullish(),
  }),
  artifact: z.looseObject({ ...shared, blobs: z.array(descriptorSchema).nullish() }),
  // A type that nobody told us of: whatever it has of the known fields is kept from the collector.
  custom: z.looseObject({
    ...shared,
    config: descriptorSchema.nullish().catch(undefined),
    layers: readableDescriptors,
    blobs: readableDescriptors,
    manifests: readableDescriptors,
  }),
} satisfies Record<ManifestKind, z.ZodType>;

/** Every field that any kind has, so that one walk collects the references of each. */
interface Fields {
  readonly mediaType?: string | null | undefined;
  readonly artifactType?: string | null | undefined;
  readonly annotations?: Record<string, string> | null | undefined;
  readonly subject?: Descriptor | null | undefined;
  readonly config?: Descriptor | null | undefined;
  readonly layers?: readonly Descriptor[] | null | undefined;
  readonly blobs?: readonly Descriptor[] | null | undefined;
  readonly manifests?: readonly Descriptor[] | null | undefined;
}

/**
 * Reads a manifest. The bytes are never changed: what is stored is what came.
 * @param headerType media type of the Content-Type header, "" where there was none
 * @throws OciError MANIFEST_INVALID with the field that is wrong
 */
export function parseManifest(bytes: Uint8Array, headerType: string): Manifest {
  const { text, readable } = decode(bytes);
  refuseUnreadable(readable);
  const json = parseObject(readable);
  const mediaType = agreeOnMediaType(json, headerType);
  const kind = manifestKind(mediaType);
  const fields = parseFields(kind, json);
  refuseAmbiguity(kind, json);

  const warnings: string[] = [];
  if (kind === "custom") {
    warnings.push(
      `media type ${mediaType} is not one that this registry knows: what its config, layers, blobs and manifests name is kept`,
    );
  }
  if ((fields.mediaType ?? undefined) === undefined && kind !== "artifact") {
    warnings.push("the manifest has no mediaType field; clients then rely on the Content-Type header alone");
  }
  if (text === null) warnings.push("the manifest is not valid UTF-8, which RFC 8259 asks of JSON");

  return {
    mediaType,
    text,
    references: referencesOf(fields),
    subject: fields.subject?.digest ?? null,
    artifactType: artifactTypeOf(kind, fields),
    annotations: (fields.annotations ?? null) === null ? null : annotationsOf(json),
    warnings,
  };
}

function decode(bytes: Uint8Array): { text: string | null; readable: string } {
  try {
    // ignoreBOM keeps a byte order mark in the text, so that the text is the bytes exactly.
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { text, readable: text };
  } catch {
    return { text: null, readable: new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes) };
  }
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new OciError(
      "MANIFEST_INVALID",
      `the manifest is not JSON: ${error instanceof Error ? error.message : "unreadable"}`,
    );
  }
  const object = z.record(z.string(), z.unknown()).safeParse(json);
  if (!object.success || Array.isArray(json)) {
    throw new OciError("MANIFEST_INVALID", "a manifest is a JSON object");
  }
  return object.data;
}

function agreeOnMediaType(json: Readonly<Record<string, unknown>>, headerType: string): string {
  const field = json["mediaType"] ?? undefined;
  if (field !== undefined && typeof field !== "string") {
    throw new OciError("MANIFEST_INVALID", "mediaType: is not a string");
  }
  if (field !== undefined && headerType !== "" && field.toLowerCase() !== headerType) {
    throw new OciError("MANIFEST_INVALID", {
      reason: "the Content-Type header contradicts the manifest's mediaType field; send the same in both",
      contentType: headerType,
      mediaType: field,
    });
  }
  const mediaType = field ?? (headerType === "" ? inferMediaType(json) : headerType);
  if (!isMediaType(mediaType)) {
    throw new OciError("MANIFEST_INVALID", {
      reason: "the manifest's media type is not of the form type/subtype",
      mediaType,
    });
  }
  if (isSchema1(mediaType)) {
    throw new OciError("MANIFEST_INVALID", {
      reason: "Docker image manifest schema 1 is not supported; push the image as schema 2 or OCI",
      mediaType,
    });
  }
  return mediaType;
}

function inferMediaType(json: Readonly<Record<string, unknown>>): string {
  if (Array.isArray(json["manifests"])) return imageIndex;
  if (typeof json["config"] === "object") return imageManifest;
  throw new OciError(
    "MANIFEST_INVALID",
    "the manifest has neither a mediaType field nor a Content-Type header; send its type",
  );
}

function parseFields(kind: ManifestKind, json: Readonly<Record<string, unknown>>): Fields {
  const parsed = schemas[kind].safeParse(json);
  if (parsed.success) return parsed.data;
  throw new OciError("MANIFEST_INVALID", zodReason(parsed.error));
}

/** distribution-spec v1.1.1 «Listing Referrers»: where it is empty or missing, an image has its config's media type. */
function artifactTypeOf(kind: ManifestKind, { artifactType, config }: Fields): string | null {
  if ((artifactType ?? "") !== "") return artifactType ?? null;
  return kind === "index" ? null : (config?.mediaType ?? null);
}

/** As they were sent: the schema's own copy would lose a key of `__proto__`. */
function annotationsOf({ annotations }: Readonly<Record<string, unknown>>): Record<string, string> {
  const entries = Object.entries(annotations ?? {}).filter(
    (entry): entry is [string, string] => typeof entry[1] === "string",
  );
  return Object.fromEntries(entries);
}

/** One document must not be an image to one client and an index to another (CVE-2021-41190). */
function refuseAmbiguity(kind: ManifestKind, json: Readonly<Record<string, unknown>>): void {
  const foreign = kind === "image" ? ["manifests"] : kind === "index" ? ["config", "layers"] : [];
  for (const field of foreign) {
    if (json[field] !== undefined && json[field] !== null) {
      throw new OciError("MANIFEST_INVALID", `${field}: does not belong in a manifest of this media type`);
    }
  }
}

function referencesOf(fields: Fields): readonly ManifestReference[] {
  const found = new Map<Digest, ManifestReference>();
  const add = (descriptor: Descriptor, kind: "blob" | "child", required: boolean): void => {
    const earlier = found.get(descriptor.digest);
    if (earlier !== undefined && earlier.size !== descriptor.size) {
      throw new OciError("SIZE_INVALID", {
        reason: "two descriptors of one digest have different sizes",
        digest: descriptor.digest,
        sizes: [earlier.size, descriptor.size],
      });
    }
    if (earlier?.required === true && !required) return;
    found.set(descriptor.digest, { digest: descriptor.digest, size: descriptor.size, kind, required });
  };
  if (fields.config) add(fields.config, "blob", true);
  for (const layer of fields.layers ?? []) add(layer, "blob", !isNonDistributable(layer.mediaType));
  for (const blob of fields.blobs ?? []) add(blob, "blob", true);
  for (const child of fields.manifests ?? []) add(child, "child", true);
  return [...found.values()];
}

/** JSON of thousands of brackets is cheap to send, and costs every later reader its stack and its memory. */
function refuseUnreadable(text: string): void {
  let depth = 0;
  let containers = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (inString) {
      if (code === BACKSLASH) at++;
      else if (code === QUOTE) inString = false;
    } else if (code === QUOTE) inString = true;
    else if (code === BRACE || code === BRACKET) {
      depth++;
      containers++;
    } else if (code === END_BRACE || code === END_BRACKET) depth--;
    if (depth > MANIFEST_MAX_DEPTH) {
      throw new OciError(
        "MANIFEST_INVALID",
        `the manifest is nested more than ${String(MANIFEST_MAX_DEPTH)} levels deep`,
      );
    }
    if (containers > MANIFEST_MAX_CONTAINERS) {
      const most = String(MANIFEST_MAX_CONTAINERS);
      throw new OciError("MANIFEST_INVALID", `the manifest has more than ${most} objects and arrays`);
    }
  }
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const [BRACE, END_BRACE, BRACKET, END_BRACKET] = [0x7b, 0x7d, 0x5b, 0x5d];

/** The entry of a manifest in a referrers list: distribution-spec v1.1.1 end-12a. */
export function referrerDescriptor(
  manifest: Pick<Manifest, "mediaType" | "artifactType" | "annotations">,
  digest: Digest,
  size: number,
): string {
  return JSON.stringify({
    mediaType: manifest.mediaType,
    digest,
    size,
    ...(manifest.artifactType === null ? {} : { artifactType: manifest.artifactType }),
    ...(manifest.annotations === null ? {} : { annotations: manifest.annotations }),
  });
}
