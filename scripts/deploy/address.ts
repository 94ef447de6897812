/** Where a deployed registry is reached. */

/**
 * @param output what `wrangler deploy`, or `wrangler triggers deploy`, printed: a line for each address, route and cron
 * @returns null where it names no whole host, as on a Worker whose routes are patterns
 */
export function addressIn(output: string): URL | null {
  const [, list = ""] = output.split(/^Deployed .* triggers.*$/m);
  const targets = [...list.matchAll(/^\s+(\S+)(.*)$/gm)].map((match) => ({
    target: match[1] ?? "",
    note: match[2] ?? "",
  }));
  // One's own domain before a route on it, and that before Cloudflare's: it is the one that its owner gives to others.
  const ranked = [
    ...targets.filter(({ note }) => note.startsWith(" (custom domain")),
    ...targets.filter(({ target }) => target.endsWith("/*")),
    ...targets.filter(({ target }) => target.startsWith("https://")),
  ];
  return ranked.map(({ target }) => hostOf(target)).find((url) => url !== null) ?? null;
}

function hostOf(target: string): URL | null {
  const host = target.replace(/^https?:\/\//, "").replace(/\/\*$/, "");
  return /^[a-z0-9-]+(\.[a-z0-9-]+)+$/i.test(host) ? new URL(`https://${host}`) : null;
}
