/**
 * `npm run deploy`: the registry on Cloudflare, by one command. It looks at what the account has, creates what is missing,
 * and leaves alone what is right; every call goes through wrangler.
 *
 * The database is found by its name, by this script and by wrangler alike: wrangler.toml has no id in it that would be
 * another in each account, so nothing is written into the repository, and `npx wrangler deploy` by hand works too.
 */
import { fail, report } from "./console.ts";
import { deploy, planOf } from "./deploy/deployment.ts";
import { parseDeployOptions, usage } from "./deploy/options.ts";
import { StepFailure } from "./deploy/progress.ts";
import { askOf } from "./deploy/question.ts";
import { readResources } from "./deploy/resources.ts";
import { readProject } from "./project.ts";

try {
  await main();
} catch (error) {
  // Its lines say what is done and what is not; the stack is a bug's.
  if (!(error instanceof StepFailure)) fail(error);
  report(error.message);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const options = parseDeployOptions(process.argv.slice(2));
  if (options.help) {
    console.log(usage);
    return;
  }
  // The same judgement as that of the local run: a setting that the Worker would refuse is not deployed.
  readProject(options.configPath, {});
  const resources = readResources(options.configPath);
  if (options.dryRun) await planOf(resources, options, say);
  else
    await deploy(resources, options, {
      say,
      ask: askOf({ input: process.stdin, output: process.stdout }, process.env),
      password: passwordGiven(),
    });
}

function passwordGiven(): string | undefined {
  const { ADMIN_PASSWORD: own, MOORAGE_PASSWORD: same } = process.env;
  return [own, same].find((password) => password !== undefined && password !== "");
}

function say(line: string): void {
  console.log(line);
}
