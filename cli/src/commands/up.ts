import { existsSync } from 'node:fs';
import { ENCRYPTIONS, type Encryption } from '@sepia/base/config/encryption';
import { CodedError } from '@sepia/base/errors';
import { STRANGERS_POLICIES, type StrangersPolicy } from '@sepia/cluster/stranger-policy';
import { type Command, Option } from 'commander';
import { recordsEngineOf, URL_FILE_HELP, wholeNumber } from '../options/option-values.ts';
import type { UpPolicies } from '../up/files.ts';
import { DEFAULT_COUNTS, DEFAULT_PORTS_FROM } from '../up/plan.ts';
import { runUp } from '../up/run-up.ts';
import { parseUpstream, type UpstreamOption, withWriteBack } from '../up/upstream-option.ts';

interface UpFlags {
  readonly data: string;
  readonly origins: number;
  readonly trackers: number;
  readonly proxies: number;
  readonly agents: number;
  readonly accelerators: number;
  readonly upstream: readonly UpstreamOption[];
  readonly writeBack: readonly string[];
  readonly strangers?: StrangersPolicy;
  readonly encryption?: Encryption;
  readonly portsFrom: number;
  readonly lazy: boolean;
  readonly accelerate: boolean;
  readonly restart: boolean;
  readonly preheat: boolean;
  readonly records?: string;
  readonly urlFile?: string;
  readonly acceptLoss: boolean;
  readonly json: boolean;
}

const STRANGERS = new Option(
  '--strangers <policy>',
  'whether standard BitTorrent clients may take part (default: as the cluster document says, else never)',
).choices(STRANGERS_POLICIES);
const ENCRYPTION = new Option(
  '--encryption <policy>',
  'whether members encrypt what they say to each other; on a running cluster step by step, see docs/auth.md (default: as the cluster document says, else off)',
).choices(ENCRYPTIONS);

/** `sepia up`. */
export function addUp(program: Command): void {
  program
    .command('up')
    .description('run a whole cluster on this machine until Ctrl-C')
    .option('--data <folder>', 'folder of its keys, configs, logs and data', './sepia-data')
    .option('--origins <n>', 'origins', wholeNumber('--origins'), DEFAULT_COUNTS.origin)
    .option('--trackers <n>', 'trackers', wholeNumber('--trackers'), DEFAULT_COUNTS.tracker)
    .option('--proxies <n>', 'proxies', wholeNumber('--proxies'), DEFAULT_COUNTS.proxy)
    .option('--agents <n>', 'agents', wholeNumber('--agents'), DEFAULT_COUNTS.agent)
    .option('--accelerators <n>', 'accelerators', wholeNumber('--accelerators'), DEFAULT_COUNTS.accelerator)
    .option(
      '--upstream <name=url,host…>',
      'registry to front, or none for one that takes pushes, with further names it answers to; may be repeated, the first is the default; those of the last start stay (at first, without: local=none)',
      collect,
      [],
    )
    .option(
      '--write-back <name>',
      'let this upstream take pushes too, and bring them to its registry behind; may be repeated',
      (text: string, before: readonly string[]) => [...before, text],
      [],
    )
    .addOption(STRANGERS)
    .addOption(ENCRYPTION)
    .option(
      '--records <engine>',
      'where tags and links are kept: embedded (on the origins), or postgres with --url-file (default: as at the last start, at first embedded)',
    )
    .option('--url-file <file>', `for --records postgres: ${URL_FILE_HELP}`)
    .option(
      '--accept-loss',
      'start although records are missing, or are kept by the other engine, and lose them (at this start only)',
      false,
    )
    .option(
      '--ports-from <port>',
      'first agent port; the ports of the other roles shift along',
      wholeNumber('--ports-from'),
      DEFAULT_PORTS_FROM,
    )
    .option(
      '--lazy',
      'index every image of 10 MiB or more, and show it lazily to the containerd of this machine (root, /dev/fuse)',
      false,
    )
    .option(
      '--accelerate',
      'convert every image that is pushed to eStargz, beside it, within about a minute; takes webhooks with the Authorization of DATA/webhook-authorization. Results of a pull-through upstream are pushed to its registry: that needs an account, credentials.UPSTREAM in DATA/overrides/accelerator.yaml, or its jobs fail',
      false,
    )
    .option('--restart', 'start members again that died', false)
    .option('--preheat', 'let proxies take preheats without credentials (driver-auth mode none)', false)
    .option(
      '--json',
      'print cluster.json on standard output when ready, everything else on standard error',
      false,
    )
    .action(async (flags: UpFlags) => {
      await runUp({
        data: flags.data,
        shape: { counts: countsOf(flags), portsFrom: flags.portsFrom },
        upstreams: withWriteBack(flags.upstream, flags.writeBack),
        restart: flags.restart,
        isLazy: flags.lazy,
        accelerates: flags.accelerate,
        preheat: flags.preheat,
        policies: policiesOf(flags),
        ...recordsOf(flags),
        acceptLoss: flags.acceptLoss,
        json: flags.json,
      });
    });
}

function policiesOf({ strangers, encryption }: UpFlags): UpPolicies {
  return {
    ...(strangers === undefined ? {} : { strangers }),
    ...(encryption === undefined ? {} : { encryption }),
  };
}

/** Members of each role. */
function countsOf(flags: UpFlags) {
  return {
    origin: flags.origins,
    tracker: flags.trackers,
    proxy: flags.proxies,
    agent: flags.agents,
    accelerator: flags.lazy || flags.accelerate ? Math.max(1, flags.accelerators) : flags.accelerators,
    snapshotter: flags.lazy && flags.agents > 0 ? snapshottersHere() : 0,
  };
}

/** One where it can mount; else images are indexed here for nodes that can. */
function snapshottersHere(): number {
  const lack =
    process.getuid?.() !== 0
      ? 'root is needed'
      : existsSync('/dev/fuse')
        ? undefined
        : '/dev/fuse is not there';
  if (lack === undefined) return 1;
  process.stderr.write(`sepia up: --lazy: images are indexed, but none is shown on this machine: ${lack}\n`);
  return 0;
}

/** Nothing where it is to be as at the last start. @throws {CodedError} `CONFIG_INVALID` */
function recordsOf({ records, urlFile }: Pick<UpFlags, 'records' | 'urlFile'>): { records?: string } {
  if (urlFile !== undefined && records !== 'postgres')
    throw new CodedError('CONFIG_INVALID', { message: '--url-file: belongs to --records postgres' });
  return records === undefined ? {} : { records: recordsEngineOf(records, urlFile, '--records') };
}

function collect(text: string, before: readonly UpstreamOption[]): UpstreamOption[] {
  return [...before, parseUpstream(text)];
}
