import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Digest } from '@sepia/base/digest';
import { indexWithImage } from '@sepia/lazy/erofs/image-part';
import type { LayerEntry } from '@sepia/lazy/index/layer-entry';
import { storeWindow, writeIndex } from '@sepia/lazy/index/layer-index';
import { byteStringOf } from '@sepia/lazy/tar/byte-string';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { MIB, median } from './support/figures.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { type BenchContext, runBench } from './support/run.ts';

const BLOCK = 512;
const FOLDER_FILES = 100;
const NO_XATTRS: LayerEntry['xattrs'] = new Map();
const PLAIN = { uid: 0, gid: 0, mtimeNsec: 0, devMajor: 0, devMinor: 0, xattrs: NO_XATTRS };

await runBench({
  id: 'lazy-layers',
  claim: '50 layers of 10,000 files are open within 1 s',
  options: { layers: 50, files: 10_000, rounds: 5 },
  run: async (context) => {
    const [layers, files] = [context.number('layers'), context.number('files')];
    const plain = Array.from({ length: layers }, (_none, layer) => indexOf(layer, files));
    const whole = plain.map((index) => indexWithImage(index));
    const indexes = { withImage: saved(context, 'with', whole), without: saved(context, 'without', plain) };
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const took: Record<'none' | 'withImage' | 'without', number[]> = { none: [], withImage: [], without: [] };
    for (let round = 0; round < context.number('rounds'); round++) {
      took.none.push(await startMs(context, `${round}-none`, []));
      took.withImage.push(await startMs(context, `${round}-with`, indexes.withImage));
      took.without.push(await startMs(context, `${round}-without`, indexes.without));
    }
    const none = median(took.none);
    return {
      startMs: took,
      openedMs: { withImage: median(took.withImage) - none, without: median(took.without) - none },
      indexBytes: { withImage: whole[0]!.length, without: plain[0]!.length },
      ...{ idleBeforePercent: quiet, idlePercent: meter.percent() },
    };
  },
});

/** A daemon that has never seen these layers, from its start until it serves them; by its own log, to the millisecond. */
async function startMs(
  { dir, stops }: BenchContext,
  name: string,
  indexes: readonly string[],
): Promise<number> {
  const own = join(dir, name);
  mkdirSync(own);
  const ends: (() => unknown)[] = [];
  const layers = indexes.map((index) => ({ index, image: 'registry.example/t/x' }));
  const from = Date.now();
  const test = { teardown: (end: () => unknown): void => void ends.push(end) };
  await LazyDaemon.start(test, own, { agent: 'http://127.0.0.1:9', layers });
  const end = async (): Promise<void> => {
    for (const one of ends.splice(0)) await one();
  };
  stops.push('daemon', end);
  const lines = readFileSync(join(own, 'snapshotter/log'), 'utf8').trim().split('\n');
  const ready = lines.map(
    (line) => JSON.parse(line) as { time: string | number; msg: string; layers?: number },
  );
  const { time, layers: shown } = ready.find(({ msg }) => msg === 'snapshotter is ready')!;
  if (shown !== indexes.length) throw new Error(`${shown} of ${indexes.length} layers are open`);
  await end();
  return new Date(time).getTime() - from;
}

function saved({ dir }: BenchContext, name: string, indexes: readonly Buffer[]): string[] {
  return indexes.map((bytes, layer) => {
    const file = join(dir, `${layer}-${name}.lazy`);
    writeFileSync(file, bytes);
    return file;
  });
}

/** The index of a layer of small files in folders of a hundred; sizes and times as mixed as those of real ones. */
function indexOf(layer: number, files: number): Buffer {
  const entries: LayerEntry[] = [];
  let state = layer + 1;
  const next = (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state % below;
  };
  let end = 0;
  for (let number = 0; number < files; number++) {
    const folder = `usr/share/${layer}/folder-${Math.floor(number / FOLDER_FILES)}`;
    const mtimeSec = 1_700_000_000 + next(100_000);
    const common = { ...PLAIN, link: byteStringOf(''), mtimeSec };
    if (number % FOLDER_FILES === 0) {
      entries.push({
        ...common,
        type: 'directory',
        path: byteStringOf(folder),
        mode: 0o755,
        offset: 0,
        size: 0,
      });
      end += BLOCK;
    }
    const size = next(4000);
    const path = byteStringOf(`${folder}/${next(1_000_000)}-file-${number}.txt`);
    entries.push({ ...common, type: 'file', path, mode: 0o644, offset: end + BLOCK, size });
    end += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  const spans = Array.from({ length: Math.ceil(end / MIB) }, (_none, span) => ({
    compressedBit: 80 + span * MIB * 4,
    offset: span * MIB,
    length: MIB,
    sha256: Buffer.alloc(32),
    window: span === 0 ? Buffer.alloc(0) : storeWindow(Buffer.alloc(32_768, span)),
  }));
  const bytes = spans.length * MIB;
  return writeIndex({
    ...{ layer: digestOf(`layer ${layer}`), diffId: digestOf(`diff ${layer}`), compression: 'gzip' },
    ...{ compressedBytes: bytes, uncompressedBytes: bytes, entries, spans },
  });
}

function digestOf(text: string): Digest {
  return `sha256:${createHash('sha256').update(text).digest('hex')}` as Digest;
}
