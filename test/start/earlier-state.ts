/**
 * What a registry of an earlier time had in D1 and R2, written down by hand: rows as the code wrote them that was there
 * when each migration was the newest one. They stay as they are when the code of today writes others.
 */
import { createHash, createHmac, randomUUID } from "node:crypto";
import {
  type Artifact,
  artifact,
  type Blob,
  blob,
  emptyBlob,
  image,
  imageConfig,
  index,
  referrer,
} from "../fixtures/artifacts.ts";
import { imageManifest, utf8 } from "../support/client.ts";

/** A statement and its values. */
export type Statement = readonly [sql: string, ...values: (string | number | null)[]];

/** A manifest as it lies in the repository. */
interface StoredManifest {
  readonly artifact: Artifact;
  readonly artifactType: string | null;
  readonly subject: string | null;
  /** null: it lies in its row */
  readonly objectKey: string | null;
  readonly descriptor: string | null;
  readonly children: readonly string[];
}

export interface EarlierState {
  /** `team/app`, which has all of it. */
  readonly repository: string;
  /** Has one of its layers by a mount, and a manifest that names it. */
  readonly mounting: string;
  readonly blobs: readonly Blob[];
  readonly manifests: readonly Artifact[];
  /** What lists as referrer of `subject`. */
  readonly referrer: Artifact;
  readonly subject: Artifact;
  readonly mountedLayer: Blob;
  /** A tag of the image, and one of the index. */
  readonly tags: Readonly<Record<string, Artifact>>;
  /** Pushed to the repository, named by no manifest: what the collector is for. */
  readonly unnamed: Blob;
  /** What the scrub of then had found bad: it answers 404, and its object is kept for whoever looks into it. */
  readonly quarantined: { readonly digest: string; readonly objectKey: string };
  /** Of a user, who may pull `team/**`; there from the migration on that has users. */
  readonly accessToken: { readonly user: string; readonly secret: string };
  /** By key. */
  readonly objects: ReadonlyMap<string, Uint8Array>;
  /** Of an object that the code of then let go of, and had not yet deleted. */
  readonly garbageKey: string;
  /** Of an object that no row names, as a crash leaves it. */
  readonly orphanKey: string;
  /** The rows that came with a migration, by the name of its file; a migration that has none brought none. */
  readonly rows: Readonly<Record<string, readonly Statement[]>>;
}

const dayMs = 86_400_000;

/** @param tokenKey TOKEN_KEY, by which access tokens are hashed: 32 bytes in base64 */
export function earlierState(tokenKey: string): EarlierState {
  // Long ago by every measure that the collector has.
  const pushedMs = Date.now() - 40 * dayMs;
  const repository = "team/app";
  const mounting = "team/tools";

  const layer = blob(utf8(`a layer of long ago ${randomUUID()}`));
  const mountedLayer = blob(utf8(`a layer of two repositories ${randomUUID()}`));
  const longLayer = blob(utf8(`a layer by its sha512 ${randomUUID()}`), undefined, "sha512");
  const unnamed = blob(utf8(`a layer of no manifest ${randomUUID()}`));
  const app = image({ layers: [layer, mountedLayer, longLayer] });
  const tools = image({ layers: [mountedLayer] });
  const both = index([app.descriptor]);
  const note = referrer(app.descriptor, { annotations: { note: "of long ago" } });
  const largeConfig = blob(utf8(JSON.stringify({ made: randomUUID() })), imageConfig);
  const large = artifact(
    imageManifest,
    { config: largeConfig.descriptor, layers: [layer.descriptor], annotations: { padding: "x".repeat(200_000) } },
    [largeConfig, layer],
  );

  const largeKey = keyOf("manifests/", pushedMs);
  const garbageKey = keyOf("blobs/", pushedMs);
  const orphanKey = keyOf("blobs/", pushedMs);
  const stored = [...new Set([...app.blobs, ...tools.blobs, largeConfig, emptyBlob, unnamed])].map((one) => ({
    ...one,
    key: keyOf("blobs/", pushedMs),
  }));
  const inRepository = stored.filter((one) => !tools.blobs.includes(one) || app.blobs.includes(one));
  const manifests: readonly StoredManifest[] = [
    inRow(app),
    inRow(both, { children: [app.descriptor.digest] }),
    inRow(note, {
      artifactType: "application/vnd.example.note.v1",
      subject: app.descriptor.digest,
      descriptor: JSON.stringify({
        ...note.descriptor,
        artifactType: "application/vnd.example.note.v1",
        annotations: { note: "of long ago" },
      }),
    }),
    inRow(large, { objectKey: largeKey }),
  ];
  const bad = blob(utf8(`a layer before it was damaged ${randomUUID()}`));
  const badKey = keyOf("blobs/", pushedMs);
  const secret = `moorage_${Buffer.alloc(32, 7).toString("base64url")}`;
  const tags = { v1: app, all: both };

  return {
    repository,
    mounting,
    blobs: stored.filter(({ descriptor }) => descriptor !== unnamed.descriptor),
    manifests: manifests.map((one) => one.artifact),
    referrer: note,
    subject: app,
    mountedLayer,
    tags,
    unnamed,
    quarantined: { digest: bad.descriptor.digest, objectKey: badKey },
    accessToken: { user: "builder", secret },
    objects: new Map([
      ...stored.map(({ key, bytes }) => [key, bytes] as const),
      [largeKey, large.bytes],
      [badKey, utf8("damaged")],
      [garbageKey, utf8("let go of")],
      [orphanKey, utf8("what a crash left")],
    ]),
    garbageKey,
    orphanKey,
    rows: {
      "0001_content.sql": [
        insertRepository(repository, pushedMs),
        insertRepository(mounting, pushedMs),
        ...stored.map(({ descriptor, key }) => insertBlob(descriptor, key, pushedMs)),
        ...inRepository.map(({ descriptor }) => linkBlob(repository, descriptor.digest, pushedMs)),
        ...tools.blobs.map(({ descriptor }) => linkBlob(mounting, descriptor.digest, pushedMs)),
        ...manifests.flatMap((one) => insertManifest(repository, one, pushedMs)),
        ...insertManifest(mounting, inRow(tools), pushedMs),
        ["INSERT INTO garbage (object_key, created_at) VALUES (?1, ?2)", garbageKey, pushedMs],
      ],
      "0002_tags.sql": Object.entries(tags).flatMap(([name, { descriptor }]) => [
        [
          `INSERT INTO tags (repository_id, name, manifest_id, updated_at)
           SELECT repository_id, ?2, id, ?3 FROM manifests WHERE digest = ?1`,
          descriptor.digest,
          name,
          pushedMs,
        ],
        [
          `INSERT INTO tag_history (repository_id, name, digest, actor, created_at)
           SELECT repository_id, ?2, digest, 'loopback', ?3 FROM manifests WHERE digest = ?1`,
          descriptor.digest,
          name,
          pushedMs,
        ],
      ]),
      "0003_uploads.sql": [
        [
          "INSERT INTO upload_states (id, state, digest, created_at) VALUES (?1, 'finished', ?2, ?3)",
          uploadIdAt(pushedMs),
          layer.descriptor.digest,
          pushedMs,
        ],
        [
          "INSERT INTO upload_states (id, state, digest, created_at) VALUES (?1, 'cancelled', NULL, ?2)",
          uploadIdAt(pushedMs),
          pushedMs,
        ],
        [
          "INSERT INTO registry_values (name, value) VALUES ('upload-signing-key', ?1)",
          `${randomUUID()}${randomUUID()}`,
        ],
      ],
      "0004_events.sql": Object.entries(tags).map(([name, { descriptor }]) => [
        `INSERT INTO events (kind, repository, digest, tag, media_type, artifact_type, subject, actor, created_at)
         VALUES ('tag.moved', ?1, ?2, ?3, ?4, NULL, NULL, 'loopback', ?5)`,
        repository,
        descriptor.digest,
        name,
        descriptor.mediaType,
        pushedMs,
      ]),
      // The database that this is about was made before anything was pushed, not by this test.
      "0005_birth.sql": [["UPDATE registry_values SET value = ?1 WHERE name = 'created-at'", String(pushedMs - dayMs)]],
      "0006_access.sql": [
        [
          `INSERT INTO users (name, email, password, grants, disabled_at, created_at)
           VALUES ('builder', NULL, NULL, '["team/**:pull"]', NULL, ?1)`,
          pushedMs,
        ],
        [
          `INSERT INTO access_tokens (id, user_id, name, hash, grants, created_at, expires_at, last_used_at, revoked_at)
           SELECT ?1, id, 'build server', ?2, NULL, ?3, NULL, NULL, NULL FROM users WHERE name = 'builder'`,
          randomUUID(),
          createHmac("sha256", Buffer.from(tokenKey, "base64")).update(`access-token\n${secret}`).digest("base64url"),
          pushedMs,
        ],
        [
          `INSERT INTO trust_rules (name, issuer, audience, conditions, grants, created_at)
           VALUES ('main', 'https://token.actions.githubusercontent.com', 'https://registry.example.com',
                   '{"repository":["my-org/my-app"]}', '["team/app:pull,push"]', ?1)`,
          pushedMs,
        ],
        [
          `INSERT INTO audit (created_at, principal, token_id, address, request_id, action, repository, reference, digest, outcome, detail)
           VALUES (?1, 'admin', NULL, '127.0.0.1', ?2, 'manifest.push', ?3, 'v1', ?4, 'ok', NULL)`,
          pushedMs,
          randomUUID(),
          repository,
          app.descriptor.digest,
        ],
      ],
      "0007_integrity.sql": [
        insertBlob(bad.descriptor, badKey, pushedMs),
        linkBlob(repository, bad.descriptor.digest, pushedMs),
        ["UPDATE blobs SET quarantined_at = ?2 WHERE digest = ?1", bad.descriptor.digest, pushedMs],
        [
          `INSERT INTO integrity_findings (kind, digest, size, problem, found, object_key, found_by, found_at)
           VALUES ('blob', ?1, ?2, 'size', '7', ?3, 'scrub', ?4)`,
          bad.descriptor.digest,
          bad.descriptor.size,
          badKey,
          pushedMs,
        ],
      ],
    },
  };
}

function inRow(stored: Artifact, others: Partial<StoredManifest> = {}): StoredManifest {
  return {
    artifact: stored,
    artifactType: null,
    subject: null,
    objectKey: null,
    descriptor: null,
    children: [],
    ...others,
  };
}

function insertRepository(name: string, nowMs: number): Statement {
  return ["INSERT INTO repositories (name, created_at) VALUES (?1, ?2)", name, nowMs];
}

function insertBlob({ digest, size }: Blob["descriptor"], key: string, nowMs: number): Statement {
  return ["INSERT INTO blobs (digest, size, object_key, created_at) VALUES (?1, ?2, ?3, ?4)", digest, size, key, nowMs];
}

/** Suspect, as after each push: no manifest had named it when it came. */
function linkBlob(repository: string, digest: string, nowMs: number): Statement {
  return [
    `INSERT INTO repository_blobs (repository_id, blob_id, linked_at, suspect_at)
     SELECT repositories.id, blobs.id, ?3, ?3 FROM repositories JOIN blobs ON blobs.digest = ?2 WHERE repositories.name = ?1`,
    repository,
    digest,
    nowMs,
  ];
}

function insertManifest(repository: string, stored: StoredManifest, nowMs: number): Statement[] {
  const { bytes, descriptor, blobs } = stored.artifact;
  const edges = [
    ...[...new Set(blobs.map((one) => one.descriptor.digest))].map((digest) => ({ digest, kind: "blob" })),
    ...stored.children.map((digest) => ({ digest, kind: "child" })),
  ];
  return [
    [
      `INSERT INTO manifests (repository_id, digest, media_type, size, subject, artifact_type, put_request, created_at,
                              object_key, descriptor, body)
       SELECT id, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 FROM repositories WHERE name = ?1`,
      repository,
      descriptor.digest,
      descriptor.mediaType,
      descriptor.size,
      stored.subject,
      stored.artifactType,
      randomUUID(),
      nowMs,
      stored.objectKey,
      stored.descriptor,
      stored.objectKey === null ? new TextDecoder().decode(bytes) : null,
    ],
    ...edges.map(({ digest, kind }): Statement => [
      `INSERT INTO manifest_references (manifest_id, digest, kind, repository_id)
         SELECT id, ?2, ?3, repository_id FROM manifests WHERE digest = ?1`,
      descriptor.digest,
      digest,
      kind,
    ]),
  ];
}

/** Time in base 36, nine letters, and random ones. */
function keyOf(prefix: "blobs/" | "manifests/", timeMs: number): string {
  const random = createHash("sha256").update(randomUUID()).digest("hex").slice(0, 20);
  return `${prefix}${timeMs.toString(36).padStart(9, "0")}-${random}`;
}

/** A UUID of version 7. */
function uploadIdAt(timeMs: number): string {
  const time = timeMs.toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8)}-7${randomUUID().slice(15)}`;
}
