import { existsSync, mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import type { Command } from 'commander';
import { indexInCluster, layersInCluster, layerText } from '../../lazy/cluster-layers.ts';
import { indexImage } from '../../lazy/index-image.ts';
import { indexFile, saveIndex } from '../../lazy/layer-file.ts';
import { Operator, type OperatorFlags, type OperatorName, operatorOptions } from '../../operator/operator.ts';
import { urlOption, wholeNumber } from '../../options/option-values.ts';
import { commandClient } from '../../registry/command-client.ts';
import { addCredentialOptions, type CredentialFlags } from '../../registry/credentials.ts';
import { parseImageReference } from '../../registry/image-reference.ts';
import { sourceOf } from '../../registry/pull-source.ts';
import { bytesText, durationText } from '../../terminal/format.ts';
import { DEFAULT_AGENT } from '../../up/plan.ts';

const MIB = 1024 * 1024;
/** A span is held in memory whole, and may grow beyond this by one compressed block. */
const MAX_SPAN_MIB = 8;

export interface IndexFlags extends CredentialFlags, OperatorFlags {
  readonly out?: string;
  readonly agent?: string;
  readonly spanMib: number;
}

/** `sepia lazy index`. */
export function addIndex(lazy: Command): void {
  const command = lazy
    .command('index <file-or-ref>')
    .description(
      'have an accelerator index the layers of an image, for the whole cluster; or make the index of a layer blob in a file',
    )
    .option(
      '--out <path>',
      'file to write (default: <file>.lazy); of an image: make the indexes here, into this folder, instead',
    )
    .option(
      '--agent <url>',
      `with --out: registry endpoint to pull an image from (default: ${DEFAULT_AGENT})`,
      urlOption('--agent'),
    )
    .option(
      '--span-mib <n>',
      'uncompressed MiB that are read and verified at once',
      wholeNumber('--span-mib', 1, MAX_SPAN_MIB),
      1,
    );
  operatorOptions(addCredentialOptions(command)).action(
    async (what: string, flags: IndexFlags) => await makeIndex(what, flags),
  );
}

/** Indexes what is named: a file is a layer; anything else is a reference. */
export async function makeIndex(what: string, flags: IndexFlags): Promise<void> {
  const spanBytes = flags.spanMib * MIB;
  if (!existsSync(what) && !/^[./]/.test(what)) {
    if (flags.out === undefined) {
      refuseIdle(flags);
      await indexByCluster(what, flags);
    } else await indexReference(what, flags, spanBytes);
    return;
  }
  const startedMs = performance.now();
  const made = await indexFile(what, { spanBytes });
  const out = flags.out ?? `${what}.lazy`;
  await saveIndex(out, made.bytes);
  process.stdout.write(
    `${out}: index of ${made.layer}, ${bytesText(made.bytes.length)}, in ${durationText(performance.now() - startedMs)}\n`,
  );
}

/** An account that would not be used is refused, not ignored. */
function refuseIdle(flags: IndexFlags): void {
  const idle =
    flags.user !== undefined ? '--user' : flags.passwordFile !== undefined ? '--password-file' : undefined;
  if (idle === undefined) return;
  throw new CodedError('CONFIG_INVALID', {
    message: `${idle}: counts with --out only; without it an accelerator reads the image, with the account of its config`,
  });
}

/** Has an accelerator index an image; prints how each layer stands then. */
async function indexByCluster(ref: string, flags: OperatorFlags): Promise<void> {
  await using operator = Operator.open(flags);
  const name = operator.nameOf(ref);
  const { result } = await indexInCluster(operator, name, (text) => void process.stderr.write(`${text}\n`));
  if (result?.isSourceGone === true)
    throw new CodedError('MANIFEST_UNKNOWN', {
      message: `${ref} is unknown: ${name.upstream} has no ${name.repository} with ${name.reference}`,
    });
  process.stdout.write(
    `${ref}: ${result?.outcome}${result?.reason === undefined ? '' : `: ${result.reason}`}\n`,
  );
  if (result?.outcome !== 'skipped') await showImage(operator, name, false);
}

/** One line for each layer of an image, or JSON. */
export async function showImage(operator: Operator, name: OperatorName, json: boolean): Promise<void> {
  const layers = await layersInCluster(operator, name);
  if (json) process.stdout.write(`${JSON.stringify(layers, null, 2)}\n`);
  else for (const layer of layers) process.stdout.write(`${layerText(layer)}\n`);
}

/** Indexes an image here; what is printed is the part of a snapshotter's config that shows it. */
async function indexReference(ref: string, flags: IndexFlags, spanBytes: number): Promise<void> {
  const image = parseImageReference(ref);
  const source = sourceOf(image, flags.agent);
  const host = source.ns ?? new URL(source.url).host;
  const hint = 'is a cluster running? name another agent with --agent URL';
  const client = commandClient({ ...source, isMember: true, hint }, flags);
  const dir = resolve(flags.out ?? '.');
  mkdirSync(dir, { recursive: true });
  const lines: string[] = [];
  await indexImage(client, image, {
    ...{ spanBytes, dir },
    onLayer: ({ file }) => void lines.push(`  - { index: ${file}, image: ${host}/${image.repository} }\n`),
  });
  process.stdout.write(`layers:\n${lines.join('')}`);
}
