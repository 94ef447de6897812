import type { RepositoryName } from "./repository.ts";

/** Which repositories are meant: a name in which `*` stands for one path part or a piece of it, `**` for any number. */
export const repositoryPatternGrammar = /^(?=.{1,255}$)(?!.*\*{3})[a-z0-9._\-*]+(?:\/[a-z0-9._\-*]+)*$/;

/**
 * By going back to the last star alone: what an earlier one could take instead, a later one can take too. The time grows
 * with the product of the lengths; a regular expression of many stars would try every way of parting a name among them.
 */
export function matchesPattern(repository: RepositoryName, pattern: string): boolean {
  if (pattern === "**") return true;
  /** where the pattern goes on after the last star of each kind, and where in the name that star has come to; -1: none */
  let within = { pattern: -1, name: 0 };
  let across = { pattern: -1, name: 0 };
  let [n, p] = [0, 0];
  for (;;) {
    if (pattern[p] === "*") {
      const stars = starsAt(pattern, p);
      p += stars;
      if (stars === 1) within = { pattern: p, name: n };
      else
        [within, across] = [
          { pattern: -1, name: 0 },
          { pattern: p, name: n },
        ];
    } else if (n === repository.length && p === pattern.length) {
      return true;
    } else if (n < repository.length && pattern[p] === repository[n]) {
      n += 1;
      p += 1;
    } else if (within.pattern >= 0 && within.name < repository.length && repository[within.name] !== "/") {
      within.name += 1;
      [n, p] = [within.name, within.pattern];
    } else if (across.pattern >= 0 && across.name < repository.length) {
      across.name += 1;
      [n, p] = [across.name, across.pattern];
      within = { pattern: -1, name: 0 };
    } else {
      return false;
    }
  }
}

function starsAt(pattern: string, index: number): number {
  let end = index;
  while (pattern[end] === "*") end += 1;
  return end - index;
}

export function matchesAnyPattern(repository: RepositoryName, patterns: readonly string[]): boolean {
  return patterns.some((pattern) => matchesPattern(repository, pattern));
}

/** The letters with which every name that the pattern matches begins. */
export function literalPrefix(pattern: string): string {
  const star = pattern.indexOf("*");
  return star < 0 ? pattern : pattern.slice(0, star);
}
