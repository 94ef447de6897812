/** What a registry of some size holds: names, digests and counts, all told by their numbers alone. */
import { hash } from "node:crypto";
import { UsageError } from "../options.ts";

export interface ScaleCounts {
  readonly manifests: number;
  readonly repositories: number;
  readonly tags: number;
  /** tags of the one repository that has many */
  readonly largeTags: number;
  /** referrers of the one subject that has many */
  readonly largeReferrers: number;
}

export const defaultCounts: ScaleCounts = {
  manifests: 1_000_000,
  repositories: 10_000,
  tags: 2_000_000,
  largeTags: 50_000,
  largeReferrers: 10_000,
};

/** What the defaults are compared with: pages of the same size can be had from it. */
export const smallCounts: ScaleCounts = {
  manifests: 1000,
  repositories: 100,
  tags: 2000,
  largeTags: 500,
  largeReferrers: 600,
};

/** The two repositories that are not like the others. */
export const manyTags = "scale/many-tags";
export const manyReferrers = "scale/many-referrers";

/** Layers of an image; the last is its own, as its config is, the others belong to a base image or to a line of ten pushes. */
export const LAYERS = 5;
export const BASE_IMAGES = 500;
export const BASE_LAYERS = 3;
export const PUSHES_OF_A_LINE = 10;

/** Of a referrer: a page of the referrers API ends near 4 MiB, and then holds some 500 of them. */
export const ANNOTATION_CHARACTERS = 8000;

/** So many referrers of the subject have an artifactType that the others have not, whatever their number. */
export const RARE_REFERRERS = 40;
export const rareType = "application/vnd.example.attestation+json";

/** How long it took to come together; what is pruned by its age is loaded as far as it would still be there. */
export const AGE_DAYS = 730;

/** @throws UsageError where the parts would be more than the whole */
export function checkCounts(counts: ScaleCounts): void {
  const { manifests, repositories, tags, largeTags, largeReferrers } = counts;
  if (repositories < 3) throw new UsageError("--repositories takes 3 or more: two of them are not like the others");
  if (largeTags > tags) throw new UsageError("--large-tags takes at most as many as --tags");
  if (manifests < manifestsOfManyTags(counts) + 1 + largeReferrers + repositories - 2) {
    throw new UsageError("--manifests takes more: each repository has one, and the large ones have theirs");
  }
}

/** Tags are spread over manifests there as they are everywhere. */
export function manifestsOfManyTags({ manifests, tags, largeTags }: ScaleCounts): number {
  return Math.max(1, Math.ceil((largeTags * manifests) / Math.max(1, tags)));
}

/** @param index from 0; the first two are the large ones */
export function repositoryName(index: number): string {
  if (index === 0) return manyTags;
  if (index === 1) return manyReferrers;
  return `team-${String(index % 100).padStart(2, "0")}/service-${String(index).padStart(6, "0")}`;
}

/** Of builds and of versions, as pipelines name them. @param index within the repository */
export function tagName(index: number): string {
  return index % 2 === 0 ? `sha-${hash("sha256", `commit ${String(index)}`).slice(0, 12)}` : `1.${String(index)}.0`;
}

export function digestOf(text: string): string {
  return `sha256:${hash("sha256", text)}`;
}

export interface LoadedBlob {
  readonly digest: string;
  /** bytes */
  readonly size: number;
}

/** A blob that nothing but its name tells: no bytes stand behind it. */
export function blobNamed(name: string, size: number): LoadedBlob {
  return { digest: digestOf(name), size };
}

const image = "application/vnd.oci.image.manifest.v1+json";
const config = "application/vnd.oci.image.config.v1+json";
const layer = "application/vnd.oci.image.layer.v1.tar+gzip";
const empty: LoadedBlob = { digest: digestOf("{}"), size: 2 };

export const emptyBlob = empty;

/** An image as a build tool writes it, some 1.4 KB. */
export function imageText(blobs: readonly LoadedBlob[], repository: string, serial: number, createdAt: Date): string {
  const [own, ...layers] = blobs;
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: image,
    config: { mediaType: config, ...own },
    layers: layers.map((blob) => ({ mediaType: layer, ...blob })),
    annotations: {
      "org.opencontainers.image.created": createdAt.toISOString(),
      "org.opencontainers.image.revision": hash("sha1", String(serial)),
      "org.opencontainers.image.source": `https://git.example.com/${repository}`,
    },
  });
}

/** A signature or an attestation of the subject, its proof among the annotations. @param of so many */
export function referrerText(subject: LoadedBlob, serial: number, of: number): string {
  const step = Math.max(1, Math.floor(of / RARE_REFERRERS));
  const rare = serial % step === 0 && serial / step < RARE_REFERRERS;
  const certificate = hash("sha512", `certificate ${String(serial)}`).repeat(Math.ceil(ANNOTATION_CHARACTERS / 128));
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: image,
    artifactType: rare ? rareType : "application/vnd.dev.sigstore.bundle.v0.3+json",
    config: { mediaType: "application/vnd.oci.empty.v1+json", ...empty },
    layers: [{ mediaType: "application/vnd.oci.empty.v1+json", ...empty }],
    subject: { mediaType: image, digest: subject.digest, size: subject.size },
    annotations: { "dev.sigstore.cosign/certificate": certificate.slice(0, ANNOTATION_CHARACTERS) },
  });
}
