import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Content, seed } from "./content.ts";
import type { Operation } from "./load.ts";
import type { Options } from "./options.ts";
import {
  asAdministrator,
  type Server,
  startDirect,
  startDistribution,
  startRegistry,
  startWorker,
  startZot,
} from "./servers.ts";

/** The same thing done to any registry by the API, and to a bare Worker that does the least for it. */
export interface Work {
  readonly oci: (content: Content) => Operation;
  readonly bare: (content: Content) => Operation;
}

/** The registry and a bare Worker, each a fresh process on a copy of one and the same state. */
export interface Pair {
  readonly registry: Server;
  readonly bare: Server;
  readonly content: Content;
}

/** A registry that is measured beside. */
export interface Other {
  readonly name: string;
  readonly url: string;
  readonly content: Content;
}

export interface Row {
  readonly id: string;
  readonly title: string;
}

/** What rows need to be run on: state to copy, and others to compare with. */
export class Stage {
  readonly options: Options;
  readonly content: Content;
  readonly #folder: string;
  readonly #seeded = new Map<string, Promise<Content>>();
  #copies = 0;

  private constructor(options: Options, folder: string, content: Content) {
    this.options = options;
    this.#folder = folder;
    this.content = content;
  }

  static async create(options: Options): Promise<Stage> {
    const folder = await mkdtemp(path.join(tmpdir(), "moorage-bench-"));
    const registry = await startRegistry(path.join(folder, "seed"));
    try {
      return new Stage(options, folder, await seed(registry.url));
    } finally {
      await registry.stop();
    }
  }

  async close(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true });
  }

  async withPair<T>(use: (pair: Pair) => Promise<T>): Promise<T> {
    return this.withRegistry((registry) => this.withBare((bare) => use({ registry, bare, content: this.content })));
  }

  async withRegistry<T>(
    use: (registry: Server) => Promise<T>,
    vars: Readonly<Record<string, string>> = {},
  ): Promise<T> {
    return this.#withCopy((state) => startRegistry(state, vars), use);
  }

  /** Fresh processes, one after the other, on a state that was pushed to: what the pushes left in a process is not in them. */
  async withPushed<T>(
    push: (registry: Server) => Promise<void>,
    starts: readonly ((state: string) => Promise<Server>)[],
    use: (registry: Server) => Promise<T>,
  ): Promise<readonly T[]> {
    const state = await this.#copy();
    const during = async <R>(
      start: (state: string) => Promise<Server>,
      work: (server: Server) => Promise<R>,
    ): Promise<R> => {
      const server = await start(state);
      try {
        return await work(server);
      } finally {
        await server.stop();
      }
    };
    try {
      await during(startRegistry, push);
      const results: T[] = [];
      for (const start of starts) results.push(await during(start, use));
      return results;
    } finally {
      await rm(state, { recursive: true, force: true });
    }
  }

  async withBare<T>(use: (bare: Server) => Promise<T>): Promise<T> {
    return this.#withCopy((state) => startWorker("bare/worker.ts", state), use);
  }

  async withCounting<T>(use: (counting: Server) => Promise<T>): Promise<T> {
    return this.#withCopy(async (state) => asAdministrator(await startWorker("counting-worker.ts", state)), use);
  }

  /** CNCF distribution with the same content, pushed to it; null where its binary is not there. */
  async withDistribution<T>(use: (distribution: Other | null) => Promise<T>): Promise<T> {
    const binary = this.options.distribution;
    if (binary === null) return use(null);
    const state = this.#newFolder();
    const server = await startDistribution(binary, state);
    try {
      return await use({ name: "distribution", url: server.url, content: await seed(server.url) });
    } finally {
      await server.stop();
      await rm(state, { recursive: true, force: true });
    }
  }

  async withDirect<T>(use: (direct: Server) => Promise<T>, vars: Readonly<Record<string, string>>): Promise<T> {
    return this.#withCopy((state) => startDirect(state, vars), use);
  }

  /** zot with the same content, pushed to it; null where its binary is not there. */
  async withZot<T>(use: (zot: Other | null) => Promise<T>): Promise<T> {
    const binary = this.options.zot;
    if (binary === null) return use(null);
    const state = this.#newFolder();
    const server = await startZot(binary, state);
    try {
      return await use({ name: "zot", url: server.url, content: await seed(server.url) });
    } finally {
      await server.stop();
      await rm(state, { recursive: true, force: true });
    }
  }

  /** The registries of `--url`, with the same content pushed to each once. */
  async others(): Promise<readonly Other[]> {
    return Promise.all(this.options.others.map(async ({ name, url }) => this.seeded(name, url)));
  }

  async seeded(name: string, url: string): Promise<Other> {
    const content = this.#seeded.get(url) ?? seed(url);
    this.#seeded.set(url, content);
    return { name, url, content: await content };
  }

  async #withCopy<T>(start: (state: string) => Promise<Server>, use: (server: Server) => Promise<T>): Promise<T> {
    const state = await this.#copy();
    const server = await start(state);
    try {
      return await use(server);
    } finally {
      await server.stop();
      await rm(state, { recursive: true, force: true });
    }
  }

  async #copy(): Promise<string> {
    const state = this.#newFolder();
    await cp(path.join(this.#folder, "seed"), state, { recursive: true });
    return state;
  }

  #newFolder(): string {
    this.#copies++;
    return path.join(this.#folder, String(this.#copies));
  }
}
