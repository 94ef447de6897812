import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect } from "vitest";
import { z } from "zod";
import { accessTokensSchema, createdTokenSchema } from "../../src/access-tokens/token.ts";
import { identitySchema } from "../../src/api/identity.ts";
import { auditRecordsSchema } from "../../src/audit/record.ts";
import { ruleSchema, rulesSchema } from "../../src/trust-rules/rule.ts";
import { userSchema, usersSchema } from "../../src/users/user.ts";
import { adminPassword, asAdmin, basic } from "../support/credentials.ts";
import { expectStatus, RegistryClient, utf8 } from "../support/client.ts";
import { freePort } from "../support/free-port.ts";
import { commandLine, projectRoot } from "../support/registry.ts";
import { cliTest, expectLine, freshName, launched, moorage, type Ran, readJson, type Run } from "./cli-test.ts";
import { expectRefusal, runNode, startTest } from "./start-test.ts";

/** What the API itself answers. */
async function told(url: string, target: string, authorization = asAdmin): Promise<unknown> {
  return (await new RegistryClient(url, fetch, authorization).request("GET", `/api/v1/${target}`)).json();
}

/** Makes a user, and a token of it. @returns the token */
async function makeToken(run: Run, user: string, ...options: readonly string[]): Promise<string> {
  expect(await run(["user", "create", user, "--grant", "team/*:pull,push"])).toMatchObject({ code: 0 });
  const { code, stdout } = await run(["token", "create", user, "of a test", ...options]);
  expect(code).toBe(0);
  return stdout.trimEnd();
}

describe("moorage user", () => {
  cliTest("create makes a user with what is given, and shows it", async ({ run, registry }) => {
    const name = freshName();
    const ran = await run([
      "user",
      "create",
      name,
      "-g",
      "a/*:pull,push",
      "--grant=b:pull",
      "--email",
      `${name}@test.org`,
    ]);
    expect(ran).toMatchObject({ code: 0, stderr: "" });
    expect(ran.stdout).toMatch(new RegExp(`^name +${name}$`, "m"));
    expect(ran.stdout).toMatch(/^grants +a\/\*:pull,push b:pull$/m);
    expect(await told(registry.url, `users/${name}`)).toMatchObject({
      grants: ["a/*:pull,push", "b:pull"],
      email: `${name}@test.org`,
      hasPassword: false,
    });
  });

  cliTest("create --json is the API's answer", async ({ run, registry }) => {
    const name = freshName();
    const ran = await run(["--json", "user", "create", name]);
    expect(readJson(ran, userSchema.strict())).toMatchObject({ name, grants: [] });
    expect(JSON.parse(ran.stdout)).toEqual(await told(registry.url, `users/${name}`));
  });

  cliTest("takes a password for /token from a file or standard input", async ({ run, registry, folder }) => {
    const [first, second] = [freshName(), freshName()];
    await writeFile(path.join(folder, "password"), "a long passphrase\n");
    const options = { folder, input: "another passphrase" };
    await run(["user", "create", first, "--new-password-file", "password"], options);
    await run(["user", "create", second, "--new-password-file", "-"], options);
    expect(await tokenStatus(registry.url, first, "a long passphrase")).toBe(200);
    expect(await tokenStatus(registry.url, second, "another passphrase")).toBe(200);
    const changed = await run(["user", "change", first, "--no-password", "--json"]);
    expect(readJson(changed, userSchema)).toMatchObject({ hasPassword: false });
    expect(await tokenStatus(registry.url, first, "a long passphrase")).toBe(401);
  });

  cliTest("list shows all, over several pages", async ({ run, registry }) => {
    const prefix = `page-${crypto.randomUUID()}`;
    const names = Array.from({ length: 103 }, (_, index) => `${prefix}-${String(index).padStart(3, "0")}`);
    await createUsers(registry.url, names);
    const { users } = readJson(await run(["user", "list", "--json"]), usersSchema.strict());
    const found = users.map(({ name }) => name).filter((name) => name.startsWith(prefix));
    expect(found).toEqual(names);
    const table = await run(["user", "list"]);
    expect(table.stdout).toMatch(/^NAME +CREATED +LOGS IN +EMAIL +GRANTS\n/);
    expect(table.stdout.split("\n").filter((line) => line.startsWith(prefix))).toHaveLength(names.length);
  });

  cliTest("change changes what is given, and nothing else", async ({ run }) => {
    const name = freshName();
    await run(["user", "create", name, "-g", "a:pull", "--email", `${name}@test.org`]);
    const change = async (...options: string[]) =>
      readJson(await run(["user", "change", name, "--json", ...options]), userSchema);
    expect(await change("-g", "b:pull", "-g", "c:push")).toMatchObject({ grants: ["b:pull", "c:push"] });
    expect(await change("--disable")).toMatchObject({ grants: ["b:pull", "c:push"], disabled: true });
    expect(await change("--enable", "--no-email")).toMatchObject({ disabled: false, email: null });
    expect(await change("--no-grants")).toMatchObject({ grants: [], email: null });
    expectLine(await run(["user", "change", name]), 2, /nothing that is to be changed; moorage user change --help/);
  });

  cliTest("show and delete", async ({ run }) => {
    const name = freshName();
    await run(["user", "create", name]);
    expect(readJson(await run(["user", "show", name, "--json"]), userSchema.strict()).name).toBe(name);
    const gone = await run(["user", "delete", name]);
    expect(gone).toMatchObject({ code: 0, stdout: "" });
    expect(gone.stderr).toBe(`moorage: the user ${name} is deleted, and so are its access tokens\n`);
    for (const verb of ["show", "delete"]) {
      expectLine(await run(["user", verb, name]), 1, /there is no such user \(NOT_FOUND\); moorage user list shows/);
    }
  });

  cliTest("that is there already is refused in one line", async ({ run }) => {
    const name = freshName();
    await run(["user", "create", name]);
    expectLine(await run(["user", "create", name]), 1, /of this name already \(CONFLICT\)/);
  });
});

describe("moorage token", () => {
  cliTest("create prints the token alone on standard output; it pushes and pulls", async ({ run, registry }) => {
    const user = freshName();
    await run(["user", "create", user, "-g", "team/*:pull,push"]);
    const ran = await run(["token", "create", user, "build server", "--expires-in-days", "7"]);
    expect(ran).toMatchObject({ code: 0 });
    expect(ran.stdout).toMatch(/^moorage_[\w-]{43}\n$/);
    const token = ran.stdout.trimEnd();
    expect(ran.stderr).toMatch(/^moorage: the token "build server" of .* may all that its user may, until \d{4}-/);
    expect(ran.stderr).toContain(`moorage token revoke ${user} `);
    expect(ran.stderr).not.toContain(token);

    const robot = new RegistryClient(registry.url, fetch, basic(user, token));
    const { digest } = await robot.repository("team/app").pushBlob(utf8("what a robot pushes"));
    expect((await robot.repository("team/app").getBlob(digest)).status).toBe(200);
    expect((await robot.repository("other/app").getBlob(digest)).status).toBe(403);
  });

  cliTest("create --json has the token in the API's answer alone", async ({ run }) => {
    const user = freshName();
    await run(["user", "create", user]);
    const ran = await run(["token", "create", user, "x", "--grant", "a:pull", "--json"]);
    const { token, grants, expiresAt } = readJson(ran, createdTokenSchema.strict());
    expect({ grants, expiresAt }).toEqual({ grants: ["a:pull"], expiresAt: null });
    expect(ran.stderr).not.toContain(token);
  });

  cliTest("list does not show it; revoke ends it at once here", async ({ run, registry }) => {
    const user = freshName();
    const token = await makeToken(run, user);
    const robot = new RegistryClient(registry.url, fetch, basic(user, token)).repository("team/app");
    const absent = `sha256:${"0".repeat(64)}`;
    expect((await robot.getBlob(absent)).status).toBe(404);
    const listed = await run(["token", "list", user, "--json"]);
    const { tokens } = readJson(listed, accessTokensSchema.strict());
    expect(tokens).toMatchObject([{ name: "of a test", grants: null, revokedAt: null }]);
    expect(listed.stdout).not.toContain(token);
    const revoked = await run(["token", "revoke", user, tokens[0]?.id ?? ""]);
    expect(revoked).toMatchObject({ code: 0, stdout: "" });
    expect((await robot.getBlob(absent)).status).toBe(401);
    expect((await run(["token", "list", user])).stdout).toMatch(/ of a test .* revoked \d{4}-/);
    expectLine(
      await run(["whoami", "--as", user], { env: { MOORAGE_PASSWORD: token } }),
      1,
      /this access token is revoked \(UNAUTHORIZED\).*MOORAGE_PASSWORD/,
    );
  });

  cliTest("revoke of one that is not there says where to look", async ({ run }) => {
    const user = freshName();
    await run(["user", "create", user]);
    const ran = await run(["token", "revoke", user, crypto.randomUUID()]);
    expectLine(ran, 1, new RegExp(`no such token \\(NOT_FOUND\\); moorage token list ${user} shows`));
  });
});

describe("moorage trust", () => {
  const rule = ["--issuer", "https://issuer.test", "--audience", "https://registry.test"];

  cliTest("create, list, show, change and delete", async ({ run, registry }) => {
    const name = `rule-${crypto.randomUUID()}`;
    const claims = ["--claim", "repository=my-org/my-app", "--claim", "ref=refs/heads/main", "--claim", "ref=v=*"];
    const created = await run(["trust", "create", name, ...rule, ...claims, "-g", "a:pull", "--json"]);
    expect(readJson(created, ruleSchema.strict())).toMatchObject({
      issuer: "https://issuer.test",
      audience: "https://registry.test",
      conditions: { repository: ["my-org/my-app"], ref: ["refs/heads/main", "v=*"] },
      grants: ["a:pull"],
    });
    const { rules } = readJson(await run(["trust", "list", "--json"]), rulesSchema.strict());
    expect(rules.map((each) => each.name)).toContain(name);
    const shown = await run(["trust", "show", name]);
    expect(shown.stdout).toMatch(/^claims +repository=my-org\/my-app ref=refs\/heads\/main ref=v=\*$/m);

    const changed = await run(["trust", "change", name, "--claim", "repository=my-org/*"]);
    expect(changed).toMatchObject({ code: 0 });
    expect(await told(registry.url, `trust-rules/${name}`)).toMatchObject({
      conditions: { repository: ["my-org/*"] },
      grants: ["a:pull"],
    });
    expect(await run(["trust", "delete", name])).toMatchObject({ code: 0, stdout: "" });
    expectLine(await run(["trust", "show", name]), 1, /no such trust rule \(NOT_FOUND\).*moorage trust list shows/);
    expectLine(await run(["trust", "change", name]), 2, /nothing that is to be changed/);
  });

  cliTest.for([
    ["no claim", [], /required option '--claim/],
    ["a claim without a pattern", ["--claim", "ref"], /it is <claim>=<pattern>/],
    ["a claim that would be passed over", ["--claim=sub=a", "--claim=__proto__=b"], /__proto__ can be no claim/],
    ["an empty pattern", ["--claim", "constructor="], /--claim: constructor\.0: is empty/],
    [
      "claims that match all",
      ["--claim", "sub=*"],
      /--claim: at least one claim that says .* must have patterns other than \*/,
    ],
  ] as const)("with %s is wrong usage", async ([, claims, message], { run }) => {
    expectLine(await run(["trust", "create", "r", ...rule, "-g", "a:pull", ...claims]), 2, message);
  });
});

describe("moorage audit", () => {
  cliTest("shows the newest first, as the filters say", async ({ run }) => {
    const name = freshName();
    await run(["user", "create", name]);
    await run(["user", "change", name, "--disable"]);
    await run(["user", "delete", name]);
    const all = readJson(await run(["audit", "--limit=1000", "--json"]), auditRecordsSchema.strict());
    const own = all.records.filter(({ reference }) => reference === name);
    expect(own.map(({ action }) => action)).toEqual(["user.delete", "user.change", "user.create"]);

    const since = new Date(Date.now() - 3_600_000).toISOString();
    const filters = ["--principal=admin", "--action=user.change", "--outcome=ok", `--since=${since}`];
    const filtered = readJson(await run(["audit", ...filters, "--json"]), auditRecordsSchema);
    expect(new Set(filtered.records.map(({ action }) => action))).toEqual(new Set(["user.change"]));
    const none = await run(["audit", `--until=${since}`]);
    expect(none).toMatchObject({ code: 0, stdout: "", stderr: "moorage: there are none\n" });
    expect((await run(["audit", "--limit=1"])).stdout.trimEnd().split("\n")).toHaveLength(2);
  });

  cliTest("follows the pages up to its limit", async ({ serve, run }) => {
    const asked: (string | undefined)[] = [];
    const url = await serve((request, response) => {
      asked.push(request.url);
      const before = Number(new URL(request.url ?? "", "http://x").searchParams.get("before") ?? 2001);
      const records = Array.from({ length: 1000 }, (_, index) => recordOf(before - 1 - index));
      response.setHeader("Link", `</api/v1/audit?before=${String(before - 1000)}&n=1000>; rel="next"`);
      response.setHeader("Content-Type", "application/json").end(JSON.stringify({ records }));
    });
    const ran = await run(["audit", "--limit=1500", "--json", "--registry", url]);
    const { records } = readJson(ran, auditRecordsSchema);
    expect(records.map(({ id }) => id)).toEqual(Array.from({ length: 1500 }, (_, index) => 2000 - index));
    expect(asked).toEqual(["/api/v1/audit?n=1000", "/api/v1/audit?before=1001&n=1000"]);
  });

  cliTest("shows letters that would steer the terminal as what they are", async ({ serve, run }) => {
    const user = "\u001b[2Ja\nb\u009b\u202e";
    const url = await serve((_request, response) => {
      const records = [{ ...recordOf(1), reference: user, detail: { user } }];
      response.setHeader("Content-Type", "application/json").end(JSON.stringify({ records }));
    });
    for (const json of [[], ["--json"]]) {
      const ran = await run(["audit", "--registry", url, ...json]);
      expect(ran.code).toBe(0);
      // oxlint-disable-next-line no-control-regex -- control characters are what it is about
      expect(ran.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    }
    const ran = await run(["audit", "--registry", url, "--json"]);
    expect(readJson(ran, auditRecordsSchema).records[0]?.reference).toBe(user);
  });
});

describe("moorage whoami", () => {
  cliTest("tells of the administrator and of a token", async ({ run }) => {
    expect(readJson(await run(["whoami", "--json"]), identitySchema.strict())).toMatchObject({
      principal: "admin",
      admin: true,
    });
    const user = freshName();
    const token = await makeToken(run, user, "-g", "team/app:pull");
    const env = { MOORAGE_USER: user, MOORAGE_PASSWORD: token };
    const identity = readJson(await run(["whoami", "--json"], { env }), identitySchema.strict());
    expect(identity).toMatchObject({
      principal: `user:${user}`,
      grants: [["team/*:pull,push"], ["team/app:pull"]],
    });
    const shown = await run(["whoami"], { env });
    expect(shown.stdout).toMatch(/^narrowed to +team\/app:pull$/m);
    expectLine(await run(["user", "list"], { env }), 1, /\(DENIED\); this is the administrator's to do: --as admin/);
  });
});

describe("the credentials of moorage", () => {
  cliTest("may be in a file or on standard input", async ({ run, folder }) => {
    await writeFile(path.join(folder, "password"), `${adminPassword}\n`);
    const env = { MOORAGE_PASSWORD: undefined };
    for (const file of ["password", path.join(folder, "password"), "-"]) {
      const ran = await run(["whoami", "--password-file", file], { env, folder, input: `${adminPassword}\r\n` });
      expect(ran).toMatchObject({ code: 0 });
    }
    const missing = await run(["whoami", "--password-file", "none"], { env, folder });
    expectLine(missing, 2, /--password-file: ENOENT: .*none/);
    expectLine(await run(["whoami", "--password-file=-"], { env }), 2, /--password-file: the password is empty/);
    const both = ["user", "create", freshName(), "--password-file=-", "--new-password-file=-"];
    expectLine(await run(both, { env, input: "x" }), 2, /can't both be standard input/);
  });

  cliTest("that are wrong are refused in one line, without them", async ({ run }) => {
    const ran = await run(["user", "list"], { env: { MOORAGE_PASSWORD: "a wrong guess" } });
    expectLine(ran, 1, /wrong user name, password or access token .*\(UNAUTHORIZED\); look that MOORAGE_PASSWORD/);
    expect(ran.stderr).not.toContain("a wrong guess");
  });

  cliTest("are in no option, no help, no message", async ({ run, registry }) => {
    for (const args of [[], ["user"], ["user", "create"], ["user", "change"], ["token", "create"], ["whoami"]]) {
      const { stdout, code } = await run([...args, "--help"]);
      expect(code).toBe(0);
      expect(stdout).not.toContain(adminPassword);
      expect(stdout).not.toMatch(/--(?:new-)?password[ =<[]|--token\b/);
    }
    for (const option of ["--password=s3cret-of-mine", "-p=s3cret-of-mine"]) {
      const ran = await run(["user", "create", "x", option]);
      expectLine(ran, 2, /unknown option '-/);
      expect(ran.stderr).not.toContain("s3cret-of-mine");
    }
    const within = await run(["whoami", "--registry", `http://admin:s3cret-of-mine@${registry.host}`]);
    expectLine(within, 2, /--registry, or MOORAGE_REGISTRY, takes no password: use --as/);
    expect(within.stderr).not.toContain("s3cret-of-mine");
  });

  startTest("are those of npm start where none are given, for this machine alone", async ({ start, stateDir }) => {
    const registry = await start({ vars: { ADMIN_PASSWORD: undefined } });
    const whoami = ["whoami", "--state", stateDir];
    const ran = await moorage([...whoami, "--json", "--registry", registry.url]);
    expect(readJson(ran, identitySchema)).toMatchObject({ admin: true });
    expectLine(
      await moorage([...whoami, "--as", "somebody", "--registry", registry.url]),
      2,
      /no password of somebody/,
    );
    expectLine(await moorage([...whoami, "--registry", "https://registry.test"]), 2, /there is no password of admin/);
    expectLine(
      await moorage([...whoami, "--registry", registry.url], { env: { NODE_USE_ENV_PROXY: "1" } }),
      2,
      /there is no password of admin/,
    );
    expectLine(
      await moorage([...whoami, "--registry", `http://[::1]:${String(registry.port)}`]),
      2,
      /there is no password of admin/,
    );
    await registry.stop();
    expectLine(await moorage([...whoami, "--registry", registry.url]), 2, /none runs on .* \(--state names another\)/);
    const changed = await start();
    const refused = await moorage([...whoami, "--registry", changed.url]);
    expectLine(refused, 1, /\(UNAUTHORIZED\); the password in .*secrets\.env is not this registry's/);
  });

  cliTest("of npm start are for nobody else on this machine", async ({ registry, serve }) => {
    const received: (string | undefined)[] = [];
    const url = await serve((request, response) => {
      received.push(request.headers.authorization);
      response.writeHead(401, { "WWW-Authenticate": "Basic" }).end();
    });
    const { host } = new URL(url);
    for (const args of [
      ["whoami", "--registry", url],
      ["whoami", "--registry", host],
      ["user", "list", "--registry", host],
    ]) {
      const ran = await moorage([...args, "--state", registry.stateDir]);
      expectLine(
        ran,
        2,
        new RegExp(`for the registry that it runs, which is at http://localhost:${String(registry.port)}$`, "m"),
      );
    }
    const doctor = await moorage(["doctor", url, "--state", registry.stateDir]);
    expect(doctor.stdout).toMatch(/^ok +login +nobody is logged in/m);
    expect(received.length).toBeGreaterThan(0);
    expect(new Set(received)).toEqual(new Set([undefined]));
  });

  startTest("of npm start end with it, also where what it started lives on", async ({ start, stateDir }) => {
    const registry = await start({ vars: { ADMIN_PASSWORD: undefined } });
    process.kill(registry.pid, "SIGKILL");
    await registry.stop();
    expect((await fetch(`${registry.url}/v2/`)).status).toBe(401);
    const ran = await moorage(["whoami", "--state", stateDir, "--registry", registry.url]);
    expectLine(ran, 2, /there is no password of admin/);
  });

  startTest("are those of npm run dev too, on the port that it was given", async ({ start, stateDir, folder }) => {
    const port = await freePort();
    const registry = await start({ command: "dev", port, vars: { ADMIN_PASSWORD: undefined } });
    const ran = await moorage(["whoami", "--json", "--state", stateDir, "--registry", registry.host]);
    expect(readJson(ran, identitySchema)).toMatchObject({ admin: true });
    const second = await runNode(commandLine({ command: "dev", port }, path.join(folder, "other")));
    expectRefusal(second, new RegExp(`^moorage: port ${String(port)} is in use: choose another by --port\n$`));
  });

  cliTest("do not go unencrypted to another machine", async ({ run }) => {
    expectLine(
      await run(["whoami", "--registry", "http://registry.test"]),
      2,
      /http:\/\/registry\.test would be sent the password unencrypted: use https, or --plain-http/,
    );
    expectLine(
      await run(["whoami", "--plain-http", "--registry", "http://registry.invalid"]),
      1,
      /http:\/\/registry\.invalid can't be reached/,
    );
  });

  cliTest("do not follow a redirect, or a page elsewhere", async ({ run, serve }) => {
    const received: (string | undefined)[] = [];
    const other = await serve((request, response) => {
      received.push(request.headers.authorization);
      response.end();
    });
    const moved = await serve((_request, response) => response.writeHead(307, { Location: `${other}/` }).end());
    expectLine(await run(["user", "list", "--registry", moved]), 1, new RegExp(`leads to ${other}: .*--registry`));
    const paged = await serve((_request, response) => {
      response.setHeader("Link", `<${other}/api/v1/users>; rel="next"`);
      response.setHeader("Content-Type", "application/json").end('{"users":[]}');
    });
    expectLine(await run(["user", "list", "--registry", paged]), 1, /is no Moorage/);
    expect(received).toEqual([]);
  });
});

describe("moorage", () => {
  cliTest.for([
    [["nobody"], "unknown command 'nobody'"],
    [["user", "create"], "missing required argument 'name'"],
    [["user", "create", "a", "b"], "too many arguments"],
    [["user", "create", ".."], "argument 'name'"],
    [["user", "create", "x", "--grant", "a:pul"], '"pul" is no right'],
    [["user", "change", "x", "--grant", "a:pull", "--no-grants"], "cannot be used with"],
    [["token", "create", "x", "y", "--expires-in-days", "0"], "whole number from 1 to 3650"],
    [["token", "revoke", "x", "y"], "argument 'id'"],
    [["audit", "--action", "nothing"], "Allowed choices are"],
    [["audit", "--since", "yesterday"], "a date or a time such as"],
    [["whoami", "--registry", ""], "--registry, or MOORAGE_REGISTRY, takes an address such as https://"],
    [["whoami", "--registry", "https://registry.test/v2"], "takes no path"],
    [["whoami", "--registry", "registry.test/v2"], "takes no path: https://registry.test is all"],
    ...["ht!tp:/x", "http:/x", "https://ht!tp", "ftp://registry.test", "registry.test:no", "a b"].flatMap((text) => [
      [["whoami", "--registry", text], "what it was given is none"] as const,
      [["login", text, "-u", "a", "--password-stdin"], "<url> takes an address such as https://"] as const,
      [["logout", text], "<url> takes an address such as https://"] as const,
    ]),
    [["logout", "a:s3cret@registry.test"], "<url> takes no password"],
  ] as const)("%j is wrong usage", async ([args, message], { run }) => {
    const ran = await run(args);
    expectLine(ran, 2, /^/);
    expect(ran.stderr).toContain(message);
  });

  cliTest.for([[[]], [["user"]], [["token"]], [["trust"]]] as const)(
    "%j without a verb is wrong usage, and shows the verbs",
    async ([args], { run }) => {
      const { code, stdout, stderr } = await run(args);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toMatch(/^Usage: moorage[^]*^Commands:$/m);
    },
  );

  cliTest("takes the name of a registry alone, wherever it is given", async ({ run, registry }) => {
    const named = ["whoami", "--json", "--registry", registry.host];
    expect(readJson(await run(named), identitySchema).principal).toBe("admin");
    const env = { MOORAGE_REGISTRY: registry.host };
    expect(readJson(await run(["whoami", "--json"], { env }), identitySchema).principal).toBe("admin");
    // Of https, where it is not of this machine.
    const other = await run(["whoami"], { env: { MOORAGE_REGISTRY: "registry.invalid" } });
    expectLine(other, 1, /https:\/\/registry\.invalid can't be reached/);
  });

  cliTest("tells its version", async () => {
    const text = await readFile(path.join(projectRoot, "package.json"), "utf8");
    const { version } = z.object({ version: z.string() }).parse(JSON.parse(text));
    expect(await moorage(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });

  cliTest("with --json says in JSON what went wrong, with the same exit codes", async ({ run, registry }) => {
    const dead = `http://127.0.0.1:${String(await freePort())}`;
    const wrong = { MOORAGE_PASSWORD: "a wrong guess" };
    for (const [args, env, code, error] of [
      [["user", "show", "nobody"], {}, 1, { code: "NOT_FOUND", message: /there is no such user/ }],
      [["whoami"], wrong, 1, { code: "UNAUTHORIZED", message: /look that MOORAGE_PASSWORD/ }],
      [["whoami", "--registry", dead], {}, 1, { code: "FAILED", message: /nobody listens there/ }],
      [["nonsense"], {}, 2, { code: "USAGE", message: /^unknown command 'nonsense'/ }],
      [["whoami", "--registry", "a b"], {}, 2, { code: "USAGE", message: /takes an address/ }],
    ] as const) {
      const ran = await run([...args, "--json"], { env: { MOORAGE_REGISTRY: registry.url, ...env } });
      expect(ran).toMatchObject({ code, stdout: "" });
      expect(ran.stderr).toMatch(/^\{[^\n]+\}\n$/);
      const { error: seen } = z
        .strictObject({ error: z.strictObject({ code: z.string(), message: z.string() }) })
        .parse(JSON.parse(ran.stderr));
      expect(seen.code).toBe(error.code);
      expect(seen.message).toMatch(error.message);
    }
    const bare = await run(["user", "--json"]);
    expect(bare).toMatchObject({ code: 2, stdout: "" });
    expect(bare.stderr).toMatch(/^\{"error":\{"code":"USAGE","message":"a command is missing[^\n]+\}\n$/m);
  });

  cliTest("verify says now and then how far it is, where there is no terminal", async ({ run, serve }) => {
    const slices = 40;
    let asked = 0;
    const url = await serve((_request, response) => {
      asked += 1;
      const total = asked === 1 ? { objects: slices, bytes: slices * 1024 * 1024 } : null;
      const next = asked === slices ? null : String(asked);
      const slice = { total, objects: 1, bytes: 1024 * 1024, findings: [], next };
      response.setHeader("Content-Type", "application/json").end(JSON.stringify(slice));
    });
    const { code, stderr } = await run(["verify", "team/app", "--registry", url]);
    expect(code).toBe(0);
    const lines = stderr.trimEnd().split("\n");
    expect(lines.slice(0, 2)).toEqual([
      "moorage: team/app: 4.0 of 40.0 MiB are read",
      "moorage: team/app: 8.0 of 40.0 MiB are read",
    ]);
    expect(lines.at(-1)).toMatch(/^moorage: 40 blobs and manifests of team\/app were read/);
  });

  cliTest("says in one line that nobody listens", async ({ run }) => {
    const url = `http://127.0.0.1:${String(await freePort())}`;
    const ran = await run(["whoami", "--registry", url]);
    expectLine(ran, 1, new RegExp(`${url} can't be reached: nobody listens there; start a registry with npm start`));
  });

  cliTest.for([
    ["a page", 200, "text/html", "<p>hello</p>"],
    ["an error page", 404, "text/html", "<p>hello</p>"],
    ["an error of another form", 401, "application/json", '{"error":"no"}'],
    ["broken JSON", 200, "application/json", "{"],
    ["nothing", 204, undefined, ""],
  ] as const)("says that %s is no registry's answer", async ([, status, type, body], { run, serve }) => {
    const url = await serve((_request, response) =>
      response.writeHead(status, type === undefined ? {} : { "Content-Type": type }).end(body),
    );
    const ran = await run(["whoami", "--registry", url]);
    expectLine(ran, 1, new RegExp(`${url} is no Moorage: /api/v1/whoami answers ${String(status)} with .*--registry`));
  });

  cliTest("looks at an answer before it uses it", async ({ run, serve }) => {
    const url = await serve((_request, response) =>
      response.setHeader("Content-Type", "application/json").end('{"principal":5}'),
    );
    expectLine(await run(["whoami", "--registry", url]), 1, /in a form that .*principal: .*another version/);
  });

  cliTest.for([
    [429, { "Retry-After": "7" }, {}, /why \(X\)\n$/],
    [503, {}, { command: "npx wrangler secret put A" }, /\(X\); its owner mends that with: npx wrangler secret put A/],
    [500, {}, {}, /\(X\); its request id is an-id/],
  ] as const)("says what helps against %d", async ([status, headers, more, message], { run, serve }) => {
    const detail = { reason: "why", requestId: "an-id", ...more };
    const url = await serve((_request, response) => {
      response.writeHead(status, { "Content-Type": "application/json", ...headers });
      response.end(JSON.stringify({ errors: [{ code: "X", message: "y", detail }] }));
    });
    expectLine(await run(["whoami", "--registry", url]), 1, message);
  });

  cliTest("runs by npx, in the project's folder and below", async ({ registry }) => {
    const env = { MOORAGE_REGISTRY: registry.url, MOORAGE_PASSWORD: adminPassword };
    for (const folder of [projectRoot, path.join(projectRoot, "src/oci")]) {
      const ran = await moorage(["whoami", "--json"], { env, folder, program: ["npx", "moorage"] });
      expect(readJson(ran, identitySchema).principal).toBe("admin");
    }
  });

  cliTest("fails where its output can't be written, unless nobody reads it any more", async () => {
    expectLine(await helpInShell('exec "$0" "$@" > /dev/full'), 1, /the output can't be written: ENOSPC/);
    expect(await helpInShell('{ "$0" "$@"; echo "$?" >&2; } | true')).toMatchObject({ stderr: "0\n" });
  });

  cliTest("runs by its launcher, whichever Node that is", async ({ registry, folder }) => {
    const env = { MOORAGE_REGISTRY: registry.url, MOORAGE_PASSWORD: adminPassword };
    await mkdir(path.join(folder, "elsewhere"));
    const launch = path.join(projectRoot, "scripts/launch.js");
    const direct: [string, ...string[]] = [process.execPath, launch];
    for (const program of [direct, launched]) {
      const ran = await moorage(["user", "create"], { env, program, folder: path.join(folder, "elsewhere") });
      expectLine(ran, 2, /missing required argument/);
    }
  });
});

/** Asks for help by a line of the shell's, to which `"$0" "$@"` is that command. */
function helpInShell(line: string): Promise<Ran> {
  const script = path.join(projectRoot, "scripts/moorage.ts");
  return moorage(["--help"], { program: ["sh", "-c", line, process.execPath, script] });
}

async function tokenStatus(url: string, user: string, password: string): Promise<number> {
  const client = new RegistryClient(url, fetch, basic(user, password));
  return (await client.request("GET", "/token", { query: { account: user } })).status;
}

async function createUsers(url: string, names: readonly string[]): Promise<void> {
  const admin = new RegistryClient(url, fetch, asAdmin);
  for (const name of names) {
    const body = JSON.stringify({ name, grants: [] });
    const headers = { "Content-Type": "application/json" };
    await expectStatus(await admin.request("POST", "/api/v1/users", { headers, body }), 201);
  }
}

function recordOf(id: number) {
  return {
    id,
    createdAt: "2030-01-31T08:00:00.000Z",
    principal: "admin",
    tokenId: null,
    address: null,
    requestId: "of-a-test",
    action: "login",
    repository: null,
    reference: null,
    digest: null,
    outcome: "ok",
    detail: null,
  };
}
