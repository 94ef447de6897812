import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect } from "vitest";
import { clientTest } from "./client-test.ts";
import type { Run } from "./client-test.ts";
import { program } from "./requirement.ts";
import { expectSameBytes, readBlob, readManifest, readTags } from "./stored.ts";

/** Packages a chart of one config map. @returns the name of the archive, in the test's folder */
async function packageChart(helm: string, run: Run, folder: string, version: string): Promise<string> {
  const chart = join(folder, "chart");
  await mkdir(join(chart, "templates"), { recursive: true });
  const metadata = `apiVersion: v2\nname: hello\nversion: ${version}\ndescription: A chart\n`;
  await writeFile(join(chart, "Chart.yaml"), metadata);
  await writeFile(join(chart, "values.yaml"), "greeting: hello\n");
  const template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: hello\ndata:\n  text: {{ .Values.greeting }}\n";
  await writeFile(join(chart, "templates", "config-map.yaml"), template);
  await run(helm, ["package", "chart"]);
  return `hello-${version}.tgz`;
}

// Both majors are in use; they differ in the library with which they push.
for (const [name, helm] of Object.entries({ "helm 3": "helm", "helm 4": "helm4" })) {
  const test = clientTest(program(helm)).extend("charts", ({ target, repository }) => {
    return `oci://${target.host}/${repository.name}`;
  });

  describe(name, () => {
    test("push: a chart", async ({ charts, folder, run, registry, repository }) => {
      const archive = await packageChart(helm, run, folder, "1.2.3");
      await run(helm, ["push", "--plain-http", archive, charts]);
      const chart = registry.repository(`${repository.name}/hello`);
      const { config, layers, annotations } = await readManifest(chart, "1.2.3");
      expect(config?.mediaType).toBe("application/vnd.cncf.helm.config.v1+json");
      expect(layers.map(({ mediaType }) => mediaType)).toEqual(["application/vnd.cncf.helm.chart.content.v1.tar+gzip"]);
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
