import { OciError } from "./errors.ts";

declare const brand: unique symbol;

/** A repository name, `<name>` in distribution-spec v1.1.1. */
export type RepositoryName = string & { readonly [brand]: "repository" };

const grammar = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;

/** Clients bound host and name together by 255; a name alone is bound by the same number here. */
const NAME_MAX_CHARACTERS = 255;

export function isRepositoryName(value: string): value is RepositoryName {
  return value.length <= NAME_MAX_CHARACTERS && grammar.test(value);
}

/** @throws OciError NAME_INVALID */
export function parseRepositoryName(value: string): RepositoryName {
  if (isRepositoryName(value)) return value;
  throw new OciError("NAME_INVALID", {
    reason:
      value.length > NAME_MAX_CHARACTERS
        ? `a repository name has at most ${String(NAME_MAX_CHARACTERS)} characters`
        : "a repository name is lower-case letters and digits, parted by one of . _ __ - and by /",
    name: value.slice(0, 300),
  });
}
