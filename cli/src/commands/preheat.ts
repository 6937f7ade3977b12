import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { createDispatcher } from '@sepia/http/sockets';
import type { Command } from 'commander';
import { LOOK_EVERY_MS } from '../deadlines.ts';
import { PreheatClient, type PreheatJob } from '../harbor/preheat-client.ts';
import { PreheatView } from '../harbor/preheat-view.ts';
import { urlOption } from '../options/option-values.ts';
import { isThisMachine, parseImageReference } from '../registry/image-reference.ts';
import { DEFAULT_PORTS_FROM, HOST } from '../up/plan.ts';

const DEFAULT_PROXY = `http://${HOST}:${DEFAULT_PORTS_FROM + 300}`;
const SCOPES = { origins: 'single_seed_peer', copies: 'all_seed_peers', nodes: 'all_peers' } as const;
/** Answers that fail in a row before it is given up; the next may come from another proxy behind the address. */
const MAX_SILENCE = 20;

interface Flags {
  readonly scope: string;
  readonly proxy?: string;
  readonly headerFile?: string;
}

/** `sepia preheat`. */
export function addPreheat(program: Command): void {
  program
    .command('preheat <ref>')
    .description('bring an image to origins or nodes before it is needed; exit 1 if that fails anywhere')
    .option(
      '--scope <scope>',
      'origins: one owning origin of each blob; copies: all its owners; nodes: every node as well',
      'nodes',
    )
    .option(
      '--proxy <url>',
      `a proxy of the cluster (default: the reference's own host if it is this machine's, else ${DEFAULT_PROXY})`,
      urlOption('--proxy'),
    )
    .option('--header-file <file>', 'file with "Name: value" for proxies that ask drivers for credentials')
    .action(async (ref: string, flags: Flags) => {
      const { host: named, repository, reference } = parseImageReference(ref);
      const isHere = named !== undefined && isThisMachine(named);
      const host = isHere ? undefined : named;
      const proxy = flags.proxy ?? (isHere ? `http://${named}` : DEFAULT_PROXY);
      const scope = Object.entries(SCOPES).find(([name]) => name === flags.scope)?.[1];
      if (scope === undefined)
        throw new CodedError('CONFIG_INVALID', {
          message: `--scope: "${flags.scope}" is not one of ${Object.keys(SCOPES).join(', ')}`,
        });
      const path = `/v2/${repository}/manifests/${reference}`;
      const client = new PreheatClient({ dispatcher: createDispatcher() }, proxy, headerOf(flags));
      const job = await preheat(client, host === undefined ? path : `http://${host}${path}`, scope);
      if (job.state !== 'SUCCESS') process.exitCode = 1;
    });
}

async function preheat(client: PreheatClient, url: string, scope: string): Promise<PreheatJob> {
  const view = new PreheatView(process.stdout);
  let job = await client.create(url, scope);
  for (let silent = 0; job.state === 'PENDING'; ) {
    await delay(LOOK_EVERY_MS);
    try {
      job = await client.get(job.id);
      silent = 0;
    } catch (error) {
      throwIfBug(error);
      silent += 1;
      if (silent >= MAX_SILENCE) throw error;
    }
    view.show(job);
  }
  view.end(job);
  return job;
}

function headerOf({ headerFile }: Flags): Readonly<Record<string, string>> {
  if (headerFile === undefined) return {};
  let text: string;
  try {
    text = readFileSync(headerFile, 'utf8').trim();
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `--header-file: ${headerFile} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
  const [, name, value] = /^([A-Za-z0-9-]+):\s*(\S.*)$/.exec(text) ?? [];
  if (name === undefined || value === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `--header-file: ${headerFile} must hold one line "Name: value"`,
    });
  return { [name]: value };
}
