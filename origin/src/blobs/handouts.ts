import type { Digest } from '@sepia/base/digest';
import { LatestMap } from '@sepia/base/latest-map';

/** Blobs whose handouts are remembered; the oldest are forgotten first. */
const MAX_BLOBS = 512;

/** One piece as this origin vouches for it, or another origin that has it. */
export type VouchedPiece =
  | {
      readonly type: 'local';
      readonly attempt: string;
      readonly hash: Uint8Array;
      /** Undefined when another asker was given it: the swarm has it. */
      readonly bytes: Uint8Array | undefined;
    }
  | { readonly type: 'remote'; readonly id: string };

/** Which pieces of blobs on their way were handed out once past the swarm: whoever asks next finds them there. */
export class Handouts {
  readonly #given = new LatestMap<Digest, { readonly attempt: string; readonly pieces: Set<number> }>(
    MAX_BLOBS,
  );

  /** True for the first that asks for this piece of this attempt. */
  give(digest: Digest, attempt: string, piece: number): boolean {
    let entry = this.#given.get(digest);
    if (entry?.attempt !== attempt) {
      entry = { attempt, pieces: new Set() };
      this.#given.set(digest, entry);
    }
    if (entry.pieces.has(piece)) return false;
    entry.pieces.add(piece);
    return true;
  }
}
