import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { lstat, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseEnv, promisify } from "node:util";
import { describe, expect } from "vitest";
import { z } from "zod";
import { identitySchema } from "../../src/api/identity.ts";
import { adminPassword, basic } from "../support/credentials.ts";
import { RegistryClient } from "../support/client.ts";
import { projectRoot } from "../support/registry.ts";
import { cliTest, expectLine, freshName, moorage, type Ran, readJson, type RunOptions } from "./cli-test.ts";
import { startTest } from "./start-test.ts";

const configSchema = z.looseObject({ auths: z.record(z.string(), z.looseObject({ auth: z.string().optional() })) });

/**
 * `docker` has the test's DOCKER_CONFIG: `folder`, `write` and `read` of its config.json, `run`, which runs moorage with it
 * and with no other login, and `login`, as administrator.
 */
const loginTest = cliTest.extend("docker", async ({ folder, registry }) => {
  const config = path.join(folder, "docker");
  const file = path.join(config, "config.json");
  const run = (args: readonly string[], options: RunOptions = {}): Promise<Ran> =>
    moorage(args, { ...options, env: { DOCKER_CONFIG: config, MOORAGE_REGISTRY: registry.url, ...options.env } });
  return {
    folder: config,
    file,
    run,
    login: (options: RunOptions = {}): Promise<Ran> =>
      run(["login", registry.url, "-u", "admin", "--password-stdin"], { input: adminPassword, ...options }),
    async write(content: object | string): Promise<void> {
      await mkdir(config, { recursive: true });
      await writeFile(file, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o644 });
    },
    read: async () => configSchema.parse(JSON.parse(await readFile(file, "utf8"))),
  };
});

const encoded = Buffer.from(`admin:${adminPassword}`).toString("base64");

/** Of a keychain: a program that keeps what it is told in files beside it, and says on stdout what it can't do. */
const helperSource = `#!/bin/sh
here=$(dirname "$0")
case "$1" in
  store) cat > "$here/kept.json"; echo store >> "$here/verbs" ;;
  get)
    read -r server
    echo "get $server" >> "$here/verbs"
    if [ -f "$here/kept.json" ]; then cat "$here/kept.json"; else echo "credentials not found in native keychain"; exit 1; fi ;;
  erase) read -r server; echo "erase $server" >> "$here/verbs"; rm -f "$here/kept.json" ;;
esac
`;

/** @returns the folder that is to be on PATH */
async function writeHelper(folder: string, name: string, source = helperSource): Promise<string> {
  const bin = path.join(folder, "bin");
  await mkdir(bin, { recursive: true });
  await writeFile(path.join(bin, `docker-credential-${name}`), source, { mode: 0o755 });
  return bin;
}

function withOnPath(bin: string): { readonly PATH: string } {
  return { PATH: `${bin}${path.delimiter}${process.env["PATH"] ?? ""}` };
}

/**
 * Runs a shell's command in a terminal, which `script` makes, and which echoes what is typed unless it is told not to.
 * @param answers what is typed, each once its question is shown
 * @returns all that was shown
 */
async function typeInto(
  command: string,
  env: NodeJS.ProcessEnv,
  answers: readonly (readonly [question: RegExp, answer: string])[],
): Promise<string> {
  const child = spawn("script", ["-qec", command, "/dev/null"], { env, timeout: 60_000, killSignal: "SIGKILL" });
  const waiting = [...answers];
  let shown = "";
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    shown += piece;
    const [next] = waiting;
    if (next === undefined || !next[0].test(shown)) return;
    waiting.shift();
    child.stdin.write(next[1]);
  });
  await once(child, "close");
  return shown;
}

describe("moorage login", () => {
  loginTest("keeps a login as docker does, and the other commands find it", async ({ docker, registry }) => {
    const ran = await docker.login();
    expect(ran).toMatchObject({ code: 0, stdout: "" });
    expect(ran.stderr).toContain(`the password is unencrypted in ${docker.file}`);
    expect(ran.stderr).toContain(`logged in to ${registry.host} as admin`);
    expect(ran.stderr).not.toContain(adminPassword);
    expect(await docker.read()).toEqual({ auths: { [registry.host]: { auth: encoded } } });
    expect((await stat(docker.file)).mode & 0o777).toBe(0o600);
    expect((await stat(docker.folder)).mode & 0o777).toBe(0o700);
    expect(await readdir(docker.folder)).toEqual(["config.json"]);

    const identity = readJson(await docker.run(["whoami", "--json"]), identitySchema);
    expect(identity).toMatchObject({ principal: "admin", admin: true });
  });

  loginTest("leaves all else in the file as it is", async ({ docker, registry }) => {
    const before = {
      HttpHeaders: { "X-Own": "1" },
      auths: { "registry.test": { auth: "YTpi", email: "a@test.org" }, other: null },
      detachKeys: "ctrl-e",
      aliases: { b: "buildx" },
    };
    await docker.write(before);
    expect(await docker.login()).toMatchObject({ code: 0 });
    const after: unknown = JSON.parse(await readFile(docker.file, "utf8"));
    expect(after).toEqual({ ...before, auths: { ...before.auths, [registry.host]: { auth: encoded } } });
    expect((await stat(docker.file)).mode & 0o777).toBe(0o600);
  });

  loginTest("writes through a link, to a file that may not be there yet", async ({ docker, folder, registry }) => {
    await mkdir(docker.folder);
    await symlink("../elsewhere.json", docker.file);
    expect(await docker.login()).toMatchObject({ code: 0 });
    expect((await lstat(docker.file)).isSymbolicLink()).toBe(true);
    const written = configSchema.parse(JSON.parse(await readFile(path.join(folder, "elsewhere.json"), "utf8")));
    expect(Object.keys(written.auths)).toEqual([registry.host]);
  });

  loginTest("takes user and password from the options and variables of all commands", async ({ docker, folder }) => {
    await writeFile(path.join(folder, "password"), `${adminPassword}\n`);
    const ways: [readonly string[], RunOptions][] = [
      [["login", "--as", "admin", "--password-file", "password"], { folder }],
      [["login", "--username", "admin"], { env: { MOORAGE_PASSWORD: adminPassword } }],
      [["login"], { env: { MOORAGE_PASSWORD: adminPassword, MOORAGE_USER: "admin" } }],
    ];
    for (const [args, options] of ways) {
      const ran = await docker.run([...args, "--json"], options);
      expect(readJson(ran, z.object({ user: z.string(), place: z.string() }))).toEqual({
        user: "admin",
        place: docker.file,
      });
      expect(await docker.run(["logout"])).toMatchObject({ code: 0 });
    }
  });

  loginTest("takes the name of a registry as docker does", async ({ docker, registry }) => {
    const ran = await docker.run(["login", registry.host, "-u", "admin", "--password-stdin"], { input: adminPassword });
    expect(ran).toMatchObject({ code: 0 });
    expect(Object.keys((await docker.read()).auths)).toEqual([registry.host]);
  });

  loginTest("logs in a person with a password, which /token alone takes", async ({ docker, run, folder }) => {
    const user = freshName();
    await writeFile(path.join(folder, "new"), "a long passphrase");
    await run(["user", "create", user, "-g", "team/*:pull", "--new-password-file", path.join(folder, "new")]);
    const ran = await docker.run(["login", "-u", user, "--password-stdin"], { input: "a long passphrase" });
    expect(ran).toMatchObject({ code: 0 });
  });

  loginTest("keeps nothing of a login that is wrong", async ({ docker, registry }) => {
    const ran = await docker.login({ input: "a wrong guess" });
    expectLine(ran, 1, /does not take this login \(401 UNAUTHORIZED .*\); nothing is kept/);
    expect(ran.stderr).not.toContain("a wrong guess");
    await expect(stat(docker.file)).rejects.toThrow("ENOENT");
    await docker.write({ auths: { [registry.host]: { auth: encoded } } });
    const before = await readFile(docker.file, "utf8");
    expectLine(await docker.login({ input: "a wrong guess" }), 1, /nothing is kept/);
    expect(await readFile(docker.file, "utf8")).toBe(before);
  });

  loginTest.for([
    ["half of a file", '{"auths":{"registry.test":{"auth":"c2VjcmV0', /config\.json is no JSON: mend it/],
    ["a list of logins", { auths: ["c2VjcmV0"] }, /config\.json is not as docker writes it \(auths: /],
    ["a helper that is no name", { credsStore: "../x" }, /names a credential helper "\.\.\/x"/],
  ] as const)("does not write over %s", async ([, content, message], { docker }) => {
    await docker.write(content);
    const before = await readFile(docker.file, "utf8");
    const ran = await docker.login();
    expectLine(ran, 1, message);
    expect(ran.stderr).not.toContain("c2VjcmV0");
    expect(await readFile(docker.file, "utf8")).toBe(before);
    expect(await readdir(docker.folder)).toEqual(["config.json"]);
  });

  loginTest.for([
    ["an html page", 200, { "Content-Type": "text/html" }, /asks nobody for a login/],
    ["something else", 404, {}, /does not answer as a registry \(GET \/v2\/: 404\); npx moorage doctor/],
    ["no challenge", 401, {}, /does not answer as a registry/],
  ] as const)("keeps nothing for %s", async ([, status, headers, message], { docker, serve }) => {
    const url = await serve((_request, response) => response.writeHead(status, headers).end());
    const ran = await docker.run(["login", url, "-u", "a", "--password-stdin"], { input: "x" });
    expectLine(ran, 1, message);
    await expect(stat(docker.file)).rejects.toThrow("ENOENT");
  });

  loginTest(
    "sends no password to a realm that is unencrypted, or where a redirect leads",
    async ({ docker, serve }) => {
      const received: (string | undefined)[] = [];
      const other = await serve((request, response) => {
        received.push(request.headers.authorization);
        response.writeHead(401).end();
      });
      const moved = await serve((_request, response) => response.writeHead(307, { Location: `${other}/v2/` }).end());
      const input = { input: "s3cret" };
      expectLine(await docker.run(["login", moved, "-u", "a", "--password-stdin"], input), 1, /does not answer as a/);
      const realm = await serve((request, response) => {
        received.push(request.headers.authorization);
        response
          .writeHead(401, { "WWW-Authenticate": 'Bearer realm="http://registry.invalid/token",service="x"' })
          .end();
      });
      const ran = await docker.run(["login", realm, "-u", "a", "--password-stdin"], input);
      expectLine(ran, 1, /does not take this login/);
      // The registry itself, which the user named, gets it as Basic where its realm is none.
      expect(received).toEqual([undefined, undefined, basic("a", "s3cret")]);
    },
  );

  loginTest("asks where there is a terminal, and nowhere else", async ({ docker, registry }) => {
    expectLine(await docker.run(["login"]), 2, /standard input is no terminal: .*give --username/);
    expectLine(await docker.run(["login", "-u", "admin"]), 2, /standard input is no terminal: .*--password-stdin/);
    expectLine(await docker.run(["login", "-u", "a:b", "--password-stdin"]), 2, /has no colon/);
    const both = ["login", "-u", "admin", "--password-stdin", "--password-file", "x"];
    expectLine(await docker.run(both), 2, /one too many/);
    if (process.platform !== "linux") return;
    const command = `'${process.execPath}' '${path.join(projectRoot, "scripts/moorage.ts")}' login '${registry.url}'`;
    const env = { ...process.env, DOCKER_CONFIG: docker.folder, MOORAGE_PASSWORD: undefined, NO_COLOR: "1" };
    const shown = await typeInto(command, env, [
      [/User name for .*: /, "admin\r"],
      [/Password, or access token, of admin for .*: /, `${adminPassword}\r`],
    ]);
    expect(shown).toContain("logged in to");
    expect(shown).not.toContain(adminPassword);
    expect(Object.keys((await docker.read()).auths)).toEqual([registry.host]);
  });
});

describe("moorage login with a credential helper", () => {
  loginTest("keeps the password there alone, and finds it there", async ({ docker, folder, registry }) => {
    const bin = await writeHelper(folder, "test");
    const env = withOnPath(bin);
    await docker.write({ auths: {}, credsStore: "test" });
    const ran = await docker.login({ env });
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stderr).not.toContain("unencrypted");
    expect(ran.stderr).toContain("docker-credential-test keeps it");
    expect(await docker.read()).toEqual({ auths: { [registry.host]: {} }, credsStore: "test" });
    const kept: unknown = JSON.parse(await readFile(path.join(bin, "kept.json"), "utf8"));
    expect(kept).toEqual({ ServerURL: registry.host, Username: "admin", Secret: adminPassword });
    expect(await docker.run(["whoami"], { env })).toMatchObject({ code: 0 });
    expect(await docker.run(["logout"], { env })).toMatchObject({ code: 0 });
    expect(await docker.read()).toEqual({ auths: {}, credsStore: "test" });
    expect(await readFile(path.join(bin, "verbs"), "utf8")).toContain(`erase ${registry.host}\n`);
    expectLine(await docker.run(["whoami"], { env }), 2, /there is no password of admin: npx moorage login/);
  });

  loginTest("takes the one of this registry before that of all", async ({ docker, folder, registry }) => {
    const bin = await writeHelper(folder, "own");
    await docker.write({ credHelpers: { [registry.host]: "own" }, credsStore: "nobody" });
    expect(await docker.login({ env: withOnPath(bin) })).toMatchObject({ code: 0 });
    expect(await readdir(bin)).toContain("kept.json");
    await docker.write({ credHelpers: { [registry.host]: "" }, credsStore: "nobody" });
    expect(await docker.login({ env: withOnPath(bin) })).toMatchObject({ code: 0 });
    expect((await docker.read()).auths[registry.host]).toEqual({ auth: encoded });
  });

  loginTest("takes the system's own where nothing was ever kept", async ({ docker, folder }) => {
    const bin = await writeHelper(folder, process.platform === "darwin" ? "osxkeychain" : "secretservice");
    // Nothing else on PATH but what the script needs: this machine may have a keychain.
    const env = { PATH: `${bin}${path.delimiter}/bin` };
    if (process.platform !== "linux") return;
    expect(await docker.login({ env })).toMatchObject({ code: 0 });
    expect(await docker.read()).toMatchObject({ credsStore: "secretservice" });
    expect(await readdir(bin)).toContain("kept.json");
  });

  loginTest("says what went wrong there, without the password, and keeps nothing", async ({ docker, folder }) => {
    const bin = await writeHelper(folder, "sad", `#!/bin/sh\necho "the keychain is locked: $(cat)"\nexit 1\n`);
    const env = withOnPath(bin);
    await docker.write({ credsStore: "sad" });
    const ran = await docker.login({ env });
    expectLine(ran, 1, /docker-credential-sad store failed: the keychain is locked/);
    expect(ran.stderr).not.toContain(adminPassword);
    expect(await readFile(docker.file, "utf8")).toBe('{"credsStore":"sad"}');
    expectLine(await docker.run(["whoami"], { env }), 2, /docker-credential-sad get failed: the keychain is locked/);
    await docker.write({ credsStore: "nobody" });
    expectLine(await docker.login(), 1, /names docker-credential-nobody, which can't be run: .*ENOENT/);
    await writeHelper(folder, "mad", '#!/bin/sh\necho \'{"Secret":"s3cret"\'\n');
    await docker.write({ credsStore: "mad" });
    const mad = await docker.run(["whoami"], { env });
    expectLine(mad, 2, /docker-credential-mad get answers in a form that it should not/);
    expect(mad.stderr).not.toContain("s3cret");
  });
});

describe("a login that is kept", () => {
  loginTest("gives way to what is given", async ({ docker, run, registry }) => {
    const user = freshName();
    await run(["user", "create", user]);
    const token = (await run(["token", "create", user, "x"])).stdout.trimEnd();
    await docker.login();
    const env = { MOORAGE_USER: user, MOORAGE_PASSWORD: token };
    expect(readJson(await docker.run(["whoami", "--json"], { env }), identitySchema).principal).toBe(`user:${user}`);
    expectLine(await docker.run(["whoami", "--as", user]), 2, new RegExp(`there is no password of ${user}: `));
    await docker.run(["login", "-u", user, "--password-stdin"], { input: token });
    const found = readJson(await docker.run(["whoami", "--json"]), identitySchema);
    expect(found.principal).toBe(`user:${user}`);
    expectLine(await docker.run(["user", "list"]), 1, /\(DENIED\); this is the administrator's to do/);
    const inEnvironment = { DOCKER_AUTH_CONFIG: JSON.stringify({ auths: { [registry.host]: { auth: encoded } } }) };
    const before = readJson(await docker.run(["whoami", "--json"], { env: inEnvironment }), identitySchema);
    expect(before.principal).toBe("admin");
  });

  loginTest("may be written as old clients did", async ({ docker, registry }) => {
    for (const entry of [
      { [`http://${registry.host}/v1/`]: { auth: encoded } },
      { [registry.host]: { auth: Buffer.from(`admin:${adminPassword}\0\0`).toString("base64") } },
      { [registry.host]: { username: "admin", password: adminPassword } },
    ]) {
      await docker.write({ auths: entry });
      expect(await docker.run(["whoami"])).toMatchObject({ code: 0 });
    }
  });

  loginTest("that is no more good says so", async ({ docker, registry }) => {
    await docker.write({ auths: { [registry.host]: { auth: Buffer.from("admin:old").toString("base64") } } });
    const ran = await docker.run(["whoami"]);
    expectLine(
      ran,
      1,
      new RegExp(`\\(UNAUTHORIZED\\); the login that ${docker.file} keeps is not good there any more`),
    );
    await docker.write({ auths: { [registry.host]: { identitytoken: "a.b.c" } } });
    expectLine(await docker.run(["whoami"]), 1, /is not good at .* any more \(401 .*\); npx moorage login/);
  });

  loginTest("may be a token of docker login, which says whose it is", async ({ docker, registry, run, folder }) => {
    const user = freshName();
    await writeFile(path.join(folder, "new"), "a long passphrase");
    await run(["user", "create", user, "--new-password-file", path.join(folder, "new")]);
    const token = await refreshTokenOf(registry.url, basic(user, "a long passphrase"));
    await docker.write({ auths: { [registry.host]: { identitytoken: token } } });
    expect(readJson(await docker.run(["whoami", "--json"]), identitySchema)).toMatchObject({
      principal: `user:${user}`,
      scopes: [],
    });
    expect((await docker.run(["whoami"])).stdout).toMatch(/^administrator +not by what docker login keeps$/m);
    const refused = await docker.run(["user", "list"]);
    expectLine(refused, 1, /\(DENIED\); the login is the token that .*config\.json keeps, .* npx moorage login http:/);
    expect(refused.stderr).not.toContain(token);
  });

  loginTest("goes as a token to the registry's own service alone", async ({ docker, serve }) => {
    const received: string[] = [];
    const url = await serve((request, response) => {
      received.push(`${request.method ?? ""} ${request.url ?? ""}`);
      response.writeHead(401, { "WWW-Authenticate": 'Bearer realm="http://registry.test/token",service="x"' }).end();
    });
    await docker.write({ auths: { [new URL(url).host]: { identitytoken: "a.b.c" } } });
    expectLine(await docker.run(["whoami", "--registry", url]), 1, /names no service that takes a token/);
    expect(received).toEqual(["GET /v2/"]);
  });

  startTest(
    "comes before the password of npm start, which stands in where there is none, and says so",
    async ({ start, folder, stateDir }) => {
      const registry = await start({ vars: { ADMIN_PASSWORD: undefined } });
      const own = ["--state", stateDir, "--registry", registry.url];
      const whoami = ["whoami", "--json", ...own];
      const env = { DOCKER_CONFIG: folder };
      const auths = async (content: object): Promise<void> =>
        writeFile(path.join(folder, "config.json"), JSON.stringify(content));
      for (const [content, message] of [
        [{ auths: { [registry.host]: { identitytoken: "a.b.c" } } }, /any more .* the password of npm start is used/],
        [{ auths: { "registry.test": { auth: encoded } } }, /^$/],
        [{ credsStore: "nobody" }, /can't be run: .*; the password of npm start is used$/m],
      ] as const) {
        await auths(content);
        const ran = await moorage(whoami, { env });
        expect(readJson(ran, identitySchema)).toMatchObject({ admin: true });
        expect(ran.stderr).toMatch(message);
      }
      await auths({ auths: { [registry.host]: { auth: encoded } } });
      expectLine(await moorage(["whoami", ...own], { env }), 1, /the login that .*config\.json keeps is not good/);

      await auths({});
      await writeFile(path.join(folder, "new"), "a long passphrase");
      const create = ["user", "create", "ann", "--new-password-file", path.join(folder, "new"), ...own];
      expect(await moorage(create, { env })).toMatchObject({ code: 0 });
      const token = await refreshTokenOf(registry.url, basic("ann", "a long passphrase"));
      await auths({ auths: { [registry.host]: { identitytoken: token } } });
      expect(readJson(await moorage(whoami, { env }), identitySchema).principal).toBe("user:ann");
      const list = ["user", "list", "--json", ...own];
      expectLine(await moorage(["user", "list", ...own], { env }), 1, /\(DENIED\); .*, or --as admin$/m);
      expect(await moorage([...list, "--as", "admin"], { env })).toMatchObject({ code: 0, stderr: "" });

      // docker login as administrator, which npm start tells to run: the same person may all.
      const kept = parseEnv(await readFile(path.join(stateDir, "secrets.env"), "utf8"))["ADMIN_PASSWORD"] ?? "";
      const admins = await refreshTokenOf(registry.url, basic("admin", kept));
      await auths({ auths: { [registry.host]: { identitytoken: admins } } });
      expect(await moorage(list, { env })).toMatchObject({ code: 0, stderr: "" });
    },
  );
});

/** What docker login keeps in place of a password. */
async function refreshTokenOf(url: string, authorization: string): Promise<string> {
  const target = `${url}/token?service=x&offline_token=true`;
  const answer: unknown = await (await fetch(target, { headers: { Authorization: authorization } })).json();
  return z.object({ refresh_token: z.string() }).parse(answer).refresh_token;
}

describe("moorage logout", () => {
  loginTest("forgets each spelling, and nothing else", async ({ docker, registry }) => {
    const others = { "registry.test": { auth: "YTpi" } };
    const own = { [registry.host]: { auth: encoded }, [`https://${registry.host}/v1/`]: { auth: encoded } };
    await docker.write({ auths: { ...others, ...own }, detachKeys: "ctrl-e" });
    const ran = await docker.run(["logout", registry.url]);
    expect(ran).toMatchObject({ code: 0, stdout: "" });
    expect(ran.stderr).toContain(`the login for ${registry.host} is no more in ${docker.file}`);
    expect(await docker.read()).toEqual({ auths: others, detachKeys: "ctrl-e" });
    const again = await docker.run(["logout", registry.url, "--json"]);
    expect(readJson(again, z.object({ place: z.null() }))).toEqual({ place: null });
  });
});

describe("a login by moorage", () => {
  loginTest("is good for a client that reads docker's file", async ({ docker, registry }) => {
    await docker.login();
    const { auths } = await docker.read();
    const header = `Basic ${auths[registry.host]?.auth ?? ""}`;
    const client = new RegistryClient(registry.url, fetch, header);
    expect((await client.ping()).status).toBe(200);
  });

  const crane = path.join(process.env["HOME"] ?? "", ".cache/moorage-clients/bin/crane");
  const has = (): Promise<boolean> =>
    stat(crane).then(
      () => true,
      () => false,
    );

  loginTest("is good for crane", async ({ docker, registry, skip }) => {
    if (!(await has())) skip("crane is not installed; scripts/install-clients.sh does that");
    await docker.login();
    const run = promisify(execFile);
    const env = { ...process.env, DOCKER_CONFIG: docker.folder };
    expect((await run(crane, ["catalog", registry.host], { env })).stderr).toBe("");
    await docker.run(["logout"]);
    await expect(run(crane, ["catalog", registry.host], { env })).rejects.toThrow("UNAUTHORIZED");
  });
});
