import { existsSync } from 'node:fs';
import { CodedError } from '@sepia/base/errors';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import type { LayerIndex } from '@sepia/lazy/index/layer-index';
import { textOf } from '@sepia/lazy/tar/byte-string';
import type { Command } from 'commander';
import { chooseDoor, type DoorChoice } from '../lazy/door.ts';
import { readIndexFile } from '../lazy/layer-file.ts';
import { CONTAINERD_CONFIG, isLazyConfig, probeNode } from '../lazy/node-facts.ts';
import {
  cacheText,
  DEFAULT_SNAPSHOTTER,
  doorText,
  imagesOf,
  imagesText,
  type ServedDoor,
  snapshotterCache,
  snapshotterDoor,
  snapshotterImages,
  snapshotterLayers,
  statusText,
} from '../lazy/snapshotter-status.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';
import { urlOption } from '../options/option-values.ts';
import { printable } from '../terminal/format.ts';
import { addFetch } from './images/lazy-fetch.ts';
import { addIndex, showImage } from './images/lazy-index.ts';
import { addProfile } from './images/lazy-profile.ts';
import { addVerify } from './images/lazy-verify.ts';

/** `sepia lazy`. */
export function addLazy(program: Command): void {
  const lazy = program
    .command('lazy')
    .description('lazy images, whose layers are read before they are downloaded');
  addVerify(lazy);
  addIndex(lazy);
  addFetch(lazy);
  addProfile(lazy);
  lazy
    .command('status [ref]')
    .description(
      'images pulled on this node, and per layer why it is lazy or not; all layers that are shown, the disk for them, and the door',
    )
    .option('--admin <url>', 'admin address of the snapshotter', urlOption('--admin'), DEFAULT_SNAPSHOTTER)
    .option('--config <file>', 'containerd’s config, for what is said of the door', CONTAINERD_CONFIG)
    .option('--json', 'print it as JSON', false)
    .action(async (ref: string | undefined, flags: { admin: string; config: string; json: boolean }) => {
      const [layers, all, cache] = await Promise.all([
        snapshotterLayers(flags.admin),
        snapshotterImages(flags.admin),
        snapshotterCache(flags.admin),
      ]);
      const images = ref === undefined ? all : imagesOf(all, ref);
      const door = ref === undefined ? await doorHere(flags) : undefined;
      if (ref !== undefined && images.length === 0)
        throw new CodedError('REQUEST_INVALID', {
          message: `${ref} is none of the last 1,000 images that were pulled through this node's agent`,
        });
      if (flags.json) process.stdout.write(`${JSON.stringify({ images, layers, cache, door }, null, 2)}\n`);
      else if (door !== undefined)
        process.stdout.write(
          imagesText(images, layers) +
            statusText(layers) +
            cacheText(cache) +
            doorText(door.served, door.choice, door.isSetUp),
        );
      else process.stdout.write(imagesText(images, layers));
    });
  const show = lazy
    .command('show <file-or-ref>')
    .description('show what an index holds, or what the cluster knows of the layers of an image')
    .option('--entries', 'of an index file: list the entries of the layer', false)
    .option('--json', 'print it as JSON', false);
  operatorOptions(show).action(
    async (file: string, flags: OperatorFlags & { entries: boolean; json: boolean }) => {
      if (!existsSync(file) && !/^[./]/.test(file)) {
        if (flags.entries)
          throw new CodedError('CONFIG_INVALID', {
            message: `--entries: the entries of a layer are in its index file; ${file} is no file, so it is taken for an image`,
          });
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

/** The door that the snapshotter serves, and what this node could have, as a probe finds it. */
async function doorHere({ admin, config }: { readonly admin: string; readonly config: string }): Promise<{
  readonly served: ServedDoor | undefined;
  readonly choice: DoorChoice;
  readonly isSetUp: boolean | undefined;
}> {
  const [served, facts] = await Promise.all([snapshotterDoor(admin), probeNode(config)]);
  const isSetUp = facts.config === undefined ? undefined : isLazyConfig(facts.config);
  return { served, choice: chooseDoor(facts), isSetUp };
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
