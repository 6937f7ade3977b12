import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex, isDigest } from '@sepia/base/digest';

/** Where things lie in a data folder of format 1 (`DIR/v1`, see `docs/adr/0003-disk.md`). */
export class Layout {
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  blob(digest: Digest): string {
    return join(this.blobShard(digest), digestHex(digest));
  }

  blobShard(digest: Digest): string {
    return join(this.root, 'blobs', digestAlgorithm(digest), digestHex(digest).slice(0, 2));
  }

  sidecar(digest: Digest): string {
    return join(this.sidecarShard(digest), digestHex(digest));
  }

  sidecarShard(digest: Digest): string {
    return join(this.root, 'meta', digestAlgorithm(digest), digestHex(digest).slice(0, 2));
  }

  /** Leaf hashes of a blob. */
  leaves(digest: Digest): string {
    return join(this.leavesShard(digest), digestHex(digest));
  }

  leavesShard(digest: Digest): string {
    return join(this.root, 'leaves', digestAlgorithm(digest), digestHex(digest).slice(0, 2));
  }

  get partials(): string {
    return join(this.root, 'partial');
  }

  pieceMap(digest: Digest): string {
    return join(this.partials, `${digest.replace(':', '-')}.map`);
  }

  partialData(dataName: string): string {
    return join(this.partials, dataName);
  }

  /** Leaf hashes of the pieces in a data file under `partial/`. */
  partialLeaves(dataName: string): string {
    return join(this.partials, `${dataName}.leaves`);
  }

  get uploads(): string {
    return join(this.root, 'uploads');
  }
}

/** The digest that a file `name` under `algorithm/` stands for, or undefined for foreign names. */
export function digestOfName(algorithm: string, name: string): Digest | undefined {
  const text = `${algorithm}:${name}`;
  return isDigest(text) ? text : undefined;
}
