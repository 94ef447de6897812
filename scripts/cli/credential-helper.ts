/**
 * Programs named docker-credential-<name>, which keep logins for docker's clients in the system's keychain. The protocol
 * is that of github.com/docker/docker-credential-helpers: a verb as argument, input on stdin, and what went wrong on
 * stdout beside an exit code that is not 0.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { z } from "zod";
import { isSystemError } from "../state-folder.ts";
import { Refusal } from "./refusal.ts";

export interface KeptSecret {
  /** `<token>` where the secret is an identity token */
  readonly user: string;
  readonly secret: string;
}

const answerSchema = z.object({ Username: z.string(), Secret: z.string() });

/** What helpers say of a server that they have nothing of. */
const notFound = "credentials not found in native keychain";

export class CredentialHelper {
  readonly program: string;

  /**
   * @param name what follows docker-credential-
   * @throws Refusal for one that would lead elsewhere than along PATH
   */
  constructor(name: string) {
    if (!/^[\w.-]+$/.test(name)) throw new Refusal(`docker's config.json names a credential helper "${name}"`);
    this.program = `docker-credential-${name}`;
  }

  /** @throws Refusal */
  async get(server: string): Promise<KeptSecret | null> {
    const { code, output } = await this.#run("get", server);
    if (code !== 0 && output === notFound) return null;
    if (code !== 0) throw this.#failure("get", output);
    const answer = answerSchema.safeParse(parseJson(output));
    // Not what it said: that may have the secret in it.
    if (!answer.success) throw new Refusal(`${this.program} get answers in a form that it should not`);
    return { user: answer.data.Username, secret: answer.data.Secret };
  }

  /** @throws Refusal, without the secret in it */
  async store(server: string, { user, secret }: KeptSecret): Promise<void> {
    const input = JSON.stringify({ ServerURL: server, Username: user, Secret: secret });
    const { code, output } = await this.#run("store", input);
    if (code !== 0) throw this.#failure("store", output.replaceAll(secret, "…"));
  }

  /** Also where there is nothing to erase. @throws Refusal */
  async erase(server: string): Promise<void> {
    const { code, output } = await this.#run("erase", server);
    if (code !== 0 && output !== notFound) throw this.#failure("erase", output);
  }

  async #run(verb: string, input: string): Promise<{ readonly code: number | null; readonly output: string }> {
    // Its own questions, as for the keychain's passphrase, are the user's to see.
    const child = spawn(this.program, [verb], { stdio: ["pipe", "pipe", "inherit"] });
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    try {
      const [output] = await Promise.all([text(child.stdout), once(child, "close")]);
      return { code: child.exitCode, output: output.trim() };
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new Refusal(`docker's config.json names ${this.program}, which can't be run: ${error.message}`, {
        cause: error,
      });
    }
  }

  #failure(verb: string, output: string): Refusal {
    return new Refusal(`${this.program} ${verb} failed: ${output === "" ? "it does not say why" : output}`);
  }
}

function parseJson(output: string): unknown {
  try {
    return JSON.parse(output);
  } catch {
    return undefined;
  }
}
