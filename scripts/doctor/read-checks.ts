/** Pulls: that bytes, lengths and types are those that were pushed, whatever is between. */
import { requireStatus, requireStatusOrRight, typeOf, wholeBody } from "./answers.ts";
import type { Led } from "./client.ts";
import { type Blob, digestOf, findContent, type Manifest, manifestTypes } from "./content.ts";
import type { Check, Examined } from "./examination.ts";
import { Failed, Skipped } from "./verdict.ts";

/** Where nothing may be pushed, what a repository has is as good to read. */
const content: Check = {
  name: "content",
  needs: ["login"],
  async run(examined) {
    const { client, repository, wishes, manifest, layer } = examined;
    if (manifest !== null || layer !== null) return `what was pushed to ${repository}`;
    if (!wishes.repositoryIsGiven)
      throw new Skipped("nothing was pushed; --repository names one with something to read");
    const found = await findContent(client, repository);
    examined.manifest = found.manifest;
    examined.layer = found.blob;
    examined.config = found.blob;
    return `${repository}:${found.manifest.tags.join(" ")}`;
  },
};

function requireBlob(blob: Blob | null): Blob {
  if (blob === null) throw new Skipped("there is no blob to read");
  return blob;
}

export function requireManifest(manifest: Manifest | null): Manifest {
  if (manifest === null) throw new Skipped("there is no manifest to read");
  return manifest;
}

/** end-2, HEAD. */
const blobHead: Check = {
  name: "blob-head",
  needs: ["login"],
  async run(examined) {
    const { digest, size } = requireBlob(examined.layer);
    const answer = await examined.client.send("HEAD", `/v2/${examined.repository}/blobs/${digest}`);
    requireStatusOrRight(answer, [200], "HEAD of a blob");
    requireLength(answer, size, "HEAD of a blob");
    return `Content-Length: ${String(size)}`;
  },
};

function requireLength(answer: Led, size: number, wanted: string): void {
  const length = answer.headers["content-length"];
  if (length === String(size)) return;
  throw new Failed({
    expected: `Content-Length: ${String(size)} for ${wanted}`,
    seen: length === undefined ? "no Content-Length" : `Content-Length: ${length}`,
    mend: "let a proxy before the registry leave bodies and their length as they are: no compression, no buffering",
  });
}

/** end-2. */
const blob: Check = {
  name: "blob",
  needs: ["login"],
  async run(examined) {
    const { digest, size } = requireBlob(examined.layer);
    const answer = await examined.client.send("GET", `/v2/${examined.repository}/blobs/${digest}`);
    requireStatusOrRight(answer, [200], "GET of a blob");
    requireDigest(wholeBody(answer, "the blob"), digest, "the blob");
    return `${String(size)} bytes, of their digest`;
  },
};

function requireDigest(bytes: Buffer, digest: string, wanted: string): void {
  if (!digest.startsWith("sha256:") || digestOf(bytes) === digest) return;
  throw new Failed({
    expected: `the bytes of ${digest} for ${wanted}`,
    seen: `${String(bytes.byteLength)} bytes of ${digestOf(bytes)}`,
    mend: "look for a proxy before the registry that changes bodies, or a cache that mixes them up; each client refuses them",
  });
}

/** RFC 9110 section 14; distribution-spec v1.1.1 «Pulling blobs» asks for it. */
const range: Check = {
  name: "range",
  needs: ["login"],
  async run(examined) {
    const subject = requireBlob(examined.layer);
    const { size } = subject;
    const [first, last] = [Math.floor(size / 2), Math.floor(size / 2) + 9];
    if (last >= size - 1) throw new Skipped("there is no blob that is large enough");
    await requirePart(examined, subject, `bytes=${String(first)}-${String(last)}`, first, last);
    await requirePart(examined, subject, "bytes=-7", size - 7, size - 1);
    const beyond = await getRange(examined, subject, `bytes=${String(size)}-`);
    requireStatus(beyond, [416], "a Range behind the blob's end");
    return "a part from the middle, the last bytes, and 416 for none";
  },
};

function getRange({ client, repository }: Examined, { digest }: Blob, wanted: string, ifRange?: string): Promise<Led> {
  const headers = { Range: wanted, ...(ifRange === undefined ? {} : { "If-Range": ifRange }) };
  return client.send("GET", `/v2/${repository}/blobs/${digest}`, { headers });
}

async function requirePart(
  examined: Examined,
  subject: Blob,
  wanted: string,
  first: number,
  last: number,
): Promise<void> {
  const answer = await getRange(examined, subject, wanted);
  const part = `bytes ${String(first)}-${String(last)}/${String(subject.size)}`;
  const expected = `206 with Content-Range: ${part} for Range: ${wanted}`;
  const mend =
    "let a proxy before the registry pass Range and If-Range on, and 206 answers back: pulls that break off begin anew without it";
  requireStatusOrRight(answer, [200, 206], `Range: ${wanted}`);
  if (answer.status === 200) throw new Failed({ expected, seen: "200: the whole blob", mend });
  if (answer.headers["content-range"] !== part) {
    throw new Failed({ expected, seen: `Content-Range: ${answer.headers["content-range"] ?? "none"}`, mend });
  }
  const bytes = wholeBody(answer, `the part ${wanted}`);
  const right =
    subject.bytes === null
      ? bytes.byteLength === last - first + 1
      : bytes.equals(subject.bytes.subarray(first, last + 1));
  if (!right) throw new Failed({ expected, seen: "206 with other bytes", mend });
}

/** RFC 9110 section 13.1.5. */
const ifRange: Check = {
  name: "if-range",
  needs: ["range"],
  async run(examined) {
    const subject = requireBlob(examined.layer);
    // Of a GET, as it is where a pull that breaks off has it from: storage to which it leads has one of its own.
    const { etag } = (await getRange(examined, subject, "bytes=0-9")).headers;
    if (etag === undefined || etag.startsWith("W/")) throw new Skipped("the registry gives no strong ETag with a blob");
    const same = await getRange(examined, subject, "bytes=0-9", etag);
    requireStatus(same, [206], `Range with If-Range: ${etag}, the blob's own ETag`);
    const other = await getRange(examined, subject, "bytes=0-9", '"another"');
    requireStatus(other, [200], "Range with the If-Range of something else");
    return "a part where the ETag is the blob's, else the whole";
  },
};

/** end-3: the bytes that were pushed, by tag as by digest. */
const manifest: Check = {
  name: "manifest",
  needs: ["login"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    for (const reference of [...subject.tags.slice(0, 1), subject.digest]) {
      const answer = await getManifest(examined, "GET", reference);
      requireStatusOrRight(answer, [200], `GET of the manifest ${reference}`);
      requireDigest(wholeBody(answer, "the manifest"), subject.digest, `the manifest ${reference}`);
    }
    return "the same bytes by tag and by digest";
  },
};

export function getManifest(
  { client, repository }: Examined,
  method: "GET" | "HEAD",
  reference: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Led> {
  return client.send(method, `/v2/${repository}/manifests/${reference}`, {
    headers: { Accept: manifestTypes, ...headers },
  });
}

const manifestHead: Check = {
  name: "manifest-head",
  needs: ["login"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    const answer = await getManifest(examined, "HEAD", subject.tags[0] ?? subject.digest);
    requireStatusOrRight(answer, [200], "HEAD of a manifest");
    requireLength(answer, subject.bytes.byteLength, "HEAD of a manifest");
    return `Content-Length: ${String(subject.bytes.byteLength)}`;
  },
};

/** Clients tell by it what they have got: distribution-spec v1.1.1 «Pulling manifests». */
const contentType: Check = {
  name: "content-type",
  needs: ["login"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    for (const method of ["GET", "HEAD"] as const) {
      const answer = await getManifest(examined, method, subject.digest);
      requireStatusOrRight(answer, [200], `${method} of a manifest`);
      if (answer.headers["content-type"] === subject.mediaType) continue;
      throw new Failed({
        expected: `Content-Type: ${subject.mediaType} for ${method} of a manifest`,
        seen: `Content-Type: ${typeOf(answer)}`,
        mend: "let a proxy before the registry leave Content-Type as it is: no charset, no other type",
      });
    }
    return subject.mediaType;
  },
};

/** distribution-spec main asks for it; containerd and helm read it. */
const digestHeader: Check = {
  name: "digest-header",
  needs: ["login"],
  async run(examined) {
    const { client, repository, layer, digestOfPut } = examined;
    const subject = requireManifest(examined.manifest);
    const [reference = subject.digest] = subject.tags;
    const told: [string, string | undefined, string][] = [];
    for (const method of ["GET", "HEAD"] as const) {
      const answer = await getManifest(examined, method, reference);
      told.push([`${method} of a manifest`, digestIn(answer), subject.digest]);
    }
    if (layer !== null) {
      const answer = await client.send("HEAD", `/v2/${repository}/blobs/${layer.digest}`);
      told.push(["HEAD of a blob", digestIn(answer), layer.digest]);
    }
    if (digestOfPut !== null) told.push(["PUT of a manifest", digestOfPut, subject.digest]);
    const wrong = told.find(([, seen, digest]) => seen !== digest);
    if (wrong === undefined) return "Docker-Content-Digest is that of the bytes";
    const [wanted, seen = "", digest] = wrong;
    throw new Failed({
      expected: `Docker-Content-Digest: ${digest} for ${wanted}`,
      seen: seen === "" ? "no such header" : `Docker-Content-Digest: ${seen}`,
      mend: "let a proxy before the registry pass this header on: containerd and oras learn from it what a tag is",
    });
  },
};

/** A registry that leads to its storage says it with the redirect. */
function digestIn({ headers, redirects }: Led): string | undefined {
  const all = [headers, ...redirects.map((redirect) => redirect.headers)];
  return all.map((each) => each["docker-content-digest"]).find((value) => typeof value === "string");
}

/** Go asks for gzip by itself, and loses the length of what comes so. */
const compression: Check = {
  name: "compression",
  needs: ["login"],
  async run(examined) {
    const subject = requireManifest(examined.manifest);
    const headers = { "Accept-Encoding": "gzip, br, zstd" };
    const answer = await getManifest(examined, "GET", subject.digest, headers);
    requireStatusOrRight(answer, [200], "GET of a manifest");
    const encoding = answer.headers["content-encoding"] ?? "identity";
    const length = answer.headers["content-length"];
    if (encoding === "identity" && length === String(subject.bytes.byteLength)) return "manifests come as they are";
    throw new Failed({
      expected: `a manifest as it is, with Content-Length: ${String(subject.bytes.byteLength)}, whatever Accept-Encoding says`,
      seen: `Content-Encoding: ${encoding}, Content-Length: ${length ?? "none"}`,
      mend: "turn compression off for /v2/ in what stands before the registry: clients want the length, and the bytes of the digest",
    });
  },
};

export const readChecks: readonly Check[] = [
  content,
  blobHead,
  blob,
  range,
  ifRange,
  manifest,
  manifestHead,
  contentType,
  digestHeader,
  compression,
];
