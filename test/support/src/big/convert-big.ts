import { closeSync, openSync, readFileSync, readSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { ConvertFormat } from '@sepia/lazy/convert/layer-job';
import { openEstargz } from '@sepia/lazy/estargz/open';
import type { ReadAt } from '@sepia/lazy/pack/inflate';
import { bootstrapIn } from '@sepia/lazy/rafs/bootstrap-layer';
import { readBootstrap } from '@sepia/lazy/rafs/read-bootstrap';
import { openZstdChunked } from '@sepia/lazy/zstdchunked/open';
import type { BigFile } from './big-image.ts';
import { type LimitedRun, MemoryGroup } from './memory-group.ts';

const SEPIA = join(import.meta.dirname, '../../../../sepia');

/** A conversion of a big image in little memory. */
export interface BigConversion {
  /** A layout of one image, see `writeBigImage`, and its files. */
  readonly source: string;
  readonly files: ReadonlyMap<string, BigFile>;
  /** An empty folder on a disk that has room for the layer twice. */
  readonly dir: string;
  readonly format: ConvertFormat;
  readonly level: number;
  readonly limitBytes: number;
  /** Memory of the verification; left out: `limitBytes`. */
  readonly verifyBytes?: number;
  /** Of each of conversion and verification. */
  readonly limitMs: number;
}

export interface BigResult {
  readonly kind: MemoryGroup['kind'];
  readonly convert: LimitedRun;
  /** `sepia lazy verify`; undefined where the conversion failed. */
  readonly verify: LimitedRun | undefined;
  readonly layerBytes: number;
  /** Files whose digests in the result are not those of what was written; empty: all is right. */
  readonly wrong: readonly string[];
}

/**
 * Runs `sepia convert` and `sepia lazy verify` in a cgroup of so much memory, and compares the digests in the result with
 * those of the files that were written. @returns why not, where no cgroup can be made
 */
export async function convertBig(job: BigConversion): Promise<BigResult | string> {
  const target = join(job.dir, 'result');
  const work = ['--work-dir', join(job.dir, 'work')];
  const how = ['--to', job.format, '--level', String(job.level), '--json', ...work];
  try {
    const convert = await limited(job, job.limitBytes, ['convert', job.source, target, ...how]);
    if (typeof convert === 'string') return convert;
    const { kind, run } = convert;
    if (run.code !== 0) return { kind, convert: run, verify: undefined, layerBytes: 0, wrong: [run.stderr] };
    const verify = await limited(job, job.verifyBytes ?? job.limitBytes, ['lazy', 'verify', target, ...work]);
    if (typeof verify === 'string') return verify;
    const layers = layersOf(target);
    const wrong = await wrongFiles(target, layers, job);
    return { kind, convert: run, verify: verify.run, layerBytes: layers[0]!.size, wrong };
  } finally {
    for (const name of ['result', 'work']) rmSync(join(job.dir, name), { recursive: true, force: true });
  }
}

/** Runs `sepia` in a cgroup of its own. */
async function limited(
  { format, limitMs }: Pick<BigConversion, 'format' | 'limitMs'>,
  limitBytes: number,
  args: readonly string[],
): Promise<{ kind: MemoryGroup['kind']; run: LimitedRun } | string> {
  const group = MemoryGroup.create(`sepia-${format}`, limitBytes);
  if (typeof group === 'string') return group;
  try {
    // As from a shell: not with what the launcher of this process gave to it.
    const run = await group.run([SEPIA, ...args], { UV_THREADPOOL_SIZE: undefined }, limitMs);
    return { kind: group.kind, run };
  } finally {
    group.remove();
  }
}

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

function layersOf(layout: string): readonly Descriptor[] {
  const { manifests } = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8')) as {
    manifests: readonly Descriptor[];
  };
  const manifest = JSON.parse(readFileSync(blobPath(layout, manifests[0]!), 'utf8')) as {
    layers: readonly Descriptor[];
  };
  return manifest.layers;
}

function blobPath(layout: string, { digest }: Descriptor): string {
  return join(layout, 'blobs', digest.replace(':', '/'));
}

/** Names of files whose digests differ; and those that are in one side only. */
async function wrongFiles(
  layout: string,
  layers: readonly Descriptor[],
  { format, files }: Pick<BigConversion, 'format' | 'files'>,
): Promise<string[]> {
  const found = format === 'nydus' ? piecesIn(layout, layers) : await digestsIn(layout, layers[0]!, format);
  const wrong = [...files]
    .filter(([name, { digest, pieces }]) => {
      const told = found.get(name);
      return typeof told === 'string' ? told !== digest : told?.join() !== pieces.join();
    })
    .map(([name]) => name);
  const ours = ['.no.prefetch.landmark'];
  return [...wrong, ...[...found.keys()].filter((name) => !files.has(name) && !ours.includes(name))];
}

async function digestsIn(
  layout: string,
  layer: Descriptor,
  format: ConvertFormat,
): Promise<Map<string, string>> {
  const path = blobPath(layout, layer);
  const file = openSync(path, 'r');
  const read: ReadAt = async (offset, length) => {
    const bytes = Buffer.alloc(length);
    readSync(file, bytes, 0, length, offset);
    return bytes;
  };
  try {
    const blob = { sizeBytes: statSync(path).size, read };
    const { files } = await (format === 'estargz' ? openEstargz(blob) : openZstdChunked(blob));
    const named = files.filter(({ entry }) => entry.type === 'reg');
    return new Map(named.map(({ entry }) => [entry.name, (entry.digest ?? '').slice('sha256:'.length)]));
  } finally {
    closeSync(file);
  }
}

/** Digests of the chunks of each file. */
function piecesIn(layout: string, layers: readonly Descriptor[]): Map<string, string[]> {
  const tar = gunzipSync(readFileSync(blobPath(layout, layers.at(-1)!)));
  const { root, chunks } = readBootstrap(bootstrapIn(tar));
  const found = new Map<string, string[]>();
  const open = [{ path: '', node: root }];
  for (let next = open.pop(); next !== undefined; next = open.pop())
    for (const [name, node] of next.node.children!) {
      const path = `${next.path}${name}`;
      if (node.type === 'directory') open.push({ path: `${path}/`, node });
      else
        found.set(
          path,
          (chunks.get(node) ?? []).map((chunk) => chunk.digest),
        );
    }
  return found;
}
