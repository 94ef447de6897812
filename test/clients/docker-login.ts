import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

/** An entry of the file where docker keeps its logins, and where many other clients look for them. */
export interface DockerLogin {
  /** base64 of `user:password`; with an identity token, the password is empty */
  readonly auth: string;
  readonly identitytoken?: string;
}

const configuration = z.looseObject({ auths: z.record(z.string(), z.unknown()).default({}) });

/** Notes a login as `docker login` does where it has no other place for secrets. */
export async function writeDockerLogin(home: string, host: string, login: DockerLogin): Promise<void> {
  const known = await readDockerLogins(home);
  await write(home, { ...known, auths: { ...known.auths, [host]: login } });
}

/** Forgets a login as `docker logout` does. */
export async function removeDockerLogin(home: string, host: string): Promise<void> {
  const known = await readDockerLogins(home);
  const kept = Object.entries(known.auths).filter(([each]) => each !== host);
  await write(home, { ...known, auths: Object.fromEntries(kept) });
}

export async function readDockerLogins(home: string): Promise<z.infer<typeof configuration>> {
  return configuration.parse(JSON.parse(await readFile(fileIn(home), "utf8").catch(() => "{}")));
}

async function write(home: string, logins: object): Promise<void> {
  await mkdir(join(home, ".docker"), { recursive: true });
  await writeFile(fileIn(home), JSON.stringify(logins));
}

function fileIn(home: string): string {
  return join(home, ".docker", "config.json");
}
