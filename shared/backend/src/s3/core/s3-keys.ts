import { type Digest, digestAlgorithm, digestHex, isDigest } from '@sepia/base/digest';

/** `sepia`: `PREFIXblobs/<algo>/<ab>/<hex>`. `registry`: as registries keep blobs in their own bucket, Harbor's too. */
export type KeyLayout = 'sepia' | 'registry';

const ROOTS = { sepia: 'blobs/', registry: 'docker/registry/v2/blobs/' } as const;
const ENDS = { sepia: '', registry: '/data' } as const;

/** Where blobs lie in a bucket. */
export class S3Keys {
  /** Begins the key of every blob. */
  readonly root: string;
  /** Begins the keys that name the clusters whose place it is. */
  readonly marks: string;
  readonly #end: string;

  constructor(prefix: string, layout: KeyLayout) {
    this.root = `${prefix}${ROOTS[layout]}`;
    this.marks = `${prefix}clusters/`;
    this.#end = ENDS[layout];
  }

  keyOf(digest: Digest): string {
    const hex = digestHex(digest);
    return `${this.root}${digestAlgorithm(digest)}/${hex.slice(0, 2)}/${hex}${this.#end}`;
  }

  /** The blob of a key, undefined for keys of others. */
  digestOf(key: string): Digest | undefined {
    if (!key.startsWith(this.root) || !key.endsWith(this.#end)) return undefined;
    const [algorithm = '', , hex = ''] = key
      .slice(this.root.length, key.length - this.#end.length)
      .split('/');
    const text = `${algorithm}:${hex}`;
    return isDigest(text) && this.keyOf(text) === key ? text : undefined;
  }
}
