import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { imageManifest, utf8 } from "../support/client.ts";
import type { RepositoryClient } from "../support/client.ts";
import { accessPromises } from "./carrier.ts";
import type { Carrier } from "./carrier.ts";
import { clientTest } from "./client-test.ts";
import type { Login, Logout, Run } from "./client-test.ts";
import { program } from "./requirement.ts";
import { expectSameBytes, readBlob, readManifest, readTags } from "./stored.ts";

/** Packages a chart of one config map. @returns the name of the archive, in the test's folder */
async function packageChart(
  helm: string,
  run: Run,
  folder: string,
  version: string,
  name: string = "hello",
): Promise<string> {
  const chart = join(folder, "chart");
  await mkdir(join(chart, "templates"), { recursive: true });
  const metadata = `apiVersion: v2\nname: ${name}\nversion: ${version}\ndescription: A chart\n`;
  await writeFile(join(chart, "Chart.yaml"), metadata);
  await writeFile(join(chart, "values.yaml"), "greeting: hello\n");
  const template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: hello\ndata:\n  text: {{ .Values.greeting }}\n";
  await writeFile(join(chart, "templates", "config-map.yaml"), template);
  await run(helm, ["package", "chart"]);
  return `${name}-${version}.tgz`;
}

/** Stores a chart without helm. */
async function putChart(repository: RepositoryClient, archive: Uint8Array, version: string): Promise<void> {
  const name = repository.name.slice(repository.name.lastIndexOf("/") + 1);
  const config = await repository.pushBlob(utf8(JSON.stringify({ apiVersion: "v2", name, version })), {
    mediaType: configType,
  });
  const chart = await repository.pushBlob(new Uint8Array(archive), { mediaType: chartType });
  const manifest = { schemaVersion: 2, mediaType: imageManifest, config, layers: [chart] };
  await repository.pushManifest(manifest, { reference: version });
}

/** helm makes the last part of a repository's name of the chart's. */
function parentAndChart(name: string): [parent: string, chart: string] {
  const at = name.lastIndexOf("/");
  return [name.slice(0, at), name.slice(at + 1)];
}

const configType = "application/vnd.cncf.helm.config.v1+json";
const chartType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

// Both majors are in use; they differ in the library with which they push.
for (const [client, helm] of Object.entries({ "helm 3": "helm", "helm 4": "helm4" })) {
  const test = clientTest(program(helm))
    .extend("charts", ({ target, repository }) => `oci://${target.host}/${repository.name}`)
    .extend("login", ({ run }): Login => {
      return async (host, { user, password }) => {
        const login = ["registry", "login", "--plain-http", "--username", user, "--password-stdin", host];
        await run(helm, login, { input: password });
      };
    })
    .extend("logout", ({ run }): Logout => {
      return async (host) => {
        await run(helm, ["registry", "logout", host]);
      };
    })
    .extend("carrier", ({ folder, run }): Carrier => {
      return {
        async put(repository) {
          const [, chart] = parentAndChart(repository.name);
          const archive = await packageChart(helm, run, folder, "1.0.0", chart);
          await putChart(repository, await readFile(join(folder, archive)), "1.0.0");
        },
        async push(host, name) {
          const [parent, chart] = parentAndChart(name);
          const archive = await packageChart(helm, run, folder, "2.0.0", chart);
          await run(helm, ["push", "--plain-http", archive, `oci://${host}/${parent}`]);
          return async (repository) => {
            const [layer] = (await readManifest(repository, "2.0.0")).layers;
            expectSameBytes(await readBlob(repository, layer?.digest ?? ""), await readFile(join(folder, archive)));
          };
        },
        async pull(host, name) {
          const destination = join(folder, randomUUID());
          await mkdir(destination);
          const version = ["--version", "1.0.0", "--destination", destination];
          await run(helm, ["pull", "--plain-http", `oci://${host}/${name}`, ...version]);
          const archive = `${parentAndChart(name)[1]}-1.0.0.tgz`;
          expectSameBytes(await readFile(join(destination, archive)), await readFile(join(folder, archive)));
        },
      };
    });

  accessPromises(test, {
    name: client,
    loginAsks: true,
    takesIdentityTokens: true,
    tokensBy: "GET",
    renewsTokenAt: { method: "PUT", path: /manifests/ },
  });

  describe(client, () => {
    test("push: a chart", async ({ charts, folder, run, registry, repository }) => {
      const archive = await packageChart(helm, run, folder, "1.2.3");
      await run(helm, ["push", "--plain-http", archive, charts]);
      const chart = registry.repository(`${repository.name}/hello`);
      const { config, layers, annotations } = await readManifest(chart, "1.2.3");
      expect(config?.mediaType).toBe(configType);
      expect(layers.map(({ mediaType }) => mediaType)).toEqual([chartType]);
      expect(annotations).toMatchObject({ "org.opencontainers.image.version": "1.2.3" });
      expectSameBytes(await readBlob(chart, layers[0]?.digest ?? ""), await readFile(join(folder, archive)));
    });

    test("push: a version with a plus sign, which no tag may have", async ({
      charts,
      folder,
      run,
      registry,
      repository,
    }) => {
      const archive = await packageChart(helm, run, folder, "1.2.3+build.5");
      await run(helm, ["push", "--plain-http", archive, charts]);
      expect(await readTags(registry.repository(`${repository.name}/hello`))).toEqual(["1.2.3_build.5"]);
      await mkdir(join(folder, "pulled"));
      const version = ["--version", "1.2.3+build.5", "--destination", "pulled"];
      await run(helm, ["pull", "--plain-http", `${charts}/hello`, ...version]);
      expectSameBytes(await readFile(join(folder, "pulled", archive)), await readFile(join(folder, archive)));
    });

    test("push: with a provenance file, pulled back", async ({ charts, folder, run, registry, repository }) => {
      const archive = await packageChart(helm, run, folder, "1.0.0");
      await writeFile(join(folder, `${archive}.prov`), "-----BEGIN PGP SIGNED MESSAGE-----\n");
      await run(helm, ["push", "--plain-http", archive, charts]);
      const { layers } = await readManifest(registry.repository(`${repository.name}/hello`), "1.0.0");
      const types = layers.map(({ mediaType }) => mediaType);
      expect(types).toContain("application/vnd.cncf.helm.chart.provenance.v1.prov");
      await mkdir(join(folder, "pulled"));
      await run(helm, ["pull", "--plain-http", "--prov", "--destination", "pulled", `${charts}/hello`]);
      expect((await readdir(join(folder, "pulled"))).toSorted()).toEqual([archive, `${archive}.prov`]);
    });

    test("pull: the same archive", async ({ charts, folder, run }) => {
      const archive = await packageChart(helm, run, folder, "1.2.3");
      await run(helm, ["push", "--plain-http", archive, charts]);
      await mkdir(join(folder, "pulled"));
      await run(helm, ["pull", "--plain-http", "--version", "1.2.3", "--destination", "pulled", `${charts}/hello`]);
      expectSameBytes(await readFile(join(folder, "pulled", archive)), await readFile(join(folder, archive)));
    });

    test("pull: rendered without keeping it", async ({ charts, folder, run }) => {
      await run(helm, ["push", "--plain-http", await packageChart(helm, run, folder, "1.2.3"), charts]);
      const template = ["template", "--plain-http", "mine", `${charts}/hello`, "--set", "greeting=moored"];
      expect((await run(helm, template)).stdout).toContain("text: moored");
      const shown = await run(helm, ["show", "chart", "--plain-http", `${charts}/hello`]);
      expect(shown.stdout).toContain("version: 1.2.3");
    });

    test("pull: as a dependency of another chart", async ({ charts, folder, run }) => {
      await run(helm, ["push", "--plain-http", await packageChart(helm, run, folder, "1.2.3"), charts]);
      await mkdir(join(folder, "parent"));
      const dependency = `dependencies:\n  - name: hello\n    version: ^1.0.0\n    repository: ${charts}\n`;
      const metadata = `apiVersion: v2\nname: parent\nversion: 0.1.0\n${dependency}`;
      await writeFile(join(folder, "parent", "Chart.yaml"), metadata);
      await run(helm, ["dependency", "update", "--plain-http", "parent"]);
      expect(await readdir(join(folder, "parent", "charts"))).toEqual(["hello-1.2.3.tgz"]);
    });

    test("list: the newest version of a range is chosen from the tags", async ({ charts, folder, run }) => {
      for (const version of ["1.0.0", "1.4.0", "2.0.0"]) {
        await run(helm, ["push", "--plain-http", await packageChart(helm, run, folder, version), charts]);
      }
      await mkdir(join(folder, "pulled"));
      await run(helm, ["pull", "--plain-http", "--version", "^1.0.0", "--destination", "pulled", `${charts}/hello`]);
      expect(await readdir(join(folder, "pulled"))).toEqual(["hello-1.4.0.tgz"]);
    });
  });
}
