import { readFileSync } from 'node:fs';
import { isBaseUrl, withoutAccount } from '@sepia/base/config/units';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { createDispatcher } from '@sepia/http/sockets';
import type { Command } from 'commander';
import { HarborApi } from '../harbor/api.ts';
import { type ConnectPlan, connect, type Driver, type DriverAuth } from '../harbor/connect.ts';
import { connectRobot, type RobotPlan, robotHint } from '../harbor/robot.ts';
import { verifyProxy } from '../harbor/verify.ts';

const PASSWORD_ENV = 'SEPIA_HARBOR_PASSWORD';
const DRIVERS: readonly Driver[] = ['dragonfly', 'kraken'];
const SCOPES = ['single_seed_peer', 'all_seed_peers', 'all_peers'];

interface Flags {
  readonly proxy: string;
  readonly projects: string[];
  readonly user: string;
  readonly passwordFile?: string;
  readonly name: string;
  readonly drivers: string[];
  readonly scope: string;
  readonly driverUser?: string;
  readonly driverHeader?: string;
  readonly driverSecretFile?: string;
  readonly webhookSecretFile?: string;
  readonly registryUser?: string;
  readonly registryPasswordFile?: string;
  readonly replicate: boolean;
  readonly accelerate: boolean;
  readonly robotSecretFile?: string;
  readonly insecure: boolean;
  readonly ca?: string;
  readonly dryRun: boolean;
}

/** `sepia harbor`. */
export function addHarbor(program: Command): void {
  program
    .command('harbor')
    .description('set Harbor up to work with this cluster')
    .command('connect <harbor-url>')
    .description(
      'make preheat instances and policies, webhooks and a replication endpoint in Harbor, or bring them up to date',
    )
    .requiredOption('--proxy <url>', 'a proxy (or balancer) as Harbor reaches it, with http:// or https://')
    .requiredOption('--projects <names...>', 'projects of Harbor')
    .option('--user <name>', 'user or robot of Harbor', 'admin')
    .option('--password-file <file>', `file with its password (default: the environment's ${PASSWORD_ENV})`)
    .option('--name <name>', 'name of what is made', 'sepia')
    .option('--drivers <names...>', 'preheat drivers; policies use the first', ['dragonfly'])
    .option('--scope <scope>', `scope of the Dragonfly policy: ${SCOPES.join(', ')}`, 'single_seed_peer')
    .option('--driver-user <name>', "user of the drivers, for the proxies' driver-auth mode basic")
    .option('--driver-header <name>', 'header of the drivers, for mode custom; with neither: mode bearer')
    .option(
      '--driver-secret-file <file>',
      'file with their secret (without: mode none, which the proxies must allow)',
    )
    .option('--webhook-secret-file <file>', "file with the webhooks' Authorization (without: no webhooks)")
    .option('--registry-user <name>', 'user at the proxies, for replication')
    .option('--registry-password-file <file>', 'file with its password')
    .option('--replicate', 'push what the projects get to the proxy (an upstream of mode none)', false)
    .option(
      '--accelerate',
      'make a robot that accelerators write results with, and check its rights; needs webhooks',
      false,
    )
    .option('--robot-secret-file <file>', 'file that the secret of this robot is kept in')
    .option('--insecure', "check nobody's certificate: ours of Harbor, Harbor's of the proxy", false)
    .option('--ca <file>', 'PEM file of certificates trusted for Harbor')
    .option('--dry-run', 'only tell what would be done', false)
    .action(async (url: string, flags: Flags) => {
      const plan = planOf(flags);
      const robot = robotOf(flags);
      const harbor = baseOf(url, 'harbor-url');
      if (harbor === plan.proxy)
        throw invalid(
          `--proxy: ${plan.proxy} is the Harbor itself; give a proxy of Sepia as Harbor reaches it`,
        );
      const password = passwordOf(flags);
      const ca = flags.ca === undefined ? {} : { ca: readText(flags.ca, '--ca') };
      const dispatcher = createDispatcher({ insecure: flags.insecure, ...ca });
      const tell = (line: string): void => void process.stdout.write(`${line}\n`);
      const api = new HarborApi(
        { dispatcher },
        { url: harbor, username: flags.user, password, dryRun: flags.dryRun, tell },
      );
      try {
        // Before anything is made: what the proxy refuses is to stand in no Harbor.
        const unseen = await verifyProxy(dispatcher, plan);
        await connect(api, plan);
        const robotName = robot === undefined ? undefined : await connectRobot(api, dispatcher, robot);
        if (robotName !== undefined) tell(robotHint('NAME', robotName, robot!.secretFile));
        const what = flags.dryRun
          ? 'nothing was changed (--dry-run)'
          : `${harbor} is connected to ${plan.proxy}`;
        tell(
          unseen === undefined
            ? what
            : `${what}; whether the proxy takes its secrets could not be seen from here: ${unseen}`,
        );
      } finally {
        await dispatcher.destroy();
      }
    });
}

function planOf(flags: Flags): ConnectPlan {
  const { name, projects, insecure, replicate, scope } = flags;
  const drivers = flags.drivers.map((one) => {
    const known = DRIVERS.find((driver) => driver === one);
    if (known === undefined) throw invalid(`--drivers: "${one}" is not one of ${DRIVERS.join(', ')}`);
    return known;
  });
  if (!SCOPES.includes(scope)) throw invalid(`--scope: "${scope}" is not one of ${SCOPES.join(', ')}`);
  if (!/^[a-z0-9]+(?:[._-][a-z0-9]+)*$/.test(name))
    throw invalid(`--name: "${name}" is not a name that Harbor takes: lower-case letters, digits, . _ -`);
  if ((flags.registryUser === undefined) !== (flags.registryPasswordFile === undefined))
    throw invalid('--registry-user and --registry-password-file go together');
  return {
    name,
    projects,
    drivers,
    scope,
    insecure,
    replicate,
    proxy: baseOf(flags.proxy, '--proxy'),
    driverAuth: driverAuthOf(flags),
    webhookHeader:
      flags.webhookSecretFile === undefined
        ? undefined
        : readText(flags.webhookSecretFile, '--webhook-secret-file'),
    registry:
      flags.registryUser === undefined
        ? undefined
        : {
            username: flags.registryUser,
            password: readText(flags.registryPasswordFile!, '--registry-password-file'),
          },
  };
}

/** Without webhooks nobody would tell accelerators of a push. */
function robotOf({
  accelerate,
  robotSecretFile,
  webhookSecretFile,
  name,
  projects,
}: Flags): RobotPlan | undefined {
  if (accelerate !== (robotSecretFile !== undefined))
    throw invalid('--accelerate and --robot-secret-file go together');
  if (robotSecretFile === undefined) return undefined;
  if (webhookSecretFile === undefined) throw invalid('--accelerate needs --webhook-secret-file');
  return { name: `${name}-accelerator`, projects, secretFile: robotSecretFile };
}

function driverAuthOf({ driverUser, driverHeader, driverSecretFile }: Flags): DriverAuth {
  if (driverSecretFile === undefined) {
    if (driverUser !== undefined || driverHeader !== undefined)
      throw invalid('--driver-user and --driver-header need --driver-secret-file');
    return { mode: 'NONE', info: {} };
  }
  const secret = readText(driverSecretFile, '--driver-secret-file');
  if (driverUser !== undefined) return { mode: 'BASIC', info: { [driverUser]: secret } };
  if (driverHeader !== undefined) return { mode: 'CUSTOM', info: { [driverHeader]: secret } };
  return { mode: 'OAUTH', info: { token: secret } };
}

/** Harbor adds `http://` to an endpoint without scheme in its health check alone: every preheat then fails. */
function baseOf(text: string, option: string): string {
  if (!isBaseUrl(text))
    throw invalid(
      `${option}: "${withoutAccount(text)}" must begin with http:// or https:// and have no path, e.g. https://sepia.example.com:17300`,
    );
  return new URL(text).origin;
}

function passwordOf({ passwordFile }: Flags): string {
  if (passwordFile !== undefined) return readText(passwordFile, '--password-file');
  const text = process.env[PASSWORD_ENV] ?? '';
  if (text === '')
    throw invalid(`the password of Harbor is missing: --password-file FILE or ${PASSWORD_ENV}`);
  return text;
}

function readText(file: string, option: string): string {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throwIfBug(cause);
    throw invalid(`${option}: ${file} cannot be read (${systemCode(cause)})`, cause);
  }
  if (text === '') throw invalid(`${option}: ${file} is empty`);
  return text;
}

function invalid(message: string, cause?: unknown): CodedError {
  return new CodedError('CONFIG_INVALID', { message, cause });
}
