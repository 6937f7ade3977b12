import { CodedError } from '@sepia/base/errors';
import { layerImage } from '@sepia/lazy/erofs/layer-image';
import type { LayerIndex } from '@sepia/lazy/index/layer-index';
import { textOf } from '@sepia/lazy/tar/byte-string';
import type { Command } from 'commander';
import { indexFile, readIndexFile, saveIndex } from '../lazy/layer-file.ts';
import { bytesText, durationText } from '../terminal/format.ts';
import { wholeNumber } from './option-values.ts';

const MIB = 1024 * 1024;
/** A span is held in memory whole, and may grow beyond this by one compressed block. */
const MAX_SPAN_MIB = 8;

/** `sepia lazy`. */
export function addLazy(program: Command): void {
  const lazy = program.command('lazy').description('layers that are read before they are downloaded');
  lazy
    .command('index <file>')
    .description('make the index of a layer blob (tar, tar+gzip, tar+zstd) in a file')
    .option('--out <file>', 'where to write it (default: <file>.lazy)')
    .option(
      '--span-mib <n>',
      'uncompressed MiB that are read and verified at once',
      wholeNumber('--span-mib'),
      1,
    )
    .action(async (file: string, flags: { out?: string; spanMib: number }) => {
      if (flags.spanMib < 1 || flags.spanMib > MAX_SPAN_MIB)
        throw new CodedError('CONFIG_INVALID', {
          message: `--span-mib: ${flags.spanMib} is not from 1 to ${MAX_SPAN_MIB}`,
        });
      const startedMs = performance.now();
      const made = await indexFile(file, { spanBytes: flags.spanMib * MIB });
      const out = flags.out ?? `${file}.lazy`;
      await saveIndex(out, made.bytes);
      process.stdout.write(
        `${out}: index of ${made.layer}, ${bytesText(made.bytes.length)}, in ${durationText(performance.now() - startedMs)}\n`,
      );
    });
  lazy
    .command('show <file>')
    .description('show what an index holds')
    .option('--entries', 'list the entries of the layer', false)
    .option('--json', 'print it as JSON', false)
    .action(async (file: string, flags: { entries: boolean; json: boolean }) => {
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
    });
}

function factsOf(index: LayerIndex): Record<string, string | number> {
  const image = layerImage(index);
  return {
    layer: index.layer,
    diffId: index.diffId,
    compression: index.compression,
    compressedBytes: index.compressedBytes,
    uncompressedBytes: index.uncompressedBytes,
    entries: index.entries.length,
    spans: index.spans.length,
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
