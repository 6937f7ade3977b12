import { existsSync, mkdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { createDispatcher } from '@sepia/http/sockets';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import type { LayerIndex } from '@sepia/lazy/index/layer-index';
import { textOf } from '@sepia/lazy/tar/byte-string';
import type { Command } from 'commander';
import { indexInCluster, layersInCluster, layerText } from '../lazy/cluster-layers.ts';
import { indexImage } from '../lazy/index-image.ts';
import { indexFile, readIndexFile, saveIndex } from '../lazy/layer-file.ts';
import {
  cacheText,
  DEFAULT_SNAPSHOTTER,
  imagesOf,
  imagesText,
  snapshotterCache,
  snapshotterImages,
  snapshotterLayers,
  statusText,
} from '../lazy/snapshotter-status.ts';
import { Operator, type OperatorFlags, type OperatorName, operatorOptions } from '../operator/operator.ts';
import { urlOption, wholeNumber } from '../options/option-values.ts';
import { addCredentialOptions, type CredentialFlags, credentialsFor } from '../registry/credentials.ts';
import { parseImageReference } from '../registry/image-reference.ts';
import { RegistryClient } from '../registry/registry-client.ts';
import { bytesText, durationText } from '../terminal/format.ts';
import { addFetch } from './images/lazy-fetch.ts';
import { addProfile } from './images/lazy-profile.ts';
import { addVerify } from './images/lazy-verify.ts';
import { DEFAULT_AGENT, sourceOf } from './pull.ts';

const MIB = 1024 * 1024;
/** A span is held in memory whole, and may grow beyond this by one compressed block. */
const MAX_SPAN_MIB = 8;

interface IndexFlags extends CredentialFlags, OperatorFlags {
  readonly out?: string;
  readonly agent?: string;
  readonly spanMib: number;
}

/** `sepia lazy index`: a file is a layer; anything else is a reference. */
function addIndex(lazy: Command): void {
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
      wholeNumber('--span-mib'),
      1,
    );
  operatorOptions(addCredentialOptions(command)).action(async (what: string, flags: IndexFlags) => {
    if (flags.spanMib < 1 || flags.spanMib > MAX_SPAN_MIB)
      throw new CodedError('CONFIG_INVALID', {
        message: `--span-mib: ${flags.spanMib} is not from 1 to ${MAX_SPAN_MIB}`,
      });
    const spanBytes = flags.spanMib * MIB;
    if (!existsSync(what) && !/^[./]/.test(what)) {
      if (flags.out === undefined) await indexByCluster(what, flags);
      else await indexReference(what, flags, spanBytes);
      return;
    }
    const startedMs = performance.now();
    const made = await indexFile(what, { spanBytes });
    const out = flags.out ?? `${what}.lazy`;
    await saveIndex(out, made.bytes);
    process.stdout.write(
      `${out}: index of ${made.layer}, ${bytesText(made.bytes.length)}, in ${durationText(performance.now() - startedMs)}\n`,
    );
  });
}

/** Has an accelerator index an image; prints how each layer stands then. */
async function indexByCluster(ref: string, flags: OperatorFlags): Promise<void> {
  await using operator = Operator.open(flags);
  const name = operator.nameOf(ref);
  const { result } = await indexInCluster(operator, name, (text) => void process.stderr.write(`${text}\n`));
  process.stdout.write(
    `${ref}: ${result?.outcome}${result?.reason === undefined ? '' : `: ${result.reason}`}\n`,
  );
  if (result?.outcome !== 'skipped') await showImage(operator, name, false);
}

async function showImage(operator: Operator, name: OperatorName, json: boolean): Promise<void> {
  const layers = await layersInCluster(operator, name);
  if (json) process.stdout.write(`${JSON.stringify(layers, null, 2)}\n`);
  else for (const layer of layers) process.stdout.write(`${layerText(layer)}\n`);
}

/** Indexes an image here; what is printed is the part of a snapshotter's config that shows it. */
async function indexReference(ref: string, flags: IndexFlags, spanBytes: number): Promise<void> {
  const image = parseImageReference(ref);
  const source = sourceOf(image, flags.agent);
  const host = source.ns ?? new URL(source.url).host;
  const credentials = credentialsFor(host, flags, process.env);
  const hint = 'is a cluster running? name another agent with --agent URL';
  const client = new RegistryClient({ dispatcher: createDispatcher() }, { ...source, credentials, hint });
  const dir = resolve(flags.out ?? '.');
  mkdirSync(dir, { recursive: true });
  const lines: string[] = [];
  await indexImage(client, image, {
    ...{ spanBytes, dir },
    onLayer: ({ file }) => void lines.push(`  - { index: ${file}, image: ${host}/${image.repository} }\n`),
  });
  process.stdout.write(`layers:\n${lines.join('')}`);
}

/** `sepia lazy`. */
export function addLazy(program: Command): void {
  const lazy = program.command('lazy').description('layers that are read before they are downloaded');
  addVerify(lazy);
  addIndex(lazy);
  addFetch(lazy);
  addProfile(lazy);
  lazy
    .command('status [ref]')
    .description('images pulled on this node, and per layer why it is lazy or not; all layers that are shown')
    .option('--admin <url>', 'admin address of the snapshotter', urlOption('--admin'), DEFAULT_SNAPSHOTTER)
    .option('--json', 'print it as JSON', false)
    .action(async (ref: string | undefined, flags: { admin: string; json: boolean }) => {
      const [layers, all, cache] = await Promise.all([
        snapshotterLayers(flags.admin),
        snapshotterImages(flags.admin),
        snapshotterCache(flags.admin),
      ]);
      const images = ref === undefined ? all : imagesOf(all, ref);
      if (flags.json) process.stdout.write(`${JSON.stringify({ images, layers, cache }, null, 2)}\n`);
      else if (ref === undefined)
        process.stdout.write(imagesText(images, layers) + statusText(layers) + cacheText(cache));
      else if (images.length > 0) process.stdout.write(imagesText(images, layers));
      else
        throw new CodedError('REQUEST_INVALID', {
          message: `${ref} was not pulled through this node's agent since the snapshotter started`,
        });
    });
  const show = lazy
    .command('show <file-or-ref>')
    .description('show what an index holds, or what the cluster knows of the layers of an image')
    .option('--entries', 'list the entries of the layer', false)
    .option('--json', 'print it as JSON', false);
  operatorOptions(show).action(
    async (file: string, flags: OperatorFlags & { entries: boolean; json: boolean }) => {
      if (!existsSync(file) && !/^[./]/.test(file)) {
        await using operator = Operator.open(flags);
        await showImage(operator, operator.nameOf(file), flags.json);
        return;
      }
      const index = await readIndexFile(file);
      const facts = factsOf(index);
      if (flags.json) {
        const entries = flags.entries ? { entries: index.entries.map(entryFacts) } : {};
        process.stdout.write(`${JSON.stringify({ ...facts, ...entries }, null, 2)}\n`);
        return;
      }
      for (const [name, value] of Object.entries(facts))
        process.stdout.write(`${name.padEnd(20)} ${value}\n`);
      if (flags.entries) for (const entry of index.entries) process.stdout.write(`${entryLine(entry)}\n`);
    },
  );
}

function factsOf(index: LayerIndex): Record<string, string | number> {
  const image = layerImage(index);
  return {
    kind: index.kind,
    layer: index.layer,
    diffId: index.diffId,
    compression: index.compression,
    compressedBytes: index.compressedBytes,
    uncompressedBytes: index.uncompressedBytes,
    entries: index.entries.length,
    spans: index.spans.length,
    dataBlobs: index.sources.length,
    windows: index.spans.filter((span) => span.windowLength > 0).length,
    headBytes: index.headBytes,
    windowBytes: index.indexBytes - index.headBytes,
    imageBytes: image.sizeBytes,
    imageMetaBytes: image.meta.length,
  };
}

function entryFacts(entry: LayerIndex['entries'][number]): object {
  const { type, mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, offset, size } = entry;
  const xattrs = [...entry.xattrs].map(([name, value]) => [
    textOf(name),
    Buffer.from(value).toString('base64'),
  ]);
  return {
    path: textOf(entry.path),
    link: textOf(entry.link),
    ...{ type, mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, offset, size },
    xattrs: Object.fromEntries(xattrs),
  };
}

function entryLine(entry: LayerIndex['entries'][number]): string {
  const link = entry.link === '' ? '' : ` -> ${textOf(entry.link)}`;
  const owner = `${entry.uid}:${entry.gid}`;
  const mode = entry.mode.toString(8).padStart(4, '0');
  return `${entry.type.padEnd(9)} ${mode} ${owner.padEnd(11)} ${String(entry.size).padStart(10)} ${printable(textOf(entry.path))}${printable(link)}`;
}

/** Names come from strangers: control characters would reach the terminal. */
function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, (one) => `\\u${one.codePointAt(0)!.toString(16).padStart(4, '0')}`);
}
