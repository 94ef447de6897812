/**
 * Every number that bounds what a client may send, what an isolate holds, or what a request does.
 * Sizes are bytes, times are seconds unless the name says otherwise.
 */

const KIB = 1024;
const MIB = 1024 * KIB;

/** Largest manifest that is accepted; distribution-spec v1.1.1 «Pushing Manifests» asks for at least 4 MiB. */
export const MANIFEST_MAX_BYTES = 4 * MIB;

/** Most objects and arrays in a manifest: 4 MiB of empty ones are a million, and 85 MiB once they are read. */
export const MANIFEST_MAX_CONTAINERS = 250_000;

/** Deepest nesting of arrays and objects in a manifest; no known artifact type passes 20. */
export const MANIFEST_MAX_DEPTH = 128;

/** Longest artifactType; RFC 6838 section 4.2 bounds a media type's two names by 127 characters each. */
export const ARTIFACT_TYPE_MAX_CHARACTERS = 255;

/**
 * Largest manifest whose text is kept in its D1 row. Larger ones are an R2 object, so that a row stays
 * small beside D1's limit of 2 MB and its 10 GB a database, and one query still answers nearly every pull.
 */
export const MANIFEST_INLINE_MAX_BYTES = 64 * KIB;

/** Largest referrer descriptor that is listed whole; beyond it the annotations are left out of the list. */
export const REFERRER_DESCRIPTOR_MAX_BYTES = 512 * KIB;

/** Letters of one value that D1 is handed: it takes 2 MB, and what is not ASCII has more bytes than letters. */
export const SQL_VALUE_CHARACTERS = 1_000_000;

/** D1 hands out values of at most 2 MB: a referrers page is read as slices of this size, which together with their frame make 4 MiB. */
export const REFERRERS_SLICE_BYTES = MIB - KIB;

/** Most referrers that are listed by one query; of a longer list no more are looked at than fill its page, by a second. */
export const REFERRERS_AT_ONCE_MAX = 1000;

/** More referrers than this fit no page, whose shortest has 112 bytes: what a query looks at is bounded by it. */
export const REFERRERS_PER_PAGE_MAX = 38_000;

/** Slices in one referrers page: a page ends only near 4 MiB of body, since ggcr follows no Link there. */
export const REFERRERS_SLICES_PER_PAGE = 4;

/** Most `?tag=` parameters on one manifest PUT (end-7b); more is a 414. */
export const TAGS_PER_PUT_MAX = 32;

/**
 * Most names in one page, with or without `n` (end-8a, end-8b): tags have up to 128 characters, repositories up to 255,
 * and a page is one D1 value of at most 2 MB.
 */
export const TAGS_PAGE_MAX = 10_000;
export const REPOSITORIES_PAGE_MAX = 7_000;

/** R2 wants equal parts of 5 MiB to 5 GiB, at most 10,000 (developers.cloudflare.com/r2/objects/multipart-objects). */
export const PART_MIN_BYTES = 5 * MIB;
export const PART_BYTES = 8 * MIB;
export const PARTS_MAX = 10_000;

/** How much of a request body one read asks for; smaller reads cost a call each (4 KiB: a tenth of the speed). */
export const READ_BYTES = 256 * KIB;

/** Running hashes of unfinished uploads that an isolate keeps from one request to the next, each a few hundred bytes. */
export const HASHES_KEPT_MAX = 1000;

/** Largest body handed to R2 as one `put`; R2's own limit is 4.995 GiB. */
export const SINGLE_PUT_MAX_BYTES = 4 * 1024 * MIB;

/**
 * Bytes of request bodies that one isolate holds at once, 64 MiB; it has 128 MB for everything. Small manifests have a
 * share of their own, so that they never wait for somebody's layers, and small layers one, so that they begin at once.
 */
export const MANIFESTS_BYTES = 8 * MIB;
export const SMALL_BODIES_BYTES = 8 * MIB;
export const LARGE_BODIES_BYTES = 48 * MIB;

/** A body that has grown past this is a large one. */
export const SMALL_BODY_BYTES = 512 * KIB;

/** What reading a manifest takes in memory, as a multiple of its bytes: the bytes, their text, and what is made of it. */
export const MANIFEST_MEMORY_FACTOR = 4;

/**
 * What a read waits for at least, of a body whose speed is not known or is low: a slow client is no silent one. A read
 * that took less than READ_FAST_MS makes the next one wait for more, up to READ_MOST_BYTES; one that took READ_SLOW_MS
 * for less. A body that was fast and grows slow is broken off below READ_MOST_BYTES in BODY_SILENCE_SECONDS: 273 bytes
 * a second.
 */
export const READ_LEAST_BYTES = KIB;
export const READ_MOST_BYTES = 16 * KIB;
export const READ_FAST_MS = 1000;
export const READ_SLOW_MS = 10_000;

/** A body whose read gets less than it waits for in so long is taken for broken off: it holds memory that others want. */
export const BODY_SILENCE_SECONDS = 60;

/** A request that waits for its turn in the budget shows so often that it is still there; silent longer, it is passed over. */
export const WAIT_HEARTBEAT_MS = 500;
export const WAIT_SILENCE_MS = 5000;

/** Most ranges of one blob GET that are answered as ranges; each is an R2 read. More: the whole blob. */
export const RANGES_MAX = 16;

/** A session's writer that recorded nothing for this long gives way to a newcomer at the right offset. */
export const LEASE_IDLE_SECONDS = 20;

/** A session's alarm waits for a request that is still at work in it: it looks again so often, and so long at most. */
export const ALARM_RETRY_SECONDS = 60;
export const ALARM_PATIENCE_SECONDS = 3600;

/** Rows that one step of the collector takes; R2 deletes at most 1,000 keys in one call. */
export const COLLECTOR_STEP_ROWS = 500;
/** Steps of one kind in one cron run: bounds its D1 queries and its time, and no kind keeps the others from their turn. */
export const COLLECTOR_STEPS_PER_KIND = 5;

/**
 * The audit is pruned once an hour; where it has rows that are older than its retention by more than that, every pass
 * goes on with them: a busy registry notes more in an hour than one pass removes.
 */
export const AUDIT_BACKLOG_SECONDS = 3600;

/** How long an event stays in the outbox. */
export const EVENT_RETENTION_SECONDS = 30 * 86_400;

/**
 * How much of a refused request's body is read to its end, so that the client gets to read the answer; for how long; and
 * how long a read may take that waits for READ_MOST_BYTES; and of how many requests at once: 1 MiB in all. One more is
 * cut off at once.
 */
export const DRAIN_MAX_BYTES = 32 * MIB;
export const DRAIN_MAX_SECONDS = 60;
export const DRAIN_SILENCE_SECONDS = 10;
export const DRAINS_MAX = 64;

/** How much older than an upload's life an R2 object must be before the sweep may take it for lost. */
export const SWEEP_MARGIN_SECONDS = 3600;

/**
 * How long the key of a deleted object is remembered, so that no request that began before can name it: a final PUT may
 * be repeated as long as its session lives.
 */
export const TOMBSTONE_SECONDS = 8 * 86_400;

/** Longest life of an upload session: R2 itself gives up an unfinished multipart upload after seven days. */
export const UPLOAD_TTL_MAX_SECONDS = 6 * 86_400;

/** Life of a token of /token. */
export const BEARER_LIFE_SECONDS = 300;

/** Longest bearer token that is given, and taken: some 60 scopes of long names. */
export const BEARER_MAX_CHARACTERS = 32 * KIB;

/**
 * How many bearer tokens an isolate knows to be signed: at most some 8 KB each. Longer ones, which anybody can have by asking for
 * many repositories, are checked each time.
 */
export const BEARERS_KEPT_MAX = 1000;
export const BEARER_KEPT_MAX_CHARACTERS = 2048;

/** Life of a refresh token, which docker keeps in place of the password. */
export const REFRESH_LIFE_SECONDS = 90 * 86_400;

/** How long an isolate knows a credential that it has looked up (less where CACHE_TTL is), and how many. */
export const CREDENTIAL_KEPT_SECONDS = 60;
export const CREDENTIALS_KEPT_MAX = 10_000;

/** Most repositories in one token; some 200 bytes each, and a request's headers have at most 128 KB. */
export const SCOPES_MAX = 64;

/** Largest body of /token and of the management API. */
export const FORM_MAX_BYTES = 64 * KIB;

/** Most entries in a page of the management API; a user has up to 27 KB, a record of the audit rarely 1 KB. */
export const API_PAGE_MAX = 100;
export const AUDIT_PAGE_MAX = 1000;

/** PBKDF2-HMAC-SHA256 rounds: the most that the platform's WebCrypto does (some 15 ms of CPU). */
export const PASSWORD_ITERATIONS = 100_000;

/** How seldom the last use of an access token is noted: each note is a write. */
export const LAST_USED_STEP_SECONDS = 300;

/** How seldom a login is noted of who logs in again with the same token at the same address, and of how many an isolate knows. */
export const LOGIN_NOTED_SECONDS = 300;
export const LOGINS_NOTED_KEPT_MAX = 10_000;

/** How many requests one count of REQUESTS in wrangler.toml stands for, and how long its limit makes wait. */
export const REQUESTS_PER_COUNT = 500;
export const REQUESTS_WAIT_SECONDS = 10;

/** The period of the failed logins' counter in wrangler.toml, and how many keys of a brake an isolate knows. */
export const BRAKE_SECONDS = 60;

/**
 * Failed logins of one address in that time after which an isolate looks at no more of them, as the counter in
 * wrangler.toml has it for all isolates; and how many of one address it looks into at once, whose outcome is not known.
 */
export const FAILED_LOGINS_MAX = 10;
export const LOGINS_AT_ONCE_MAX = 64;

export const BRAKED_KEPT_MAX = 10_000;

/** How long the refusal of one thing to one principal is not noted again, and of how many an isolate knows that. */
export const REFUSAL_NOTED_SECONDS = 60;
export const REFUSALS_KEPT_MAX = 1000;

/** Refusals of one principal that are noted in that time, whatever it asks for. */
export const REFUSALS_NOTED_MAX = 60;

/** How many repositories a mount without `from` looks through for one that its caller may pull. */
export const MOUNT_CANDIDATES_MAX = 1000;

/** Trust rules, and what each may say: all of one issuer's are read, and looked through at a login. */
export const TRUST_RULES_MAX = 1000;
export const RULE_TEXT_MAX_CHARACTERS = 512;
export const RULE_CLAIMS_MAX = 20;
export const RULE_CLAIM_MAX_CHARACTERS = 128;
export const RULE_PATTERNS_MAX = 50;
export const RULE_PATTERN_MAX_CHARACTERS = 512;

/**
 * Largest OpenID Connect token: GitLab's name up to 200 groups. The longest subject is a Kubernetes service account's,
 * some 340 characters.
 */
export const ID_TOKEN_MAX_CHARACTERS = 16 * KIB;
export const SUBJECT_MAX_CHARACTERS = 512;

/** How many verified tokens of other issuers an isolate keeps, for CREDENTIAL_KEPT_SECONDS. */
export const ID_TOKENS_KEPT_MAX = 1000;

/** By how much an issuer's clock may be ahead; nothing is given to the end of a token. */
export const CLOCK_SKEW_SECONDS = 60;

/** What an issuer may take to give its keys, in all. */
export const ISSUER_FETCH_SECONDS = 3;

/** How long others wait for one who asks an issuer: longer than that takes, or they would ask again where it fails. */
export const ISSUER_WAIT_SECONDS = ISSUER_FETCH_SECONDS + 1;

/** How large each of an issuer's two documents may be. */
export const ISSUER_DOCUMENT_MAX_BYTES = 64 * KIB;

/**
 * How long an isolate keeps an issuer's keys; how soon it asks again for a key id that it does not know, and after a
 * failure; and of how many issuers it keeps them.
 */
export const ISSUER_KEYS_KEPT_SECONDS = 600;
export const ISSUER_REFRESH_SECONDS = 30;
export const ISSUER_FAILURE_KEPT_SECONDS = 10;
export const ISSUERS_KEPT_MAX = 100;

/** Pulls that one row statement of the audit takes, and how long the first of them waits for others. */
export const PULLS_BATCH_MAX = 100;
export const PULLS_BATCH_SECONDS = 5;

/** Largest blob that is kept in an isolate's memory, and how many bytes are read into it at one moment. */
export const EDGE_MEMORY_ITEM_MAX_BYTES = MIB;
export const EDGE_READING_BYTES = 16 * MIB;

/** How many fills of the data centre's cache one isolate has under way; a request has six connections at most. */
export const EDGE_FILLS_MAX = 4;

/** How long a fill may take: the platform gives what is left after an answer 30 s (workers/platform/limits). */
export const EDGE_FILL_SECONDS = 60;

/** How long what was filled is not filled again, though the cache does not have it; and of how many that is known. */
export const EDGE_FILL_AGAIN_SECONDS = 300;
export const EDGE_FILLS_KEPT_MAX = 1000;

/** How long bytes are cached by their digest; half the collector's grace, where that is less. */
export const EDGE_CONTENT_MAX_SECONDS = 86_400;

/** How many deletes an isolate remembers one by one, for what is still on its way into a cache. */
export const EDGE_FORGOTTEN_MAX = 1000;

/** Largest CACHE_MEMORY_BYTES; an isolate has 128 MB for everything. */
export const EDGE_MEMORY_MAX_BYTES = 64 * MIB;

/** Largest object that the Cache API takes (developers.cloudflare.com/workers/platform/limits). */
export const EDGE_BLOB_MAX_BYTES = 512 * MIB;

/**
 * What the scrub reads in one minute: so many bytes and objects at most, and nothing new after so long. A minute that was
 * cut off makes the next ones smaller, down to SCRUB_SHARE_MIN of it; each that ends makes them larger again.
 */
export const SCRUB_TICK_BYTES = 128 * MIB;
export const SCRUB_TICK_OBJECTS = 400;
export const SCRUB_TICK_SECONDS = 20;
export const SCRUB_SHARE_MIN = 1 / 256;

/**
 * With so much in quarantine the scrub stops, and says so: that is no disk that forgets a bit, but a bucket that is
 * another one's, or a rule that empties it, and somebody has to look.
 */
export const SCRUB_QUARANTINED_MAX = 100;
export const QUARANTINED_TOLD_MAX = 10_000;

/** From the beginning of one reading of everything to that of the next, at least. */
export const SCRUB_ROUND_SECONDS = 30 * 86_400;

/** How long a minute's work keeps another one from beginning. */
export const INTEGRITY_LEASE_SECONDS = 120;

/** How often R2 may fail over one object before the scrub goes on without it, until its next round. */
export const SCRUB_FAILURES_MAX = 5;

/** Manifests that are read from D1 at once: 64 KiB each at most. */
export const SCRUB_MANIFESTS_MAX = 32;

/** One request that verifies reads so much at most, and nothing new after so long. */
export const VERIFY_SLICE_BYTES = 64 * MIB;
export const VERIFY_SLICE_OBJECTS = 200;
export const VERIFY_SLICE_SECONDS = 10;

/** Repositories that are told of one bad blob, by an event each. */
export const QUARANTINE_EVENTS_MAX = 1000;

/**
 * A part of an export: so many bytes of manifests, or so many rows of another noun, fewer of those that may be long. Its
 * text is twice that at most.
 */
export const EXPORT_PART_BYTES = 1_000_000;
export const EXPORT_PART_ROWS = 2500;
export const EXPORT_LONG_ROWS = 32;
export const EXPORT_LONGEST_ROWS = 2;

/** Parts that one minute, or one request, writes or reads: three operations each. */
export const EXPORT_PARTS_PER_STEP = 12;

/** From one export to the next, in which minute of an hour one begins, and how many are kept. */
export const EXPORT_MINUTE = 17;
export const EXPORT_INTERVAL_SECONDS = 86_400;
export const EXPORTS_KEPT = 7;

/** Copies whose lists are read one after the other, to tell how many rows they have or to find one that has any. */
export const EXPORT_LISTS_READ_MAX = 30;

/** Keys that one step of a rebuild, or of taking old exports away, lists; and rows without object that it looks into. */
export const EXPORT_LIST_KEYS = 1000;
export const REBUILD_MISSING_MAX = 40;

/** How long a redirect to R2 is good for its download to begin. */
export const REDIRECT_SECONDS = 300;

/** The hour (UTC) in which it is counted what the registry has, for /metrics: a million manifests are 7 million rows. */
export const COUNT_HOUR = 3;

/** How long an isolate believes what it saw when it looked whether D1, R2 and Durable Objects answer. */
export const READY_KEPT_MS = 5000;

/** How long who asks meanwhile waits before it looks whether that is over. */
export const READY_ASK_AGAIN_MS = 25;

/** How many lines about requests the local run writes at once, and how long the first of them waits. */
export const REQUEST_LINES_AT_ONCE_MAX = 100;
export const REQUEST_LINES_WAIT_MS = 50;
