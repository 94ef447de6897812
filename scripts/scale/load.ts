/**
 * Fills a registry's index with the rows that pushes would have written, by way of SQLite: a million manifests in
 * minutes. Only D1 is filled. What the rows name in R2 is not there: manifests are whole, a blob's GET finds nothing.
 */
import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";
import { newKey } from "../../src/blobs/keys.ts";
import { EVENT_RETENTION_SECONDS } from "../../src/limits.ts";
import { parseManifest, referrerDescriptor } from "../../src/oci/manifest.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { applyMigrations } from "../migrations.ts";
import { UsageError } from "../options.ts";
import type { Project } from "../project.ts";
import {
  AGE_DAYS,
  BASE_IMAGES,
  BASE_LAYERS,
  blobNamed,
  checkCounts,
  digestOf,
  emptyBlob,
  imageText,
  LAYERS,
  type LoadedBlob,
  manifestsOfManyTags,
  PUSHES_OF_A_LINE,
  referrerText,
  repositoryName,
  type ScaleCounts,
  tagName,
} from "./content.ts";

const DAY_MS = 86_400_000;
/** What SQLite may hold of the file: with less, rows that land all over it would be read and written again and again. */
const CACHE_KIB = 3 * 1024 * 1024;
const ACTOR = "user:pipeline";

/**
 * Migrates the state and loads it.
 * @param report told now and then how far it is
 * @throws UsageError where the state has repositories already, or is served
 */
export async function loadScale(
  project: Project,
  stateDir: string,
  counts: ScaleCounts,
  report: (message: string) => void,
): Promise<void> {
  checkCounts(counts);
  const persistPath = path.join(stateDir, "v3");
  await applyMigrations(project, persistPath);
  const database = openDatabase(persistPath);
  try {
    if (countOf(database, "SELECT count(*) AS count FROM repositories") > 0) {
      throw new UsageError(`${stateDir} has repositories: a load needs a state of its own`);
    }
    // Nearly all pages are new ones, of which a journal in memory keeps nothing.
    database.exec(`PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA cache_size = -${String(CACHE_KIB)}`);
    database.exec("BEGIN");
    new Loader(database, counts, auditDays(project)).load(report);
    database.exec("COMMIT");
    // As the runtime keeps it.
    database.exec("PRAGMA journal_mode = WAL");
  } finally {
    database.close();
  }
}

/** The file in which Miniflare keeps the one D1 database of the project; its name is Miniflare's affair. */
export function databaseFile(persistPath: string): string {
  const folder = path.join(persistPath, "d1");
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (file) => file.endsWith(".sqlite") && path.basename(file) !== "metadata.sqlite",
  );
  const [file] = files;
  if (file === undefined || files.length > 1) {
    throw new UsageError(`${folder} holds ${String(files.length)} databases; the load is for one`);
  }
  return path.join(folder, file);
}

function openDatabase(persistPath: string): DatabaseSync {
  // Every row's parent is written before it; to look each of them up again would take longer than the load.
  return new DatabaseSync(databaseFile(persistPath), { enableForeignKeyConstraints: false });
}

function countOf(database: DatabaseSync, sql: string): number {
  return z.object({ count: z.number() }).parse(database.prepare(sql).get()).count;
}

function auditDays(project: Project): number {
  return z.coerce.number().parse(project.workerOptions.bindings["AUDIT_RETENTION_DAYS"]);
}

type Value = string | number | null;
type Insert<Column extends string> = (row: Readonly<Record<Column, Value>>) => number;

/** Writes a row of these columns, and answers its id. */
function inserter<Column extends string>(
  database: DatabaseSync,
  table: string,
  columns: readonly Column[],
): Insert<Column> {
  const statement = database.prepare(
    `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
  );
  return (row) => Number(statement.run(...columns.map((column) => row[column])).lastInsertRowid);
}

/** The rows that pushes write; what is null in all of them is left out. */
function inserters(database: DatabaseSync) {
  const into = <Column extends string>(table: string, columns: readonly Column[]): Insert<Column> =>
    inserter(database, table, columns);
  const about = ["media_type", "artifact_type", "subject"] as const;
  return {
    repository: into("repositories", ["name", "created_at"]),
    blob: into("blobs", ["digest", "size", "object_key", "created_at"]),
    member: into("repository_blobs", ["repository_id", "blob_id", "linked_at"]),
    manifest: into("manifests", [
      ...about,
      "repository_id",
      "digest",
      "size",
      "put_request",
      "created_at",
      "descriptor",
      "body",
    ]),
    reference: into("manifest_references", ["manifest_id", "digest", "kind", "repository_id"]),
    tag: into("tags", ["repository_id", "name", "manifest_id", "updated_at"]),
    history: into("tag_history", ["repository_id", "name", "digest", "actor", "created_at"]),
    event: into("events", [...about, "kind", "repository", "digest", "tag", "actor", "created_at"]),
    audit: into("audit", [
      "created_at",
      "principal",
      "address",
      "request_id",
      "action",
      "repository",
      "reference",
      "digest",
      "outcome",
      "detail",
    ]),
  };
}

/** A repository as far as it has been loaded. */
interface Loaded {
  readonly id: number;
  readonly name: string;
  readonly manifests: number;
  readonly tags: number;
  /** manifests that it has so far, without referrers */
  pushed: number;
  /** its base image, and the layer that a line of pushes has in common */
  readonly base: readonly Stored[];
  line: Stored | null;
}

interface Stored {
  readonly id: number;
  readonly blob: LoadedBlob;
}

class Loader {
  readonly #insert: ReturnType<typeof inserters>;
  readonly #counts: ScaleCounts;
  readonly #auditDays: number;
  readonly #nowMs = Date.now();

  constructor(database: DatabaseSync, counts: ScaleCounts, days: number) {
    this.#insert = inserters(database);
    this.#counts = counts;
    this.#auditDays = days;
  }

  load(report: (message: string) => void): void {
    const repositories = this.#loadRepositories();
    const order = shuffled(
      repositories.flatMap((repository, index) => Array.from({ length: repository.manifests }, () => index)),
    );
    let subject: LoadedBlob | null = null;
    for (const [serial, index] of order.entries()) {
      const repository = repositories[index];
      if (repository === undefined) continue;
      const createdAt = this.#timeOf(serial);
      // The first push to the second repository is the subject; all others there refer to it.
      if (index === 1 && subject !== null) this.#loadReferrer(repository, subject, repository.pushed++ - 1, createdAt);
      else {
        const loaded = this.#loadImage(repository, serial, createdAt);
        if (index === 1) subject = loaded;
      }
      if (serial % 100_000 === 99_999) report(`${String(serial + 1)} of ${String(order.length)} manifests`);
    }
  }

  #loadRepositories(): readonly Loaded[] {
    const { manifests, tags, repositories, largeTags, largeReferrers } = this.#counts;
    const createdAt = this.#timeOf(0);
    const bases = Array.from({ length: Math.min(BASE_IMAGES, repositories) }, (_, base) =>
      Array.from({ length: BASE_LAYERS }, (__, layer) =>
        this.#loadBlob(`base ${String(base)} ${String(layer)}`, 30_000_000, createdAt),
      ),
    );
    const large = manifestsOfManyTags(this.#counts);
    const manifestsOf = spread(manifests - large - 1 - largeReferrers, repositories - 2);
    const tagsOf = spread(tags - largeTags, repositories - 2);
    return Array.from({ length: repositories }, (_, index) => {
      const name = repositoryName(index);
      const id = this.#insert.repository({ name, created_at: createdAt.getTime() });
      const base = bases[index % bases.length] ?? [];
      for (const blob of base) this.#link(id, blob, createdAt);
      const own = { id, name, base, pushed: 0, line: null };
      if (index === 0) return { ...own, manifests: large, tags: largeTags };
      if (index === 1) return { ...own, manifests: 1 + largeReferrers, tags: 0 };
      return { ...own, manifests: manifestsOf(index - 2), tags: tagsOf(index - 2) };
    });
  }

  #loadImage(repository: Loaded, serial: number, createdAt: Date): LoadedBlob {
    const place = repository.pushed++;
    if (repository.line === null || place % PUSHES_OF_A_LINE === 0) {
      repository.line = this.#loadBlob(`line ${String(serial)}`, 20_000_000, createdAt);
      this.#link(repository.id, repository.line, createdAt);
    }
    const config = this.#loadBlob(`config ${String(serial)}`, 8000, createdAt);
    const top = Array.from({ length: LAYERS - BASE_LAYERS - 1 }, (_, layer) =>
      this.#loadBlob(`layer ${String(serial)} ${String(layer)}`, 5_000_000, createdAt),
    );
    const own = [config, ...top];
    for (const each of own) this.#link(repository.id, each, createdAt);
    const blobs = [config, ...repository.base, repository.line, ...top].map(({ blob }) => blob);
    const text = imageText(blobs, repository.name, serial, createdAt);
    const tags = this.#tagsOf(repository, place);
    return this.#putManifest(repository, text, tags, [config, ...top], createdAt);
  }

  #loadReferrer(repository: Loaded, subject: LoadedBlob, serial: number, createdAt: Date): void {
    if (serial === 0) this.#link(repository.id, this.#storeBlob(emptyBlob, createdAt), createdAt);
    const text = referrerText(subject, serial, this.#counts.largeReferrers);
    this.#putManifest(repository, text, [], [], createdAt);
  }

  /** The rows of src/manifests/put.ts. @param sent blobs that came with it */
  #putManifest(
    repository: Loaded,
    text: string,
    tags: readonly string[],
    sent: readonly Stored[],
    createdAt: Date,
  ): LoadedBlob {
    const bytes = new TextEncoder().encode(text);
    const manifest = parseManifest(bytes, "");
    const { mediaType, artifactType, subject, references } = manifest;
    const digest = parseDigest(digestOf(text));
    const size = bytes.byteLength;
    const at = createdAt.getTime();
    const requestId = randomUUID();
    const descriptor = subject === null ? null : referrerDescriptor(manifest, digest, size);
    const about = { media_type: mediaType, artifact_type: artifactType, subject };
    const put = { repository_id: repository.id, digest, size, put_request: requestId, created_at: at };
    const id = this.#insert.manifest({ ...about, ...put, descriptor, body: text });
    for (const { digest: named, kind } of references) {
      this.#insert.reference({ manifest_id: id, digest: named, kind, repository_id: repository.id });
    }
    for (const name of tags) {
      this.#insert.tag({ repository_id: repository.id, name, manifest_id: id, updated_at: at });
      this.#insert.history({ repository_id: repository.id, name, digest, actor: ACTOR, created_at: at });
    }
    if (this.#nowMs - at < EVENT_RETENTION_SECONDS * 1000) {
      const event = { ...about, repository: repository.name, digest, actor: ACTOR, created_at: at };
      this.#insert.event({ ...event, kind: "manifest.pushed", tag: null });
      for (const tag of tags) this.#insert.event({ ...event, kind: "tag.moved", tag });
    }
    if (this.#nowMs - at < this.#auditDays * DAY_MS) {
      const by = { created_at: at, principal: ACTOR, address: "192.0.2.1", request_id: requestId };
      const record = { ...by, repository: repository.name, outcome: "ok" };
      for (const { blob } of sent) {
        const detail = JSON.stringify({ size: blob.size });
        this.#insert.audit({ ...record, action: "blob.push", reference: null, digest: blob.digest, detail });
      }
      const detail = JSON.stringify({ mediaType, artifactType });
      this.#insert.audit({ ...record, action: "manifest.push", reference: tags.join(" ") || null, digest, detail });
    }
    return { digest, size };
  }

  #tagsOf({ manifests, tags }: Loaded, place: number): readonly string[] {
    const from = Math.floor((place * tags) / manifests);
    const to = Math.floor(((place + 1) * tags) / manifests);
    return Array.from({ length: to - from }, (_, index) => tagName(from + index));
  }

  #loadBlob(name: string, size: number, createdAt: Date): Stored {
    return this.#storeBlob(blobNamed(name, size), createdAt);
  }

  #storeBlob(blob: LoadedBlob, createdAt: Date): Stored {
    const at = createdAt.getTime();
    const { digest, size } = blob;
    return { id: this.#insert.blob({ digest, size, object_key: newKey("blobs/", at), created_at: at }), blob };
  }

  #link(repositoryId: number, { id }: Stored, createdAt: Date): void {
    this.#insert.member({ repository_id: repositoryId, blob_id: id, linked_at: createdAt.getTime() });
  }

  /** Pushes are spread evenly over the age. */
  #timeOf(serial: number): Date {
    return new Date(Math.round(this.#nowMs - AGE_DAYS * DAY_MS * (1 - serial / this.#counts.manifests)));
  }
}

/** So much in so many parts, as evenly as whole numbers are. */
function spread(whole: number, parts: number): (part: number) => number {
  return (part) => Math.floor(((part + 1) * whole) / parts) - Math.floor((part * whole) / parts);
}

/** Pushes of all repositories come mixed, so that neighbours in a table are no neighbours in its indexes. The same each time. */
function shuffled(items: readonly number[]): readonly number[] {
  const order = [...items];
  let state = 1;
  for (let index = order.length - 1; index > 0; index--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (index + 1));
    [order[index], order[other]] = [order[other] ?? 0, order[index] ?? 0];
  }
  return order;
}
