import { createHash, type Hash } from 'node:crypto';
import { CodedError } from './errors.ts';

/** `sha256:<64 lower-case hex>` or `sha512:<128 lower-case hex>` (OCI image-spec, "Digests"). */
export type Digest = `${DigestAlgorithm}:${string}` & { readonly __brand: 'Digest' };
/**
 * What contents are named by here (OCI image-spec, "Registered algorithms"); any other is refused with
 * `DIGEST_SYNTAX`.
 */
export type DigestAlgorithm = 'sha256' | 'sha512';

const DIGEST = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** True for a digest of the two algorithms, in the one form that is taken: lower-case hex of the right length. */
export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** True for a digest as image-spec writes it, of an algorithm that no content here is named by. */
export function isOtherDigest(text: string): boolean {
  const found = /^([a-z0-9]+(?:[+._-][a-z0-9]+)*):[a-zA-Z0-9=_-]{1,512}$/.exec(text);
  return found !== null && found[1] !== 'sha256' && found[1] !== 'sha512';
}

/** A text as the digest that it is, unchanged. @throws {CodedError} `DIGEST_SYNTAX`, with its first 200 characters as `found` */
export function parseDigest(text: string): Digest {
  if (!isDigest(text)) throw new CodedError('DIGEST_SYNTAX', { detail: { found: text.slice(0, 200) } });
  return text;
}

/** The algorithm that a digest names. */
export function digestAlgorithm(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512';
}

/** The hex part of a digest: 64 or 128 characters. */
export function digestHex(digest: Digest): string {
  return digest.slice(7);
}

/** The digest of bytes that are in memory; of a stream, use `Digester`. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as Digest;
}

/**
 * A running digest over bytes that are given in order, in parts of any length; for what is not in memory as a whole. SHA-256
 * unless said.
 */
export class Digester {
  readonly algorithm: DigestAlgorithm;
  readonly #hash: Hash;

  constructor(algorithm: DigestAlgorithm = 'sha256') {
    this.algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    return this;
  }

  /** Ends the running digest; may be called once. */
  digest(): Digest {
    return `${this.algorithm}:${this.#hash.digest('hex')}` as Digest;
  }
}
