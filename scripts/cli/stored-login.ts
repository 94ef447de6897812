/** The logins that docker's clients share: `moorage login` writes them as `docker login` does, and all read each other's. */
import { access, constants } from "node:fs/promises";
import path from "node:path";
import { CredentialHelper } from "./credential-helper.ts";
import {
  type AuthEntry,
  type Auths,
  authsOfEnvironment,
  changeDockerConfig,
  type DockerConfig,
  readDockerConfig,
} from "./docker-config.ts";

export interface PasswordLogin {
  readonly kind: "password";
  readonly user: string;
  /** or an access token */
  readonly password: string;
}

/** A refresh token of the registry's token service. */
export interface TokenLogin {
  readonly kind: "identity-token";
  readonly token: string;
}

export type Login = PasswordLogin | TokenLogin;

export interface StoredLogin {
  readonly login: Login;
  /** The file or the program that keeps it. */
  readonly place: string;
}

/** What helpers have as the name in place of a user's, with an identity token. */
const tokenUser = "<token>";

/**
 * The login of a registry that is kept, whoever kept it.
 * @throws Refusal where docker's file or its helper does not do
 */
export async function findStoredLogin(registry: URL): Promise<StoredLogin | null> {
  const server = serverOf(registry);
  const environment = authsOfEnvironment();
  const given = Object.hasOwn(environment, server) ? loginOfEntry(environment[server] ?? null) : null;
  if (given !== null) return { login: given, place: "DOCKER_AUTH_CONFIG" };
  const config = await readDockerConfig();
  const helper = helperOf(config, server);
  if (helper === null) {
    const login = loginOfEntry(entryOf(config.auths, server));
    return login === null ? null : { login, place: config.file };
  }
  const kept = await helper.get(server);
  if (kept === null) return null;
  const { user, secret } = kept;
  return {
    login:
      user === tokenUser ? { kind: "identity-token", token: secret } : { kind: "password", user, password: secret },
    place: helper.program,
  };
}

export interface Place {
  /** The file or the program that keeps the login. */
  readonly place: string;
  /** Whether it is in the file for whoever may read that. */
  readonly isPlain: boolean;
}

/** @throws Refusal; what was kept before stays */
export async function storeLogin(registry: URL, user: string, password: string): Promise<Place> {
  const server = serverOf(registry);
  const config = await withDefaultStore(await readDockerConfig());
  const helper = helperOf(config, server);
  if (helper === null) {
    const auth = Buffer.from(`${user}:${password}`).toString("base64");
    await changeDockerConfig(config, { auths: { ...config.auths, [server]: { auth } } });
    return { place: config.file, isPlain: true };
  }
  await helper.store(server, { user, secret: password });
  // docker lists by these whom it has logins of.
  await changeDockerConfig(config, {
    auths: { ...config.auths, [server]: {} },
    ...(config.credsStore === "" ? {} : { credsStore: config.credsStore }),
  });
  return { place: helper.program, isPlain: false };
}

/**
 * Forgets a login, in each spelling that it may have.
 * @returns null where there was none to be seen
 * @throws Refusal
 */
export async function eraseLogin(registry: URL): Promise<Place | null> {
  const server = serverOf(registry);
  const config = await readDockerConfig();
  const spellings = Object.keys(config.auths).filter((key) => key === server || hostOf(key) === server);
  const helper = helperOf(config, server);
  const kept = helper === null ? null : await helper.get(server);
  if (helper !== null) {
    for (const each of new Set([server, ...spellings])) await helper.erase(each);
  }
  if (spellings.length > 0) {
    const auths = Object.fromEntries(Object.entries(config.auths).filter(([key]) => !spellings.includes(key)));
    await changeDockerConfig(config, { auths });
  }
  if (kept === null && spellings.length === 0) return null;
  return helper === null ? { place: config.file, isPlain: true } : { place: helper.program, isPlain: false };
}

/** Docker Hub has its logins under an address of its past. */
const dockerHub: ReadonlySet<string> = new Set(["docker.io", "index.docker.io", "registry-1.docker.io"]);

/** The name under which clients look for a login: what opens an image's name. */
function serverOf({ host }: URL): string {
  return dockerHub.has(host) ? "https://index.docker.io/v1/" : host;
}

/** Old clients wrote whole addresses. */
function hostOf(server: string): string {
  return server.replace(/^https?:\/\//, "").split("/", 1)[0] ?? "";
}

function entryOf(auths: Auths, server: string): AuthEntry {
  if (Object.hasOwn(auths, server)) return auths[server] ?? null;
  return Object.entries(auths).find(([key]) => hostOf(key) === server)?.[1] ?? null;
}

/** null for an entry that says only that a helper has the login, or that can't be read. */
function loginOfEntry(entry: AuthEntry): Login | null {
  if (entry === null) return null;
  if ((entry.identitytoken ?? "") !== "") return { kind: "identity-token", token: entry.identitytoken ?? "" };
  const decoded = Buffer.from(entry.auth ?? "", "base64").toString();
  const colon = decoded.indexOf(":");
  const [user, password] =
    colon > 0
      ? // Some clients padded what they encoded.
        [decoded.slice(0, colon), decoded.slice(colon + 1).replace(/\0+$/, "")]
      : [entry.username ?? "", entry.password ?? ""];
  return user === "" || password === "" ? null : { kind: "password", user, password };
}

function helperOf({ credHelpers, credsStore }: DockerConfig, server: string): CredentialHelper | null {
  const name = Object.hasOwn(credHelpers, server) ? credHelpers[server] : credsStore;
  return name === undefined || name === "" ? null : new CredentialHelper(name);
}

/** Where no login was ever kept, docker takes the system's own keychain, if its helper is installed. */
async function withDefaultStore(config: DockerConfig): Promise<DockerConfig> {
  const { auths, credHelpers, credsStore } = config;
  if (credsStore !== "" || Object.keys(auths).length > 0 || Object.keys(credHelpers).length > 0) return config;
  const name = await defaultStore();
  return name !== null && (await isOnPath(`docker-credential-${name}`)) ? { ...config, credsStore: name } : config;
}

async function defaultStore(): Promise<string | null> {
  if (process.platform === "darwin") return "osxkeychain";
  if (process.platform === "win32") return "wincred";
  if (process.platform !== "linux") return null;
  return (await isOnPath("pass")) ? "pass" : "secretservice";
}

async function isOnPath(program: string): Promise<boolean> {
  const name = process.platform === "win32" ? `${program}.exe` : program;
  const folders = (process.env["PATH"] ?? "").split(path.delimiter).filter((folder) => folder !== "");
  const found = await Promise.all(
    folders.map(async (folder) =>
      access(path.join(folder, name), constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}
