import { createHash } from 'node:crypto';
import { inflateMembers, type ReadAt } from '../pack/inflate.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { invalid } from './format.ts';
import { MAX_BOOTSTRAP_BYTES, mostBootstrapBytes } from './read-bootstrap.ts';

/** What was read of the layer with the bootstrap of an image. */
export interface ReadBootstrapLayer {
  /** `sha256:…` of the uncompressed layer. */
  readonly diffId: string;
  /** The wanted files by name; of two with one name the first. */
  readonly files: ReadonlyMap<string, Buffer>;
}

/** Bounds of what is read, in bytes. */
export interface BootstrapLayerLimits {
  /** Of the wanted files together; fewer of a layer that is short itself. */
  readonly keptBytes: number;
  /** Of the uncompressed layer. */
  readonly rawBytes: number;
}

const LIMITS: BootstrapLayerLimits = {
  keptBytes: MAX_BOOTSTRAP_BYTES,
  rawBytes: 2 * MAX_BOOTSTRAP_BYTES,
};

/**
 * Reads the gzip layer with a bootstrap from its start to its end. Memory: the wanted files, and a part of a member.
 * @throws {CodedError} `LAYER_INVALID`, also where it is over a limit; what `read` throws
 */
export async function readBootstrapLayer(
  layer: { readonly sizeBytes: number; readonly read: ReadAt },
  isWanted: (name: string) => boolean,
  limits = LIMITS,
): Promise<ReadBootstrapLayer> {
  const mostKept = Math.min(limits.keptBytes, mostBootstrapBytes(layer.sizeBytes));
  const hash = createHash('sha256');
  const files = new Map<string, Buffer>();
  let [raw, kept] = [0, 0];
  let taking: { readonly file: Buffer; at: number } | undefined;
  const reader = new TarReader({
    entry: ({ name, type, size }) => {
      taking = undefined;
      if (type !== 'file' || files.has(name) || !isWanted(name)) return;
      kept += size;
      if (kept > mostKept) throw invalid(`its bootstrap layer has more than ${mostKept} bytes of tables`);
      taking = { file: Buffer.alloc(size), at: 0 };
      files.set(name, taking.file);
    },
    payload: (bytes) => {
      if (taking === undefined) return;
      taking.file.set(bytes, taking.at);
      taking.at += bytes.length;
    },
  });
  await inflateMembers(layer.read, 0, layer.sizeBytes, (bytes) => {
    raw += bytes.length;
    if (raw > limits.rawBytes) throw invalid(`its bootstrap layer is longer than ${limits.rawBytes} bytes`);
    hash.update(bytes);
    reader.push(bytes);
  });
  reader.end();
  return { diffId: `sha256:${hash.digest('hex')}`, files };
}
